"""The head of a map, and its pages.

    0   16  "kapla-item-map-1"
    16   4  how many pages there are
    20   2  bytes of an entry, 85 or more
    22   2  bytes of the facts
    24   8  how many entries there are
    32      the facts: lines of text, "Name: value"

All numbers have their lowest byte first. A few entries follow the facts at once, and there are no
pages. Else the head has 32 KiB to itself, and so has each page: it is one leaf of an ERIS content.

    0    4  "page"
    4    2  bytes of an entry
    6    2  how many entries are in it
    8       the entries, in order; behind them zeroes

Which page an item is in follows from its hash part and the number of pages, and that from the root
node of the content: so the page is found without the head. The number of pages depends on how many
entries there are, and a new item changes one page: of two maps that are much the same, most blocks
are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple

from guix_glue.formats.item_map.entries import (
    ENTRY_SIZE,
    Entry,
    InvalidMap,
    check_order,
    split_entries,
)

__all__ = [
    "DEFAULT_MAP_LIMITS",
    "MAGIC",
    "MOST_DISPLACED",
    "PAGE_SIZE",
    "InvalidMap",
    "MapFacts",
    "MapHead",
    "MapLimits",
    "Page",
    "format_head",
    "format_page",
    "home_of",
    "page_counts",
    "parse_head",
    "parse_page",
]

MAGIC: Final = b"kapla-item-map-1"
PAGE_SIZE: Final = 32 * 1024
MOST_DISPLACED: Final = 15
"""How many pages behind its own an entry may be, where many hash parts begin alike."""

_HEAD: Final = Struct("<16sIHHQ")
_PAGE: Final = Struct("<4sHH")
_PAGE_MAGIC: Final = b"page"
_KEY_BITS: Final = 160
_FULL: Final = (PAGE_SIZE - _PAGE.size) // ENTRY_SIZE
# Nine tenths of a page, so that one of some ten has more than it has room for.
_USUAL: Final = 346
# A root with as many pairs, and a node below it with as many.
_ARITY: Final = 512
# Beside the pages there are the head, and the leaf of nothing but padding behind the last one.
_OTHER_LEAVES: Final = 2
_MOST_PAGES: Final = _ARITY * _ARITY - _OTHER_LEAVES
_LONGEST_ENTRY: Final = 1024
_STORE_DIR: Final = "StoreDir"
_TREES: Final = "Trees"


@dataclass(frozen=True, slots=True)
class MapLimits:
    """What a map may cost whoever reads it: a hostile one states any size."""

    count: int = 80_000_000
    """Entries: some hundred times the items of all Guix and Nix servers at a time."""
    facts_size: int = 4096


DEFAULT_MAP_LIMITS: Final = MapLimits()


@dataclass(frozen=True, slots=True)
class MapFacts:
    """What all items of a map have in common; None for what is not said, or is not the same.

    `store_dir` as `/gnu/store`; `trees` is the format of the trees, as `kapla-packed-1 level 19`.
    """

    store_dir: str | None = None
    trees: str | None = None


@dataclass(frozen=True, slots=True)
class MapHead:
    """A head that was read: `size` is that of the head, `entry_size` that of an entry, in bytes."""

    facts: MapFacts
    size: int
    entry_size: int
    count: int
    pages: int

    @property
    def map_size(self) -> int:
        """Bytes of the whole map."""
        if self.pages:
            return (1 + self.pages) * PAGE_SIZE
        return self.size + self.count * self.entry_size


class Page(NamedTuple):
    """The entries of a page, in order, and whether there is room for no more of them."""

    entries: Sequence[Entry]
    is_full: bool


def home_of(key: bytes, pages: int) -> int:
    """The page that an entry belongs in, from 1 on; it may be in one of the next few instead."""
    return 1 + (int.from_bytes(key, "big") * pages >> _KEY_BITS)


def page_counts(keys: Sequence[bytes], head_size: int) -> Sequence[int]:
    """How many entries are in each page; none for few entries, which follow the head.

    `keys` are in order. An entry is in its page, or where that is full in the next with room.
    Raises: InvalidMap, if too many begin alike: no hash parts do; and for too many of them.
    """
    if head_size + len(keys) * ENTRY_SIZE < PAGE_SIZE:
        return ()
    pages = _usual_pages(len(keys))
    while pages <= _MOST_PAGES:
        counts = _filled(keys, pages)
        if counts is not None:
            return counts
        pages = _usual_pages(2 * _USUAL * pages)
    raise InvalidMap("it has more items, or more whose hash parts begin alike, than a map can hold")


def format_head(facts: MapFacts, count: int, pages: int) -> bytes:
    """Write a head. Raises: InvalidMap, if a fact is no line of text or too long."""
    named = {_STORE_DIR: facts.store_dir, _TREES: facts.trees}
    text = _format_facts({name: value for name, value in named.items() if value is not None})
    return _HEAD.pack(MAGIC, pages, ENTRY_SIZE, len(text), count) + text


def format_page(entries: bytes | memoryview) -> bytes:
    """Write a page of entries, which have room in it."""
    count = len(entries) // ENTRY_SIZE
    return (_PAGE.pack(_PAGE_MAGIC, ENTRY_SIZE, count) + entries).ljust(PAGE_SIZE, b"\0")


def parse_head(data: bytes, limits: MapLimits = DEFAULT_MAP_LIMITS) -> MapHead:
    """Read a head; `data` is the beginning of a map, its first 32 KiB if it has so many.

    Raises: InvalidMap.
    """
    if not data.startswith(MAGIC):
        raise InvalidMap("it does not begin as maps do")
    if len(data) < _HEAD.size:
        raise InvalidMap("its head is cut off")
    _, pages, entry_size, facts_size, count = _HEAD.unpack_from(data)
    if not ENTRY_SIZE <= entry_size <= _LONGEST_ENTRY or pages > _MOST_PAGES:
        raise InvalidMap("its head has sizes that no map has")
    if count > limits.count or facts_size > limits.facts_size:
        raise InvalidMap(f"it is larger than is read: more than {limits.count} entries")
    size = _HEAD.size + facts_size
    if len(data) < size:
        raise InvalidMap("its head is cut off")
    return MapHead(_parse_facts(data[_HEAD.size : size]), size, entry_size, count, pages)


def parse_page(data: bytes | memoryview) -> Page:
    """Read a page, of 32 KiB. Raises: InvalidMap."""
    if len(data) != PAGE_SIZE:
        raise InvalidMap("a page is cut off")
    magic, entry_size, count = _PAGE.unpack_from(data)
    if magic != _PAGE_MAGIC or not ENTRY_SIZE <= entry_size <= _LONGEST_ENTRY:
        raise InvalidMap("what should be a page is none")
    end = _PAGE.size + count * entry_size
    if end > PAGE_SIZE:
        raise InvalidMap("a page has more entries than it has room for")
    entries = list(check_order(split_entries(data[_PAGE.size : end], entry_size)))
    return Page(entries, end + entry_size > PAGE_SIZE)


def _usual_pages(count: int) -> int:
    """As many as so many entries need; of more than a root has pairs, what fills all nodes."""
    pages = -(-count // _USUAL)
    leaves = pages + _OTHER_LEAVES
    return pages if leaves <= _ARITY else -(-leaves // _ARITY) * _ARITY - _OTHER_LEAVES


def _filled(keys: Iterable[bytes], pages: int) -> Sequence[int] | None:
    """How many entries are in each page; None if some are too far from their own."""
    counts = [0] * pages
    place = 1
    for key in keys:
        home = home_of(key, pages)
        place = max(place, home)
        while counts[place - 1] == _FULL:
            place += 1
            if place > min(pages, home + MOST_DISPLACED):
                return None
        counts[place - 1] += 1
    return counts


def _format_facts(facts: Mapping[str, str]) -> bytes:
    text = "".join(f"{name}: {value}\n" for name, value in facts.items())
    data = text.encode("utf-8", "surrogateescape")
    if len(text.splitlines()) != len(facts) or len(data) > DEFAULT_MAP_LIMITS.facts_size:
        raise InvalidMap("what is said of all its items is no line of text, or too long")
    return data


def _parse_facts(data: bytes) -> MapFacts:
    """Names that are not known are passed over; of one that is there twice the first counts."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidMap("its facts are no text") from None
    if text and not text.endswith("\n"):
        raise InvalidMap("its facts end within a line")
    facts: dict[str, str] = {}
    for line in text.split("\n")[:-1]:
        name, colon, value = line.partition(": ")
        if not name or not colon or not value.isprintable():
            raise InvalidMap("its facts are no lines of a name and a value")
        facts.setdefault(name, value)
    return MapFacts(facts.get(_STORE_DIR), facts.get(_TREES))
