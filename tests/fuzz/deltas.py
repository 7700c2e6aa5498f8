"""What is done with bytes that claim to be a delta, or its index; the base is always the same.

What comes out is the tree that a decoder makes which was written from the document alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from eris_fs.delta.apply import read_delta
from eris_fs.delta.index import format_delta_index, parse_delta_index
from eris_fs.errors import InvalidManifest, InvalidPatch, OtherBase, OtherListing
from eris_fs.model import Limits
from tests.eris_fs.delta import raw, stranger
from tests.eris_fs.delta.memory import MemoryFiles, told
from tests.eris_fs.delta.raw import Link, Tree
from tests.fuzz.cutting import cut

__all__ = ["BASE", "delta", "delta_sections"]

BASE: Tree = {"a": b"as it was", "b*": bytes(range(256)) * 8, "e": None, "l": Link("a"), "n": b""}
"""What all deltas lead from."""

_LIMITS = Limits(entries=1000, index_size=1 << 20, packs=1000, content_size=1 << 24)
# A patch has up to 64 MiB of a base before it, and a delta all in all a few times that.
_MOST_READ = 65 << 20
_LOOP = asyncio.new_event_loop()


def delta(data: bytes) -> None:
    """Apply a delta that comes in pieces."""
    body, pieces = cut(data)
    base = MemoryFiles(BASE)
    try:
        made = _LOOP.run_until_complete(_apply(pieces, base))
    except (InvalidManifest, InvalidPatch, OtherBase, OtherListing):
        return
    finally:
        assert base.read_bytes <= _MOST_READ + 9 * _LIMITS.content_size
    found = [one for kind, one in stranger.apply(body, told(BASE)).values() if kind in "fx"]
    assert made == found


def delta_sections(data: bytes) -> None:
    """Read an index whose decompressed sections are the input; written again it is the same."""
    outline = MemoryFiles(BASE).outline
    if not data:
        return
    with suppress(InvalidManifest):
        found = parse_delta_index(raw.compress(data), outline, _LIMITS)
        again = parse_delta_index(format_delta_index(found, outline, _LIMITS), outline, _LIMITS)
        assert list(again.items()) == list(found.items())
        assert (again.patches, again.writer) == (found.patches, found.writer)


async def _apply(pieces: list[bytes], base: MemoryFiles) -> list[bytes]:
    async with aclosing(_given(pieces)) as coming:
        found = await read_delta(coming, base, limits=_LIMITS)
        made: dict[object, list[bytes]] = {path: [] for path in found.outline.files}
        async with aclosing(found.files()) as files:
            async for path, content, _ in files:
                made[path].append(content)
    return [b"".join(parts) for parts in made.values()]


async def _given(pieces: list[bytes]) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        # An empty one would be the end.
        if piece:
            yield piece
