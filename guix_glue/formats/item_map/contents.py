"""A whole map in memory: 85 bytes an item, in order, however it was read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from guix_glue.formats.item_map.entries import (
    ENTRY_SIZE,
    KEY_SIZE,
    Entry,
    check_order,
    key_of,
    split_entries,
    urn_of,
)
from guix_glue.formats.item_map.layout import (
    DEFAULT_MAP_LIMITS,
    MOST_DISPLACED,
    PAGE_SIZE,
    InvalidMap,
    MapFacts,
    MapHead,
    MapLimits,
    format_head,
    format_page,
    home_of,
    page_counts,
    parse_head,
    parse_page,
)

__all__ = ["Contents"]


class Contents:
    """The entries of a map: `data` is these, in order, and no two of one item."""

    def __init__(self, facts: MapFacts, data: bytes | memoryview) -> None:
        self.facts = facts
        self._data = memoryview(data)

    @classmethod
    def of(cls, facts: MapFacts, entries: Iterable[Entry]) -> Contents:
        """Gather entries in any order. Raises: InvalidMap, if two are of one item."""
        ordered = check_order(sorted(entries))
        return cls(facts, b"".join(part for entry in ordered for part in entry))

    @classmethod
    def parse(cls, data: bytes, limits: MapLimits = DEFAULT_MAP_LIMITS) -> Contents:
        """Read the bytes of a map, all of them. Raises: InvalidMap."""
        head = parse_head(data[:PAGE_SIZE], limits)
        if len(data) != head.map_size:
            raise InvalidMap("it is longer or shorter than it says")
        entries = b"".join(part for entry in check_order(_entries(head, data)) for part in entry)
        if len(entries) != head.count * ENTRY_SIZE:
            raise InvalidMap("it has more or fewer entries than it says")
        return cls(head.facts, entries)

    def __len__(self) -> int:
        return len(self._data) // ENTRY_SIZE

    def __iter__(self) -> Iterator[Entry]:
        return split_entries(self._data)

    def __repr__(self) -> str:
        return f"<Contents of {len(self)} items, redacted>"

    def find(self, hash_part: str) -> str | None:
        """The URN of an item. Raises: InvalidStorePath."""
        key = key_of(hash_part)
        keys = _Keys(self._data)
        place = bisect_left(keys, key)
        if place == len(self) or keys[place] != key:
            return None
        (entry,) = split_entries(self._data[place * ENTRY_SIZE : (place + 1) * ENTRY_SIZE])
        return urn_of(entry.value)

    def format(self) -> Iterator[bytes | memoryview]:
        """Write it as a map, in pieces. Raises: InvalidMap."""
        size = len(format_head(self.facts, len(self), 0))
        counts = page_counts(_Keys(self._data), size)
        head = format_head(self.facts, len(self), len(counts))
        if not counts:
            yield head
            yield self._data
            return
        yield head.ljust(PAGE_SIZE, b"\0")
        start = 0
        for count in counts:
            stop = start + count * ENTRY_SIZE
            yield format_page(self._data[start:stop])
            start = stop


def _entries(head: MapHead, data: bytes) -> Iterator[Entry]:
    """All entries, where they are. Raises: InvalidMap, for one that is not in a page of its own."""
    if not head.pages:
        yield from split_entries(memoryview(data)[head.size :], head.entry_size)
    view = memoryview(data)
    for page in range(1, head.pages + 1):
        entries = parse_page(view[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]).entries
        for entry in entries:
            if not 0 <= page - home_of(entry.key, head.pages) <= MOST_DISPLACED:
                raise InvalidMap("an entry is not in the page where it should be")
        yield from entries


class _Keys(Sequence[bytes]):
    """The keys of entries, to be looked at in place."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data) // ENTRY_SIZE

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return bytes(self._data[index * ENTRY_SIZE :][:KEY_SIZE])
