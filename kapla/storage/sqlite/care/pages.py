"""A database file as pages, with its WAL, read without SQLite and without changing anything.

A page has one state now, and may have earlier ones: in the file where the WAL holds it too, and in
frames that were not committed or are older. Where the newest is damaged an earlier one may help.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Self

from pyroaring import BitMap64

from kapla.storage.sqlite.care.records import PAGE_SIZES, fits_page_size

__all__ = ["Pages", "View"]

View = Mapping[int, int]
"""Where pages stand in the WAL, by their numbers. All others are those of the file."""

_DEFAULT_SIZE: Final = 16384
_WAL_HEADER: Final = 32
_FRAME_HEADER: Final = 24
_WAL_MAGIC: Final = (0x377F0682, 0x377F0683)
_SAMPLES: Final = 2000
_LOCKS: Final = 1 << 30
"""The page with this byte is never used."""
# What a disk reads or fails to read at once.
_SECTOR: Final = 4096


class Pages:
    """Use as a context."""

    def __init__(self, path: Path) -> None:
        """Open the files. Raises: OSError."""
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._wal: int | None = None
        try:
            wal = Path(os.path.realpath(path) + "-wal")
            if wal.is_file() and wal.stat().st_size > _WAL_HEADER:
                self._wal = os.open(wal, os.O_RDONLY | os.O_CLOEXEC)
            self._bytes = os.fstat(self._file).st_size
            self.header = self._read(self._file, 0, 100)
            self.size = self._find_size()
            self.usable = self._find_usable()
            self.current: dict[int, int] = {}
            """The committed pages of the WAL: a view."""
            self._find_current()
        except BaseException:
            self.close()
            raise
        in_file = -(-self._bytes // self.size)
        self.count = max([in_file, *self.current])
        """How many pages there are, or are known of: numbered from 1."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        os.close(self._file)
        if self._wal is not None:
            os.close(self._wal)

    @property
    def has_header(self) -> bool:
        """Whether the file begins as a database does."""
        return self.header.startswith(b"SQLite format 3\0")

    def page(self, number: int, view: View) -> bytes:
        """One page; shorter, or empty, where the file ends."""
        if number in view and self._wal is not None:
            return self._read(self._wal, view[number], self.size)
        return self._read(self._file, (number - 1) * self.size, self.size)

    def frames(self) -> Iterator[tuple[int, int]]:
        """Each frame of the WAL, oldest first: the number of the page, and where that stands."""
        for at, header in self._frames():
            yield int.from_bytes(header[:4], "big"), at + _FRAME_HEADER

    def free(self) -> BitMap64:
        """The pages that are free, as far as the file tells; none if that makes no sense."""
        first = self.page(1, self.current)
        trunk = int.from_bytes(first[32:36], "big")
        expected = int.from_bytes(first[36:40], "big")
        found = BitMap64()
        while trunk and len(found) <= expected:
            page = self.page(trunk, self.current)
            count = int.from_bytes(page[4:8], "big")
            if trunk > self.count or trunk in found or 8 + 4 * count > len(page):
                return BitMap64()
            found.add(trunk)
            found.update(
                int.from_bytes(page[at : at + 4], "big") for at in range(8, 8 + 4 * count, 4)
            )
            trunk = int.from_bytes(page[:4], "big")
        is_sound = len(found) == expected and (not found or found.max() <= self.count)
        return found if is_sound and self.has_header else BitMap64()

    def is_no_content(self, number: int) -> bool:
        """Whether a page holds nothing of a table: it tells of others, or is where locks are."""
        locks = _LOCKS // self.size + 1
        # Of a file that can be shortened, which ours can: so many pages each.
        maps = self.usable // 5 + 1
        first = (number - 2) // maps * maps + 2
        is_map = number == first + (first == locks) and self._has_pointer_maps
        return number == locks or is_map

    @property
    def _has_pointer_maps(self) -> bool:
        return not self.has_header or any(self.header[52:56])

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        if self._wal is None:
            return
        end = os.fstat(self._wal).st_size
        step = _FRAME_HEADER + self.size
        for at in range(_WAL_HEADER, end - step + 1, step):
            yield at, self._read(self._wal, at, _FRAME_HEADER)

    def _find_current(self) -> None:
        if self._wal is None:
            return
        header = self._read(self._wal, 0, _WAL_HEADER)
        if int.from_bytes(header[:4], "big") not in _WAL_MAGIC:
            return
        pending: dict[int, int] = {}
        for at, frame in self._frames():
            if frame[8:16] != header[16:24]:
                break
            pending[int.from_bytes(frame[:4], "big")] = at + _FRAME_HEADER
            if any(frame[4:8]):
                self.current |= pending
                pending = {}

    def _find_size(self) -> int:
        told = int.from_bytes(self.header[16:18], "big")
        told = 65536 if told == 1 else told
        if self.has_header and told in PAGE_SIZES:
            return told
        if self._wal is not None:
            header = self._read(self._wal, 0, _WAL_HEADER)
            told = int.from_bytes(header[8:12], "big")
            if int.from_bytes(header[:4], "big") in _WAL_MAGIC and told in PAGE_SIZES:
                return told
        fitting = {size: self._count_fitting(size) for size in PAGE_SIZES}
        best = max(fitting, key=lambda size: fitting[size])
        return best if fitting[best] else _DEFAULT_SIZE

    def _count_fitting(self, size: int) -> int:
        """How many of some pages spread over the file are leaves, if pages have this size."""
        pages = self._bytes // size
        step = max(1, pages // _SAMPLES)
        return sum(
            fits_page_size(self._read(self._file, number * size, size), size)
            for number in range(1, pages, step)
        )

    def _find_usable(self) -> int:
        reserved = self.header[20] if self.has_header and len(self.header) > 20 else 0
        return self.size - reserved

    @staticmethod
    def _read(file: int, at: int, size: int) -> bytes:
        try:
            return os.pread(file, size, at)
        except OSError:
            return _read_around(file, at, size)


def _read_around(file: int, at: int, size: int) -> bytes:
    """What a failing disk still gives of a page, and zeros for the rest."""
    parts = []
    for start in range(at, at + size, _SECTOR):
        wanted = min(_SECTOR, at + size - start)
        try:
            parts.append(os.pread(file, wanted, start))
        except OSError:
            parts.append(bytes(wanted))
    return b"".join(parts)
