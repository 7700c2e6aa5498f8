"""The packs of a tree as rows, and the files in them.

A pack that is stored as it is can be read by pieces, each a content of one leaf; one that is
compressed only as a whole. A file is a range of some packs that follow each other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable, Iterator
from functools import partial
from itertools import chain

from eris import node
from eris.capability import ReadCapability
from eris.crypto import open_block
from eris.store import BlockReader
from eris.threads import withdraw
from eris.transfer import get_content
from eris_fs.errors import InvalidPack
from eris_fs.model import PackedFile, PackedTree
from eris_fs.packed.cost import PIECE_SIZE
from eris_fs.packed.decode import read_pack
from eris_fs.packed.plan import Slice, slices_of
from eris_fs.reader.caches import Caches
from eris_fs.reader.pattern import Pattern
from eris_fs.reader.rows import SPAN_SIZE, AtHand, Row
from eris_fs.reader.shared import Start
from eris_fs.reader.spans import Part, spans_of

__all__ = ["InPacks"]


class InPacks:
    """A file of a packed tree, and how it is read."""

    __slots__ = ("_caches", "_file", "_pattern", "_tree")

    def __init__(self, caches: Caches, tree: PackedTree, file: PackedFile) -> None:
        self._caches = caches
        self._tree = tree
        self._file = file
        self._pattern = Pattern()

    async def read(self, offset: int, length: int) -> bytes:
        """Read a range."""
        stop = min(offset + length, self._file.size)
        if offset >= stop:
            return b""
        plan = self._pattern.note(offset, stop - offset)
        ahead = min(plan.ahead, self._file.size)
        parts = []
        slices = deque(self._slices(offset, stop))
        while slices:
            number, first, last = slices.popleft()
            later = chain(slices, self._slices(stop, ahead))
            parts.append(
                await self._caches.spans.read(
                    self._row(number),
                    first,
                    last,
                    in_order=plan.in_order,
                    ahead=self._spans(later),
                )
            )
        return b"".join(parts)

    def _slices(self, start: int, stop: int) -> Iterator[Slice]:
        part = PackedFile(self._file.offset + start, max(0, stop - start))
        return slices_of(self._tree.packs, part)

    def _spans(self, slices: Iterator[Slice]) -> Iterator[Part]:
        for number, first, last in slices:
            yield from spans_of(self._row(number), first, last)

    def _row(self, number: int) -> Row:
        pack = self._tree.packs[number]
        if pack.stored_size == pack.size:
            return _Pieces(self._caches.store, self._tree, number)
        return _Compressed(self._caches.store, self._tree, number)


class _Compressed:
    """A compressed pack: one unit, the whole of it."""

    span = 1

    def __init__(self, store: BlockReader, tree: PackedTree, number: int) -> None:
        self._store = store
        self._tree = tree
        self.key: Hashable = number
        self._number = number
        self.unit = self.limit = tree.packs[number].size

    def start(self, first: int, count: int, at_hand: AtHand) -> Start[bytes]:
        """Begin to fetch it: see `Row`."""
        return asyncio.ensure_future(read_pack(self._store, self._tree, self._number)), _as_it_is


class _Pieces:
    """A pack that is stored as it is: a row of pieces."""

    unit = PIECE_SIZE
    span = SPAN_SIZE // PIECE_SIZE

    def __init__(self, store: BlockReader, tree: PackedTree, number: int) -> None:
        self._store = store
        self._pack = tree.packs[number]
        self.key: Hashable = number
        self._number = number
        self.limit = self._pack.size

    def start(self, first: int, count: int, at_hand: AtHand) -> Start[bytes]:
        """Begin to fetch pieces: see `Row`."""
        pieces = list(self._pieces(first, count))
        if len(pieces) == 1 and pieces[0][0].level == 0:
            ((piece, length),) = pieces
            return self._ask(piece), partial(self._open, piece, length)
        return asyncio.ensure_future(self._load(first, pieces, at_hand)), _as_it_is

    def _pieces(self, first: int, count: int) -> Iterator[tuple[ReadCapability, int]]:
        """The contents of some pieces, and the bytes that each must have."""
        left = self._pack.stored_size - first * PIECE_SIZE
        for piece in self._pack.pieces(first, first + count):
            yield piece, min(PIECE_SIZE, left)
            left -= PIECE_SIZE

    def _ask(self, piece: ReadCapability) -> asyncio.Future[bytes]:
        if piece.level == 0:
            asked = self._store.get(piece.root.reference, piece.block_size)
            return asyncio.ensure_future(asked)
        # The last one of a pack may have small blocks; how many, its level bounds.
        return asyncio.ensure_future(get_content(self._store, piece))

    async def _load(
        self, first: int, pieces: list[tuple[ReadCapability, int]], at_hand: AtHand
    ) -> bytes:
        there = [at_hand(number) for number in range(first, first + len(pieces))]
        asked: deque[asyncio.Future[bytes]] = deque()
        contents = []
        try:
            for content, (piece, _) in zip(there, pieces, strict=True):
                if content is None:
                    asked.append(self._ask(piece))
            for content, (piece, length) in zip(there, pieces, strict=True):
                if content is None:
                    # Awaited where it stands, so that an interruption finds it in the queue.
                    content = self._open(piece, length, await asked[0])
                    asked.popleft()
                contents.append(content)
            return b"".join(contents)
        finally:
            withdraw(asked)

    def _open(self, piece: ReadCapability, length: int, got: bytes) -> bytes:
        if piece.level == 0:
            reference, key = piece.root
            got = node.unpad(open_block(got, reference, key, 0, int(piece.block_size)))
        if len(got) != length:
            raise InvalidPack(self._number, f"a piece that is not of {length} bytes")
        return got


def _as_it_is(value: bytes) -> bytes:
    return value
