"""Where in files of the base a piece of new content comes from, by samples; pure.

Of the base strings of 32 bytes are noted at regular places; of the new content rows are looked
through at every byte, so that what both have is met wherever it stands. What is found says which
file is alike, and which parts of it are worth reading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from eris_fs.delta.model import BaseRange

__all__ = ["PART", "Marks", "around", "choose_parts", "rows_of", "stride_for"]

PART: Final = 512 * 1024
"""Bytes: of a file of the base such parts are taken, or not."""

_STRING: Final = 32
_LEAST_STRIDE: Final = 4 * 1024
# A row has every alignment of a stride, and takes the longer to look through.
_MOST_STRIDE: Final = 64 * 1024
# Notes take some 250 bytes each.
_MOST_MARKS: Final = 32 * 1024
# Fewer different bytes than this and a string is anywhere.
_LEAST_BYTES: Final = 5


def stride_for(size: int) -> int:
    """How far apart the strings are that are noted of so many bytes together."""
    return min(max(_LEAST_STRIDE, -(-size // _MOST_MARKS)), _MOST_STRIDE)


class Marks:
    """Strings of files of the base, and where they stand: of the first 2 GiB of them.

    `size`: the bytes of all these files.
    """

    def __init__(self, size: int) -> None:
        self.stride = stride_for(size)
        self._places: dict[bytes, tuple[int, int]] = {}
        # What stands in two places tells nothing.
        self._ambiguous: set[bytes] = set()

    def add(self, one: BaseRange, data: bytes) -> None:
        """Note strings of a range of the base, whose bytes are given."""
        first = -one.offset % self.stride
        for at in range(first, one.length - _STRING + 1, self.stride):
            string = data[at : at + _STRING]
            if len(self._places) == _MOST_MARKS:
                break
            if string in self._places:
                self._ambiguous.add(string)
            elif len(set(string)) >= _LEAST_BYTES:
                self._places[string] = one.file, one.offset + at

    def find_all(self, rows: Sequence[BaseRange], data: bytes) -> list[tuple[int, int]]:
        """The places, file and offset, of the rows of which strings are noted.

        `rows` are ranges of the new content, and `data` their bytes, joined. What goes on where the
        row before was found is taken as found there, also if the base has the same elsewhere.
        """
        found: list[tuple[int, int]] = []
        last: tuple[int, int] | None = None
        at = 0
        for row in rows:
            content = data[at : at + row.length]
            at += row.length
            place = self._go_on(row.offset, content, last) or self._find(content)
            if place is not None:
                file, offset, start = place
                last = file, offset - row.offset - start
                found.append((file, offset))
        return found

    def _find(self, row: bytes) -> tuple[int, int, int] | None:
        """The first string that is noted: file and offset there, and place in the row."""
        # Of a hole no string is ever noted, and there may be gigabytes of it.
        if not self._places or len(set(row)) < _LEAST_BYTES:
            return None
        for at in range(len(row) - _STRING + 1):
            string = row[at : at + _STRING]
            if string in self._places and string not in self._ambiguous:
                return *self._places[string], at
        return None

    def _go_on(
        self, start: int, row: bytes, last: tuple[int, int] | None
    ) -> tuple[int, int, int] | None:
        """The same, of the strings that would be noted if the row stood as far off as the last."""
        if last is None:
            return None
        file, shift = last
        first = -(start + shift) % self.stride
        for at in range(first, len(row) - _STRING + 1, self.stride):
            if self._places.get(row[at : at + _STRING]) == (file, start + shift + at):
                return file, start + shift + at, at
        return None


def rows_of(one: BaseRange, stride: int, count: int) -> list[BaseRange]:
    """Ranges of a piece, spread evenly, that each have every alignment of a stride."""
    length = min(stride + _STRING - 1, one.length)
    count = max(1, min(count, one.length // length))
    step = one.length // count
    return [BaseRange(one.file, one.offset + place * step, length) for place in range(count)]


def choose_parts(
    found: Sequence[tuple[int, int]], sizes: Sequence[int], room: int
) -> list[BaseRange]:
    """Which ranges of the base are worth reading, at most `room` bytes of them, in order.

    Those of whose parts most rows were found, and their neighbours.
    """
    votes = Counter((file, offset // PART) for file, offset in found)
    chosen: set[tuple[int, int]] = set()
    ordered = sorted(votes, key=lambda part: (-votes[part], part))
    for part in (*ordered, *_neighbours(ordered, sizes)):
        if (len(chosen) + 1) * PART > room:
            break
        chosen.add(part)
    return _joined(sorted(chosen), sizes)


def around(file: int, size: int, middle: int, room: int) -> BaseRange:
    """So much of a file of the base around a place, or all of it."""
    start = max(0, min(middle - room // 2, size - room))
    return BaseRange(file, start, min(room, size - start))


def _neighbours(parts: Sequence[tuple[int, int]], sizes: Sequence[int]) -> list[tuple[int, int]]:
    return [
        (file, number)
        for file, part in parts
        for number in (part - 1, part + 1)
        if 0 <= number * PART < sizes[file]
    ]


def _joined(parts: Iterable[tuple[int, int]], sizes: Sequence[int]) -> list[BaseRange]:
    ranges: list[BaseRange] = []
    for file, number in parts:
        offset = number * PART
        length = min(PART, sizes[file] - offset)
        if ranges and ranges[-1].file == file and _end(ranges[-1]) == offset:
            last = ranges.pop()
            offset, length = last.offset, last.length + length
        ranges.append(BaseRange(file, offset, length))
    return ranges


def _end(one: BaseRange) -> int:
    return one.offset + one.length
