"""Parts of trees: which files, and which of their blocks has which number; values and bytes, pure.

A tree is a row of files, symlinks and empty directories in the order of a scan, cut into parts of
some ten megabytes, so that what was done survives, and what did not change is not done again. The
last part closes the tree: it names the others.

Blocks of a part are counted through: those of its first file, of its second, and so on; of a file
its leaves, then the nodes above them, level by level; and behind the files of a part that closes a
tree, what the index of that tree becomes. So a number is enough to tell file, level and place.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import accumulate
from typing import Any, Final, NamedTuple

from cbor2 import CBORDecodeError, dumps, loads

from eris.capability import ReadCapability
from eris.model import (
    PAIR_SIZE,
    REFERENCE_SIZE,
    BlockSize,
    Key,
    Reference,
    ReferenceKeyPair,
    choose_block_size,
)
from eris.node import block_count, leaf_count, tree_level
from eris_fs import EmptyDirectory, Entry, Path, RegularFile, Symlink
from guix_glue.seed.errors import DamagedIndex

__all__ = [
    "LARGE_FILE",
    "SMALL_TREE",
    "Kind",
    "Listed",
    "OfIndex",
    "Part",
    "Place",
    "Places",
    "entries_of",
    "format_part",
    "level_starts",
    "pairs_size",
    "parse_part",
]

# CBOR has values of any kind in any place.
_NO_PART: Final = (
    *(CBORDecodeError, TypeError, ValueError, LookupError, AttributeError),
    *(StopIteration, OverflowError),
)

LARGE_FILE: Final = 4 * 1024 * 1024
"""The pairs in the nodes of larger files are kept; smaller ones are encoded again for these."""


SMALL_TREE: Final = 8 * 1024 * 1024
"""Of trees up to this nothing is kept of files but what finds their blocks."""


class Kind(IntEnum):
    """What an entry of a tree is."""

    FILE = 0
    EXECUTABLE = 1
    SYMLINK = 2
    EMPTY_DIRECTORY = 3


class Listed(NamedTuple):
    """An entry of a tree as a scan finds it. `path` is empty for a tree that is one file.

    `stamp` shows whether a file changed; empty where none is needed. `target` is a symlink's.
    """

    path: str
    kind: Kind
    size: int = 0
    stamp: bytes = b""
    target: str = ""

    @property
    def is_file(self) -> bool:
        """Whether it has content."""
        return self.kind <= Kind.EXECUTABLE


@dataclass(frozen=True, slots=True)
class Part:
    """Entries of the tree at `root`; `pairs` are the reference-key pairs of its files' roots.

    A small tree has none of these: its files are encoded again when its index is wanted.

    `members`, of a part that closes its tree: the numbers of the parts before it.
    `identity`: what that tree was when it was listed, as the hash of a store item; maybe empty.
    """

    root: str
    entries: tuple[Listed, ...]
    pairs: bytes = field(repr=False)
    members: tuple[int, ...] | None = None
    identity: bytes = b""


class Place(NamedTuple):
    """A block of a file: the number of that among the files of its part, level, and place there."""

    file: int
    level: int
    place: int


class OfIndex(NamedTuple):
    """A block of the tree's index."""

    number: int


