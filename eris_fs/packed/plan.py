"""Which packs to load when, for files wanted in any order, in bounded memory; pure.

Packs that were loaded and will be used again are kept, those used last for longest, as long as
there is room. What is loaded again because there was none costs time, and a hostile tree could ask
for it without end: so how much may be loaded is bounded by how much is wanted.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from eris_fs.errors import TreeTooLarge
from eris_fs.model import Pack, PackedFile

__all__ = ["Load", "Slice", "plan_loads", "slices_of"]

_MOST_AGAIN: Final = 64
"""How many times what is wanted may be loaded for it. Small files of equal content in places far
apart, each in a pack of some hundred KiB, are where honest trees need more than once."""

_ALWAYS: Final = 1 << 30
"""Bytes that may be loaded whatever is wanted."""

_MOST_USES: Final = 4_000_000
"""Files that share no pack with the one before them, and very large files by their packs: a tree of
a million files has about as many. Each takes four bytes."""


class Load(NamedTuple):
    """Before the next use: drop these packs, and load this one."""

    pack: int
    drop: tuple[int, ...]


class Slice(NamedTuple):
    """A part of a file: where it is in which pack."""

    pack: int
    start: int
    stop: int


def slices_of(packs: Sequence[Pack], file: PackedFile) -> Iterator[Slice]:
    """Tell where a file is, in order; nothing of an empty one."""
    at, end = file.offset, file.offset + file.size
    number = bisect_right(packs, at, key=lambda pack: pack.offset) - 1
    while at < end:
        pack = packs[number]
        stop = min(end, pack.offset + pack.size)
        yield Slice(number, at - pack.offset, stop - pack.offset)
        at, number = stop, number + 1


def plan_loads(
    packs: Sequence[Pack], files: Iterable[PackedFile], room: int
) -> Iterator[Load | int]:
    """Tell for each use of a pack, in order, what to do: load it, or use it as it is there.

    Uses of one pack that follow each other are one. `room` is for the bytes of packs that are kept;
    the one in use has it in any case.
    Raises: TreeTooLarge, when far more would be loaded than is wanted, or for more uses than a tree
    of a million files has.
    """
    uses, wanted = _uses(packs, files)
    last_use = {number: use for use, number in enumerate(uses)}
    kept: OrderedDict[int, None] = OrderedDict()
    finished: list[int] = []
    most = wanted * _MOST_AGAIN + _ALWAYS
    size = loaded = 0
    for use, number in enumerate(uses):
        if number in kept:
            kept.move_to_end(number)
            yield number
        else:
            dropped, finished = finished, []
            for old in dropped:
                del kept[old]
                size -= packs[old].size
            while kept and size + packs[number].size > room:
                oldest, _ = kept.popitem(last=False)
                size -= packs[oldest].size
                dropped.append(oldest)
            kept[number] = None
            size += packs[number].size
            loaded += packs[number].size
            if loaded > most:
                raise TreeTooLarge("bytes to decompress for what is wanted", most)
            yield Load(number, tuple(dropped))
        if last_use[number] == use:
            finished.append(number)


def _uses(packs: Sequence[Pack], files: Iterable[PackedFile]) -> tuple[array[int], int]:
    """The numbers of the packs in the order in which they are used, and the bytes of the files."""
    uses = array("I")
    wanted = 0
    for file in files:
        wanted += file.size
        for number, _, _ in slices_of(packs, file):
            if not uses or uses[-1] != number:
                uses.append(number)
        if len(uses) > _MOST_USES:
            raise TreeTooLarge("uses of its packs", _MOST_USES)
    return uses, wanted
