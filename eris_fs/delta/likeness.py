"""What of the base is like the new content: by names, and where these say nothing by samples.

The shell around `matching` and `placing`: it reads what they look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from eris.threads import in_thread
from eris_fs.delta.files import TreeFiles
from eris_fs.delta.index import most_base_bytes
from eris_fs.delta.matching import SMALL_FILE, match_by_name
from eris_fs.delta.model import BaseRange
from eris_fs.delta.patching import PREFIX_SIZE, whole_files
from eris_fs.delta.placing import Marks, around, choose_parts, rows_of
from eris_fs.delta.steps import steps

__all__ = ["Likeness"]

_PROBES: Final = 32
_HITS: Final = 4
# One for each 64 KiB of a piece, and not too few of a small one.
_PROBE_EVERY: Final = 64 * 1024
_MOST_PROBES: Final = 128


class Likeness:
    """Which parts of a base are like which pieces of a new tree."""

    def __init__(self, base: TreeFiles, new: TreeFiles) -> None:
        self._base = base
        self._new = new
        self.like: dict[int, int] = {}
        """For files of the new tree: which one of the base each is like, by number."""
        self._marks: tuple[int, Marks] | None = None
        self._left = 0

    async def find(self, stream: Sequence[int]) -> None:
        """Find what each file of the stream is like.

        Raises: as `TreeFiles.read`.
        """
        base, new = self._base.outline, self._new.outline
        self._left = most_base_bytes(base.size, sum(new.sizes[file] for file in stream))
        self.like = await in_thread(match_by_name, base, new, stream)
        lonely = [
            file for file in stream if file not in self.like and new.sizes[file] >= SMALL_FILE
        ]
        candidates = [number for number, size in enumerate(base.sizes) if size >= SMALL_FILE]
        if lonely and candidates:
            await self._find_by_content(lonely, candidates)

    async def ranges_for(self, pieces: Sequence[BaseRange]) -> list[BaseRange]:
        """What of the base stands before these pieces of the new tree, which one patch has.

        Raises: as `TreeFiles.read`.
        """
        ranges = whole_files(pieces, self.like, self._base.outline.sizes)
        if sum(one.length for one in ranges) > PREFIX_SIZE:
            # One file, which is large, or its like is.
            ranges = await self._parts(pieces[0], ranges[0].file)
        size = sum(one.length for one in ranges)
        if size > self._left:
            return []
        self._left -= size
        return ranges

    async def _parts(self, piece: BaseRange, file: int) -> list[BaseRange]:
        if self._marks is None or self._marks[0] != file:
            # First of all let go of those of another file.
            self._marks = None
            self._marks = file, await self._mark([file])
        marks = self._marks[1]
        count = max(_PROBES, min(_MOST_PROBES, piece.length // _PROBE_EVERY))
        found = await self._look(marks, piece, count)
        sizes = self._base.outline.sizes
        ranges = choose_parts(found, sizes, PREFIX_SIZE)
        if ranges:
            return ranges
        middle = piece.offset + piece.length // 2
        whole = self._new.outline.sizes[piece.file]
        return [around(file, sizes[file], middle * sizes[file] // whole, PREFIX_SIZE)]

    async def _find_by_content(self, lonely: Iterable[int], candidates: Sequence[int]) -> None:
        marks = await self._mark(candidates)
        for file in lonely:
            piece = BaseRange(file, 0, self._new.outline.sizes[file])
            found = await self._look(marks, piece, _PROBES)
            votes = Counter(number for number, _ in found)
            best = min(votes, key=lambda number: (-votes[number], number), default=None)
            if best is not None and votes[best] >= _HITS:
                self.like[file] = best

    async def _mark(self, files: Sequence[int]) -> Marks:
        sizes = self._base.outline.sizes
        marks = Marks(sum(sizes[file] for file in files))
        for step in steps(sizes, files):
            await in_thread(_add, marks, step, await self._base.read(step))
        return marks

    async def _look(self, marks: Marks, piece: BaseRange, count: int) -> list[tuple[int, int]]:
        rows = rows_of(piece, marks.stride, count)
        data = await self._new.read(rows)
        return await in_thread(marks.find_all, rows, data)


def _add(marks: Marks, step: Sequence[BaseRange], data: bytes) -> None:
    at = 0
    for one in step:
        marks.add(one, data[at : at + one.length])
        at += one.length
