"""All rows that can be found in the pages of a file, whether or not anything leads to them.

The pages as they are now come first, then those that are free, then what the WAL replaced or never
committed: so what is found first is the newest. A block counts if its hash is its reference. A page
that does not tell its cells any more is searched for what blocks begin with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from pyroaring import BitMap64

from eris.crypto import reference_of
from kapla.storage.sqlite.care.pages import Pages, View
from kapla.storage.sqlite.care.records import (
    Cell,
    DamagedRecord,
    Kind,
    Value,
    carve,
    cells,
    children,
    kind_of,
    read_cell,
    read_record,
)

__all__ = ["DamagedTree", "FoundBlock", "Scan"]

_REFERENCE: Final = 32
_DEEPEST: Final = 20
_LENGTHS: Final = {5 + _REFERENCE + 1024: 1024, 6 + _REFERENCE + 32768: 32768}
"""Of the payloads of blocks."""


class DamagedTree(Exception):
    """A table has pages that cannot be read."""


class FoundBlock(NamedTuple):
    """A row of a block; `block` is None where it is not what its reference says."""

    row: int | None
    reference: bytes
    block: bytes | None
    is_live: bool


class Scan:
    """One look through a file. `bad` is whole after `blocks` has ended."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._free = pages.free()
        self._accounted = BitMap64(self._free)
        self._broken = BitMap64()

    @property
    def bad(self) -> BitMap64:
        """The pages that cannot be read, or hold something that makes no sense."""
        pages = self._pages
        if pages.count < 1:
            return BitMap64([1])
        every = BitMap64()
        every.add_range(1, pages.count + 1)
        unknown = every - self._accounted
        return self._broken | BitMap64(n for n in unknown if not pages.is_no_content(n))

    def blocks(self) -> Iterator[FoundBlock]:
        """Every row of a block, the newest state first; some more than once."""
        pages = self._pages
        for is_free in (False, True):
            for number in range(1, pages.count + 1):
                if (number in self._free) == is_free:
                    page = pages.page(number, pages.current)
                    yield from self._blocks_of(page, number, pages.current, not is_free)
        for number in sorted(pages.current):
            yield from self._blocks_of(pages.page(number, {}), number, {}, False)
        view: dict[int, int] = {}
        for number, at in pages.frames():
            view[number] = at
            if pages.current.get(number) != at:
                yield from self._blocks_of(pages.page(number, view), number, view, False)

    def table(self, root: int) -> Iterator[tuple[int | None, list[Value]]]:
        """The rows of a table or an index, from its root page. Raises: DamagedTree."""
        yield from self._walk(root, _DEEPEST, BitMap64())

    def rows(self, *kinds: int) -> Iterator[tuple[int | None, list[Value]]]:
        """Whatever has the form of a row, in pages of these kinds: the newest state first."""
        pages = self._pages
        for is_free in (False, True):
            for number in range(1, pages.count + 1):
                if (number in self._free) == is_free:
                    yield from self._rows_of(number, pages.current, kinds)
        for number in sorted(pages.current):
            yield from self._rows_of(number, {}, kinds)
        view: dict[int, int] = {}
        for number, at in pages.frames():
            view[number] = at
            yield from self._rows_of(number, view, kinds)

    def _walk(
        self, number: int, depth: int, seen: BitMap64
    ) -> Iterator[tuple[int | None, list[Value]]]:
        pages = self._pages
        page = pages.page(number, pages.current)
        kind = kind_of(page, number)
        if kind is None or number in seen or not depth or len(page) < pages.size:
            raise DamagedTree
        seen.add(number)
        if kind != Kind.TABLE_INNER:
            for at in cells(page, number):
                try:
                    cell = read_cell(page, at, kind, pages.usable)
                    yield cell.row, read_record(self._payload(cell, pages.current))
                except DamagedRecord:
                    raise DamagedTree from None
        if kind in (Kind.TABLE_INNER, Kind.INDEX_INNER):
            for child in children(page, number):
                yield from self._walk(child, depth - 1, seen)

    def _rows_of(
        self, number: int, view: View, kinds: tuple[int, ...]
    ) -> Iterator[tuple[int | None, list[Value]]]:
        page = self._pages.page(number, view)
        kind = kind_of(page, number)
        if kind is None or kind not in kinds:
            return
        for at in cells(page, number):
            try:
                cell = read_cell(page, at, kind, self._pages.usable)
                if cell.length not in _LENGTHS:
                    yield cell.row, read_record(self._payload(cell, view))
            except DamagedRecord:
                continue

    def _blocks_of(
        self, page: bytes, number: int, view: View, is_live: bool
    ) -> Iterator[FoundBlock]:
        kind = kind_of(page, number)
        if kind is not None:
            self._accounted.add(number)
        is_whole = kind is not None
        if kind == Kind.TABLE_LEAF:
            for at in cells(page, number):
                found, is_sense = self._read_block(page, at, view, is_live)
                is_whole &= is_sense
                if found is not None:
                    yield found
        if is_whole:
            return
        if kind is not None and is_live:
            self._broken.add(number)
        for cell in carve(page, self._pages.usable):
            block = self._block(cell, view, is_live)
            if block is not None and block.block is not None:
                yield block

    def _read_block(
        self, page: bytes, at: int, view: View, is_live: bool
    ) -> tuple[FoundBlock | None, bool]:
        """The block in a cell, if it is one, and whether the cell makes sense."""
        try:
            cell = read_cell(page, at, Kind.TABLE_LEAF, self._pages.usable)
            found = self._block(cell, view, is_live)
            if found is None and cell.overflow:
                self._payload(cell, view)  # whose pages are accounted for so
        except DamagedRecord:
            return None, False
        return found, found is None or found.block is not None

    def _block(self, cell: Cell, view: View, is_live: bool) -> FoundBlock | None:
        size = _LENGTHS.get(cell.length)
        if size is None:
            return None
        start = cell.length - size - _REFERENCE
        reference = cell.local[start : start + _REFERENCE]
        for payload in self._payloads(cell, view):
            if reference_of(payload[-size:]) == reference:
                return FoundBlock(cell.row, reference, payload[-size:], is_live)
        is_block = cell.local[1:start].startswith(b"\x00\x4c")
        return FoundBlock(cell.row, reference, None, is_live) if is_block else None

    def _payloads(self, cell: Cell, view: View) -> Iterator[bytes]:
        """What the payload may be: as the pages lead, or as they mostly lie."""
        if not cell.overflow:
            yield cell.local
            return
        for one in (view, {}) if view else (view,):
            for follow in (_pointer, self._neighbour):
                try:
                    yield self._payload(cell, one, follow)
                except DamagedRecord:
                    continue

    def _payload(
        self, cell: Cell, view: View, follow: Callable[[int, bytes], int] | None = None
    ) -> bytes:
        pages, parts, left = self._pages, [cell.local], cell.length - len(cell.local)
        number, used = cell.overflow, []
        while left > 0:
            page = pages.page(number, view) if 2 <= number <= pages.count else b""
            part = page[4 : 4 + min(left, pages.usable - 4)]
            if not part or len(part) < min(left, pages.usable - 4):
                raise DamagedRecord
            parts.append(part)
            used.append(number)
            left -= len(part)
            number = (follow or _pointer)(number, page)
        self._accounted.update(used)
        return b"".join(parts)

    def _neighbour(self, number: int, page: bytes) -> int:
        number += 1
        while self._pages.is_no_content(number):
            number += 1
        return number


def _pointer(number: int, page: bytes) -> int:
    return int.from_bytes(page[:4], "big")
