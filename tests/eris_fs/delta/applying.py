"""Deltas applied in memory, in the plainest way: what the encoder's tests compare with."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from hashlib import blake2b

from eris import BlockReader, ReadCapability
from eris.transfer import get_content
from eris_fs.delta.files import TreeFiles
from eris_fs.delta.framing import DeltaHead, HeadReader
from eris_fs.delta.index import WINDOW_LIMIT, parse_delta_index
from eris_fs.delta.model import BaseFile, BaseRange, DeltaTree
from eris_fs.model import EmptyDirectory, PackedFile, Path, Symlink
from eris_fs.outline import HASH_SIZE, ListingHash, Outline, OutlineEntry, OutlineFile
from eris_fs.packed.frame import decompress_with

Entry = tuple[bytes, bool] | Symlink | EmptyDirectory
"""A file is its content, and whether it may be executed."""


async def read_delta(
    store: BlockReader, capability: ReadCapability, base: TreeFiles
) -> tuple[DeltaHead, DeltaTree, bytes]:
    """Give the head, the tree and what is stored of the patches."""
    assert HeadReader().feed(b"") is None
    found = HeadReader().feed(await get_content(store, capability))
    assert found is not None
    head, left, rest = found
    assert left == len(rest)
    assert head.base == blake2b(base.outline.to_bytes(), digest_size=HASH_SIZE).digest()
    tree = parse_delta_index(rest[: head.index_size], base.outline)
    return head, tree, rest[head.index_size :]


async def apply_delta(
    store: BlockReader, capability: ReadCapability, base: TreeFiles
) -> dict[Path, Entry]:
    """Make the new tree, and see that it is the one the delta names."""
    head, tree, stored = await read_delta(store, capability, base)
    stream = b"".join([piece async for piece in _pieces(tree, stored, base)])
    assert head.stream_size == len(stream)
    assert head.entries == len(tree)
    made: dict[Path, Entry] = {}
    outline: dict[Path, OutlineEntry] = {}
    digests = []
    for path, entry in tree.items():
        match entry:
            case PackedFile(offset, size, executable):
                content = stream[offset : offset + size]
            case BaseFile(number, size, executable):
                content = await base.read([BaseRange(number, 0, size)]) if size else b""
            case _:
                made[path] = outline[path] = entry
                continue
        assert len(content) == size
        made[path] = content, executable
        outline[path] = OutlineFile(size, executable)
        digests.append(blake2b(content, digest_size=HASH_SIZE).digest())
    listing = ListingHash(Outline(outline))
    for digest in digests:
        listing.add(digest)
    assert head.listing == listing.digest()
    assert head.size == Outline(outline).size
    return made


async def _pieces(tree: DeltaTree, stored: bytes, base: TreeFiles) -> AsyncGenerator[bytes, None]:
    at = 0
    for patch in tree.patches:
        frame = stored[at : at + patch.stored_size]
        at += patch.stored_size
        if patch.stored_size == patch.size:
            yield frame
            continue
        prefix = await base.read(patch.ranges) if patch.ranges else b""
        yield decompress_with(frame, prefix, patch.size, WINDOW_LIMIT)
    assert at == len(stored)
