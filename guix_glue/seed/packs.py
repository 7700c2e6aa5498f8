"""Packed trees: how an item was packed by who published it, and which files a pack is made of.

What is kept is the tree's index, about a hundredth of it. It says which files stand in which pack,
one after the other, and what each pack is stored as: contents of 32 KiB less one byte, whose
references it has too. So a pack that is put together and compressed again, by the same version of
the library at the same level, gives the same blocks. Values and bytes, pure.

The blocks of a packed tree are counted through: those of its index, in the order in which they are
made, then the roots of the contents of its packs. What is below such a root, where blocks are of
1 KiB, is known when the pack is made; whoever wants it asks for the root first.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, NamedTuple

from cbor2 import CBORDecodeError, dumps, loads

from eris.encode import encode
from eris.model import CAPABILITY_SIZE, REFERENCE_SIZE, Reference
from eris_fs import InvalidManifest, PackedFile, PackedTree
from eris_fs.packed.cost import choose_by_cost, piece_count
from eris_fs.packed.encode import writer_name
from eris_fs.packed.index import PackedIndexReader
from guix_glue.seed.errors import DamagedIndex, NotSeeded

__all__ = [
    "MOST_INDEX",
    "PackedPart",
    "Packs",
    "Range",
    "format_packed",
    "parse_packed",
    "read_packs",
]

MOST_INDEX: Final = 32 * 1024 * 1024
"""Bytes of a tree's index that is kept: of the largest items it has a tenth of this."""

_LEVELS: Final = range(1, 23)
# Where the reference stands in a capability: behind block size and level.
_REFERENCE: Final = slice(2, 2 + REFERENCE_SIZE)


@dataclass(frozen=True, slots=True)
class PackedPart:
    """The index of the packed tree that the item at `root` became; `identity` as of other parts."""

    root: str
    identity: bytes
    index: bytes = field(repr=False)


class Range(NamedTuple):
    """Bytes of a file: `path` within the tree, and where they begin."""

    path: str
    offset: int
    size: int


def format_packed(part: PackedPart) -> bytes:
    """Write it: CBOR."""
    return dumps([part.root.encode("utf-8", "surrogateescape"), part.identity, part.index])


def parse_packed(data: bytes) -> PackedPart:
    """Read what `format_packed` wrote. Raises: DamagedIndex."""
    try:
        root, identity, index = loads(data)
        return PackedPart(root.decode("utf-8", "surrogateescape"), identity, index)
    except (CBORDecodeError, TypeError, ValueError, AttributeError) as error:
        raise DamagedIndex("a packed tree that makes no sense") from error


class Packs:
    """What the index of a packed tree says of packs and files.

    Raises: NotSeeded, if they cannot be made here again.
    """

    def __init__(self, tree: PackedTree, index: bytes) -> None:
        level = next((one for one in _LEVELS if writer_name(one) == tree.writer), None)
        if level is None:
            raise NotSeeded(f"it was packed by another library: {tree.writer[:40]!r}")
        self.level = level
        """At which it is compressed."""
        self._tree = tree
        _, blocks = encode(index, block_size=choose_by_cost(len(index)))
        self.index_blocks = list(blocks)
        """The references of the index's own blocks."""
        counts = (piece_count(pack.stored_size) for pack in tree.packs)
        self._first_pieces = [0, *accumulate(counts)]
        # In the order of the stream; files of equal content stand there once.
        in_stream: dict[int, tuple[str, int]] = {}
        for path, entry in tree.items():
            if isinstance(entry, PackedFile) and entry.size:
                in_stream.setdefault(entry.offset, ("/".join(path), entry.size))
        self._offsets = sorted(in_stream)
        self._files = [in_stream[offset] for offset in self._offsets]

    @property
    def files(self) -> int:
        """How many files there are that have content."""
        return len(self._files)

    @property
    def size(self) -> int:
        """Bytes of these."""
        return sum(size for _, size in self._files)

    def references(self) -> list[Reference]:
        """The references of all blocks that are known, in the order of their numbers."""
        pieces = (
            Reference(pack.capabilities[at : at + CAPABILITY_SIZE][_REFERENCE])
            for pack in self._tree.packs
            for at in range(0, len(pack.capabilities), CAPABILITY_SIZE)
        )
        return [*self.index_blocks, *pieces]

    def pack_of(self, number: int) -> int | None:
        """The pack of the block with this number; None for one of the index."""
        piece = number - len(self.index_blocks)
        return None if piece < 0 else bisect_right(self._first_pieces, piece) - 1

    def stored_size(self, pack: int) -> int:
        """How many bytes a pack is stored as."""
        return self._tree.packs[pack].stored_size

    def ranges(self, pack: int) -> list[Range]:
        """What a pack is made of, in order."""
        start = self._tree.packs[pack].offset
        end = start + self._tree.packs[pack].size
        found = []
        for place in range(max(0, bisect_right(self._offsets, start) - 1), len(self._files)):
            offset = self._offsets[place]
            if offset >= end:
                break
            path, size = self._files[place]
            first, last = max(start, offset), min(end, offset + size)
            if first < last:
                found.append(Range(path, first - offset, last - first))
        return found


def read_packs(index: bytes) -> Packs:
    """Read the index of a packed tree. Raises: NotSeeded, if it is none that can be made here."""
    reader = PackedIndexReader()
    try:
        reader.feed(index)
        tree = reader.finish()
    except InvalidManifest as error:
        raise NotSeeded(f"its URN is of no packed tree: {error}") from error
    return Packs(tree, index)
