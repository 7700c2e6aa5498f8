"""Reading a range out of a row, whole spans of it or single units.

Spans and units are shared by all who read (`Shared`), so reads may come at once and out of order.
Of a range some spans are under way at a time. A span that fails does so for the block that fails:
whoever wants other bytes of it gets these by units.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple

from eris.errors import BlockNotFound, ContentError
from eris_fs.reader.lru import LeastRecent
from eris_fs.reader.rows import Row
from eris_fs.reader.shared import Claim, Shared, Start

__all__ = ["Part", "Spans", "spans_of"]

_AT_ONCE: Final = 8 * 1024 * 1024
"""Bytes of one read that are under way at a time: as many as `eris.get_content` has."""

_BROKEN: Final = 256 * 1024
"""Bytes of table for spans that failed, about a thousand of them."""

_READS_BY_UNITS: Final = 64
"""Reads of a span that failed until it is tried as a whole again."""


class Part(NamedTuple):
    """Some units of a row: a span of it, or one unit."""

    row: Row
    first: int
    units: int

    @property
    def start(self) -> int:
        """The byte of the row where it begins."""
        return self.first * self.row.unit

    @property
    def size(self) -> int:
        """Its bytes, if the row does not end before."""
        return self.units * self.row.unit


def spans_of(row: Row, start: int, stop: int) -> Iterator[Part]:
    """The spans that bytes `start` up to `stop` of a row are in."""
    size = row.unit * row.span
    stop = min(stop, row.limit)
    for number in range(start // size, -(-stop // size)):
        yield Part(row, number * row.span, row.span)


class Spans:
    """Reads of rows, which keep what they bring in `data`."""

    def __init__(self, data: Shared[bytes]) -> None:
        self._data = data
        self._broken: LeastRecent[int] = LeastRecent(_BROKEN)

    async def read(
        self,
        row: Row,
        start: int,
        stop: int,
        *,
        in_order: bool = False,
        ahead: Iterable[Part] = (),
    ) -> bytes:
        """Read bytes `start` up to `stop` of a row; fewer where it ends.

        With `in_order` whole spans are fetched for it. What `ahead` gives is fetched too, as far as
        there is room, once everything for this read is asked for.
        Raises: BlockNotFound, ContentError, StoreError.
        """
        part = self._only(row, start, stop, in_order)
        if part is None:
            return await self._read_parts(row, start, stop, in_order, ahead)
        # By far the most common read: what it wants is in one part.
        content = self._data.kept.get(_key(part))
        if content is not None:
            self.fetch_ahead(ahead)
        else:
            claim = self._claim(part)
            try:
                self.fetch_ahead(ahead)
                content = await claim.future
            except (BlockNotFound, ContentError):
                if not self._may_mend(part, start, stop):
                    raise
                return await self.read(row, start, stop)
            finally:
                claim.release()
        return content[start - part.start : stop - part.start]

    async def _read_parts(
        self, row: Row, start: int, stop: int, in_order: bool, ahead: Iterable[Part]
    ) -> bytes:
        contents: list[bytes] = []
        claims: deque[tuple[Part, Claim[bytes]]] = deque()
        wanted = self._parts(row, start, stop, in_order)
        under_way = 0
        try:
            while True:
                for part in wanted:
                    claims.append((part, self._claim(part)))
                    under_way += part.size
                    if under_way >= _AT_ONCE:
                        break
                self.fetch_ahead(ahead)
                ahead = ()
                if not claims:
                    break
                part, claim = claims[0]
                at = part.start
                try:
                    content = await claim.future
                except (BlockNotFound, ContentError):
                    if not self._may_mend(part, start, stop):
                        raise
                    at = max(start, at)
                    content = await self.read(row, at, min(stop, part.start + part.size))
                claims.popleft()[1].release()
                under_way -= part.size
                contents.append(content[max(0, start - at) : stop - at])
                if at + len(content) < min(stop, part.start + part.size):
                    break
        finally:
            for _, claim in claims:
                claim.release()
        return contents[0] if len(contents) == 1 else b"".join(contents)

    async def unit(self, row: Row, number: int) -> bytes:
        """Read one unit.

        Raises: as `read`.
        """
        return await self.read(row, number * row.unit, (number + 1) * row.unit)

    def fetch_ahead(self, parts: Iterable[Part]) -> None:
        """Have parts fetched for nobody yet, as far as there is room."""
        for part in parts:
            if _key(part) in self._broken:
                continue
            if not self._data.fetch_ahead(_key(part), self._start(part), part.size):
                return

    def has(self, part: Part) -> bool:
        """Whether a part is there or under way."""
        return self._data.has(_key(part))

    def _claim(self, part: Part) -> Claim[bytes]:
        return self._data.claim(_key(part), self._start(part))

    def _start(self, part: Part) -> Callable[[], Start[bytes]]:
        kept, key = self._data.kept, part.row.key
        return partial(
            part.row.start, part.first, part.units, lambda unit: kept.pop((key, unit, 1))
        )

    def _only(self, row: Row, start: int, stop: int, in_order: bool) -> Part | None:
        """The one part that a range is in, if there is one."""
        size = row.unit * row.span
        number = start // size
        if stop > (number + 1) * size:
            return None
        span = Part(row, number * row.span, row.span)
        if row.span == 1 or self._is_whole(span, stop - start, in_order):
            return span
        unit = start // row.unit
        return Part(row, unit, 1) if stop <= (unit + 1) * row.unit else None

    def _is_whole(self, span: Part, length: int, in_order: bool) -> bool:
        """Whether all of a span is fetched for so many bytes in it."""
        # Whoever wants the half of it gets it all, in one.
        if not (in_order or 2 * length >= span.size or self.has(span)):
            return False
        return not self._is_broken(span)

    def _parts(self, row: Row, start: int, stop: int, in_order: bool) -> Iterator[Part]:
        """What to fetch for a range, one by one, as that may depend on what is there meanwhile."""
        for span in spans_of(row, start, stop):
            first, last = max(start, span.start), min(stop, row.limit, span.start + span.size)
            if span.units == 1 or self._is_whole(span, last - first, in_order):
                yield span
            else:
                for unit in range(first // row.unit, -(-last // row.unit)):
                    yield Part(row, unit, 1)

    def _may_mend(self, part: Part, start: int, stop: int) -> bool:
        """Whether what is wanted of a part that failed may be had by units; notes the failure."""
        if part.units == 1 or start <= part.start < part.start + part.size <= stop:
            return False
        self._broken.put(_key(part), _READS_BY_UNITS, 0)
        return True

    def _is_broken(self, span: Part) -> bool:
        left = self._broken.get(_key(span))
        if left is None:
            return False
        if left:
            self._broken.put(_key(span), left - 1, 0)
        else:
            self._broken.discard(_key(span))
        return True


def _key(part: Part) -> tuple[object, int, int]:
    return part.row.key, part.first, part.units