class Places:
    """Where the blocks of a part are, by the sizes of its files."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes
        counts = (block_count(size, choose_block_size(size)) for size in sizes)
        self._starts = [0, *accumulate(counts)]

    @property
    def count(self) -> int:
        """How many blocks the files have."""
        return self._starts[-1]

    def start(self, file: int) -> int:
        """The number of the first block of a file."""
        return self._starts[file]

    def find(self, number: int) -> Place | OfIndex:
        """What the block of this number is."""
        if number >= self.count:
            return OfIndex(number - self.count)
        file = bisect_right(self._starts, number) - 1
        within = number - self._starts[file]
        size = self._sizes[file]
        starts = level_starts(size, choose_block_size(size))
        level = bisect_right(starts, within) - 1
        return Place(file, level, within - starts[level])


def level_starts(size: int, block_size: BlockSize) -> list[int]:
    """How many blocks of a content of this size come before each level, from the leaves up."""
    count, starts = leaf_count(size, block_size), [0]
    while count > 1:
        starts.append(starts[-1] + count)
        count = -(-count // block_size.arity)
    return starts


def pairs_size(size: int) -> int:
    """How many bytes the pairs in a file's nodes take, where they are kept: all but the root's."""
    return 0 if size <= LARGE_FILE else (block_count(size, choose_block_size(size)) - 1) * PAIR_SIZE


def entries_of(part: Part, pairs: bytes | None = None) -> dict[Path, Entry]:
    """The entries as trees have them, with the capabilities of files.

    `pairs`: those of their roots, if the part has none.
    """
    pairs = part.pairs if pairs is None else pairs
    tree: dict[Path, Entry] = {}
    at = 0
    for one in part.entries:
        path = tuple(one.path.split("/")) if one.path else ()
        match one.kind:
            case Kind.SYMLINK:
                tree[path] = Symlink(one.target)
            case Kind.EMPTY_DIRECTORY:
                tree[path] = EmptyDirectory()
            case _:
                pair = pairs[at : at + PAIR_SIZE]
                at += PAIR_SIZE
                tree[path] = RegularFile(_capability(one.size, pair), one.kind is Kind.EXECUTABLE)
    return tree


def _capability(size: int, pair: bytes) -> ReadCapability:
    block_size = choose_block_size(size)
    reference, key = Reference(pair[:REFERENCE_SIZE]), Key(pair[REFERENCE_SIZE:])
    level = tree_level(leaf_count(size, block_size), block_size)
    return ReadCapability(block_size, level, ReferenceKeyPair(reference, key))


def format_part(part: Part) -> bytes:
    """Write a part: CBOR, in columns, which compress better than rows."""
    entries = part.entries
    return dumps(
        [
            part.root.encode("utf-8", "surrogateescape"),
            part.identity,
            None if part.members is None else list(part.members),
            "\0".join(one.path for one in entries).encode("utf-8", "surrogateescape"),
            bytes(one.kind for one in entries),
            [one.size for one in entries if one.is_file],
            b"".join(one.stamp for one in entries if one.is_file),
            "\0".join(_targets(entries)).encode("utf-8", "surrogateescape"),
            part.pairs,
        ]
    )


def parse_part(data: bytes) -> Part:
    """Read what `format_part` wrote. Raises: DamagedIndex."""
    try:
        return _parse(loads(data))
    except (
        CBORDecodeError,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        StopIteration,
    ) as error:
        raise DamagedIndex(f"a part that makes no sense: {type(error).__name__}") from error


def _parse(columns: Any) -> Part:
    root, identity, members, paths, kinds, sizes, stamps, targets, pairs = columns
    names = _text(paths).split("\0")
    if not kinds:
        names = []
    stamp_size, rest = divmod(len(stamps), len(sizes) or 1)
    symlinks = iter(_text(targets).split("\0"))
    entries = []
    file = 0
    for name, number in zip(names, kinds, strict=True):
        kind = Kind(number)
        if kind is Kind.SYMLINK:
            entries.append(Listed(name, kind, target=next(symlinks)))
        elif kind is Kind.EMPTY_DIRECTORY:
            entries.append(Listed(name, kind))
        else:
            stamp = stamps[file * stamp_size : (file + 1) * stamp_size]
            entries.append(Listed(name, kind, int(sizes[file]), stamp))
            file += 1
    if rest or file != len(sizes) or len(pairs) not in (0, file * PAIR_SIZE):
        raise ValueError("columns of different lengths")
    if min(sizes, default=0) < 0:
        raise ValueError("a file of less than nothing")
    return Part(
        _text(root), tuple(entries), pairs, None if members is None else tuple(members), identity
    )


def _targets(entries: Iterable[Listed]) -> list[str]:
    return [one.target for one in entries if one.kind is Kind.SYMLINK]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
