"""A delta and its base become files: all of them, in canonical order, piece by piece.

Two rows of bytes are made ahead of whoever takes them: the files of the base that stay as they are,
read in steps of about 1 MiB, and the stream, patch by patch. One step, or patch, is made while the
one before it waits and the one before that is used; so memory is three of them at most, and the
ranges of the base that belong to one. A file is cut out of one of the rows, or is one that came
before.

Of the base only files are read that its outline has, by number. Nothing vouches for their contents:
whoever takes the files compares the whole with what is known of the tree.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from hashlib import blake2b
from typing import Final

from eris.ahead import run_ahead
from eris.capability import ReadCapability
from eris.store import BlockReader
from eris.threads import in_thread
from eris.transfer import DEFAULT_WINDOW, stream_content
from eris_fs.delta.files import TreeFiles
from eris_fs.delta.framing import DeltaHead
from eris_fs.delta.index import parse_delta_index
from eris_fs.delta.keeping import Kept
from eris_fs.delta.model import BaseFile, DeltaTree
from eris_fs.delta.opening import read_patches
from eris_fs.delta.ranges import read_steps, whole_files
from eris_fs.delta.streaming import Incoming
from eris_fs.errors import InvalidManifest, OtherBase, OtherListing
from eris_fs.fetch import FilePiece
from eris_fs.model import DEFAULT_LIMITS, Limits, PackedFile
from eris_fs.outline import HASH_SIZE, ListingHash, Outline, OutlineEntry, OutlineFile

__all__ = ["Delta", "open_delta", "read_delta", "read_head"]

# How much of a file is given out at once.
_STEP: Final = 1024 * 1024
# Steps that wait to be used.
_AHEAD: Final = 1

_Take = Callable[[], Awaitable[bytes | None]]


@asynccontextmanager
async def open_delta(
    store: BlockReader,
    capability: ReadCapability,
    base: TreeFiles,
    *,
    limits: Limits = DEFAULT_LIMITS,
    window: int = DEFAULT_WINDOW,
) -> AsyncIterator[Delta]:
    """Read what a delta leads to, when it is applied to this base.

    ```python
    async with open_delta(store, capability, base) as delta, aclosing(delta.files()) as files:
        async for path, content, last in files: ...
    ```

    Raises: InvalidManifest, also for content that is no delta; OtherBase; BlockNotFound,
    ContentError, StoreError.
    """
    async with aclosing(stream_content(store, capability, window=window)) as pieces:
        yield await read_delta(pieces, base, limits=limits)


async def read_delta(
    pieces: AsyncIterator[bytes], base: TreeFiles, *, limits: Limits = DEFAULT_LIMITS
) -> Delta:
    """The same, out of the bytes of a delta as they come: those of its files are read later.

    Raises: InvalidManifest; OtherBase; whatever the iteration raises.
    """
    incoming = Incoming(pieces)
    head, left = await incoming.read_head(limits)
    if await in_thread(base.outline.digest) != head.base:
        raise OtherBase
    frame = await incoming.read(head.index_size)
    tree = await in_thread(parse_delta_index, frame, base.outline, limits)
    _check(head, left, tree)
    return Delta(head, tree, await in_thread(_outline, tree, limits), incoming, base)


async def read_head(
    store: BlockReader, capability: ReadCapability, *, limits: Limits = DEFAULT_LIMITS
) -> DeltaHead:
    """Read what is known of a delta without its base, out of its first blocks.

    Raises: InvalidManifest, for content that is no delta; BlockNotFound, ContentError, StoreError.
    """
    # One request at a time: what follows the head is not wanted.
    async with aclosing(stream_content(store, capability, window=1)) as pieces:
        head, _ = await Incoming(pieces).read_head(limits)
        return head


class Delta:
    """A delta that was opened, with its base: see `open_delta`."""

    def __init__(
        self,
        head: DeltaHead,
        tree: DeltaTree,
        outline: Outline,
        incoming: Incoming,
        base: TreeFiles,
    ) -> None:
        self.head = head
        """What it begins with."""
        self.tree = tree
        """The new tree: where each file comes from."""
        self.outline = outline
        """The new tree, but for its contents."""
        self._base = base
        self._incoming: Incoming | None = incoming

    async def files(self, *, listing: bool = True) -> AsyncGenerator[FilePiece, None]:
        """Make all files, in canonical order, piece by piece; once only.

        With `listing` the whole is compared with what the delta says of the tree; who knows more of
        it, a NarHash, leaves that out. Until that is done nothing that came may be used. Close the
        iterator (`contextlib.aclosing`) before the context ends.
        Raises: OtherListing, at the end; FileChanged, for a file of the base that is shorter, or
        not there; InvalidPatch, BlockNotFound, ContentError; InvalidManifest, for a content that
        ends early or goes on; StoreError; OSError; ValueError, the second time.
        """
        if self._incoming is None:
            raise ValueError("the files of a delta are made once")
        incoming, self._incoming = self._incoming, None
        made = ListingHash(self.outline)
        digest = blake2b(digest_size=HASH_SIZE)
        async with aclosing(self._make(incoming)) as files:
            async for piece in files:
                if listing:
                    digest.update(piece.content)
                    if piece.last:
                        made.add(digest.digest())
                        digest = blake2b(digest_size=HASH_SIZE)
                yield piece
        if listing and made.digest() != self.head.listing:
            raise OtherListing

    async def _make(self, incoming: Incoming) -> AsyncGenerator[FilePiece, None]:
        stays = (one for one in self.tree.values() if isinstance(one, BaseFile))
        own = Kept(one for one in self.tree.values() if isinstance(one, PackedFile))
        patches = read_patches(incoming, self.tree.patches, self._base)
        steps = read_steps(self._base, whole_files(stays))
        try:
            async with run_ahead(patches, _AHEAD) as patch, run_ahead(steps, _AHEAD) as step:
                making = _Making(_Row(patch), _Row(step), own)
                for path, entry in self.tree.items():
                    if not isinstance(entry, PackedFile | BaseFile):
                        continue
                    if not entry.size:
                        yield FilePiece(path, b"", True)
                        continue
                    left = entry.size
                    async with aclosing(making.file(entry)) as pieces:
                        async for piece in pieces:
                            left -= len(piece)
                            yield FilePiece(path, piece, not left)
                # Behind the last patch it shows whether the content ends where it should.
                await patch()
        finally:
            own.close()


class _Making:
    """One file after the other, out of where it is."""

    def __init__(self, stream: _Row, base: _Row, kept: Kept) -> None:
        self._stream = stream
        self._base = base
        self._kept = kept
        self._position = 0

    def file(self, entry: PackedFile | BaseFile) -> AsyncGenerator[bytes, None]:
        """Give the content of the next file, which is not empty."""
        if isinstance(entry, BaseFile):
            return self._base.cut(entry.size)
        if entry.offset < self._position:
            return self._kept.read(entry)
        return self._new(entry)

    async def _new(self, entry: PackedFile) -> AsyncGenerator[bytes, None]:
        comes_again = entry in self._kept
        self._position += entry.size
        async with aclosing(self._stream.cut(entry.size)) as pieces:
            async for piece in pieces:
                if comes_again:
                    await self._kept.add(entry, piece)
                yield piece


class _Row:
    """Bytes that come in steps of any length, and are cut into files."""

    def __init__(self, take: _Take) -> None:
        self._take = take
        self._content = b""
        self._at = 0

    async def cut(self, size: int) -> AsyncGenerator[bytes, None]:
        """Give the next `size` bytes, in pieces."""
        while size:
            if self._at == len(self._content):
                # Not held while the next step is waited for.
                self._content, self._at = b"", 0
                step = await self._take()
                assert step is not None, "the index has as many bytes as its files"
                self._content = step
            piece = self._content[self._at : self._at + min(size, _STEP)]
            self._at += len(piece)
            size -= len(piece)
            yield piece


def _check(head: DeltaHead, left: int, tree: DeltaTree) -> None:
    """Compare what the content begins with, with what its index says."""
    files = [one for one in tree.values() if isinstance(one, PackedFile | BaseFile)]
    for what, said, found in (
        ("entries", head.entries, len(tree)),
        ("bytes of files", head.size, sum(file.size for file in files)),
        ("bytes of stream", head.stream_size, sum(patch.size for patch in tree.patches)),
        (
            "bytes of patches",
            left - head.index_size,
            sum(patch.stored_size for patch in tree.patches),
        ),
    ):
        if said != found:
            raise InvalidManifest(f"{said} {what} are announced, and the index has {found}", 0)


def _outline(tree: DeltaTree, limits: Limits) -> Outline:
    entries: dict[tuple[str, ...], OutlineEntry] = {}
    for path, entry in tree.items():
        if isinstance(entry, PackedFile | BaseFile):
            entries[path] = OutlineFile(entry.size, entry.executable)
        else:
            entries[path] = entry
    return Outline(entries, limits)
