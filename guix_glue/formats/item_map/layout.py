"""The head of a map, which says all that it takes to find an entry by its place.

    0   16  "kapla-item-map-1"
    16   4  where the entries begin
    20   2  bytes of an entry, 85 or more
    22   1  k: there are 2^k - 1 steps
    23   1  0
    24   8  how many entries there are
    32   2  bytes of the facts
    34      the facts: lines of text, "Name: value"
            the steps, 4 bytes each: how many entries are before each multiple of 2^(160 - k)

All numbers have their lowest byte first. The head is within the first leaf of a content, so that it
costs one block; the steps are there so that a place is known to a few entries, however many there
are. The same entries and facts always make the same bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from struct import Struct
from typing import Final

from guix_glue.formats.item_map.entries import ENTRY_SIZE, InvalidMap

__all__ = [
    "DEFAULT_MAP_LIMITS",
    "KEY_BITS",
    "LARGEST_HEAD",
    "MAGIC",
    "InvalidMap",
    "MapFacts",
    "MapHead",
    "MapLimits",
    "format_head",
    "parse_head",
    "steps_for",
]

MAGIC: Final = b"kapla-item-map-1"
LARGEST_HEAD: Final = 32 * 1024
"""Bytes before the first entry, at most: one leaf."""
KEY_BITS: Final = 160

_FIXED: Final = Struct("<16sIHBxQH")
_STEP_SIZE: Final = 4
_MOST_STEPS: Final = 12
# Entries between two steps, at least: fewer would cost more than the leaf that they are in.
_LEAST_STEP: Final = 256
_LONGEST_ENTRY: Final = 1024
_STORE_DIR: Final = "StoreDir"
_TREES: Final = "Trees"


@dataclass(frozen=True, slots=True)
class MapLimits:
    """What a map may cost whoever reads it: a hostile one states any size."""

    count: int = 100_000_000
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
    """A head that was read: `start` and `entry_size` in bytes.

    `steps` has 2^k + 1 numbers, from 0 to `count`: number n is how many entries have a hash part
    below n · 2^(160 - k).
    """

    facts: MapFacts
    start: int
    entry_size: int
    count: int
    steps: Sequence[int] = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of the whole map."""
        return self.start + self.count * self.entry_size


def steps_for(count: int) -> int:
    """The k of a map with so many entries."""
    return min(_MOST_STEPS, max(0, (count // _LEAST_STEP).bit_length() - 1))


def format_head(facts: MapFacts, keys: Sequence[bytes]) -> bytes:
    """Write the head of a map with these keys, which are in order.

    Raises: InvalidMap, if a fact is no line of text or too long.
    """
    named = {_STORE_DIR: facts.store_dir, _TREES: facts.trees}
    text = _format_facts({name: value for name, value in named.items() if value is not None})
    count = len(keys)
    k = steps_for(count)
    shift = KEY_BITS - k
    bounds = ((n << shift).to_bytes(KEY_BITS // 8, "big") for n in range(1, 1 << k))
    steps = b"".join(bisect_left(keys, bound).to_bytes(_STEP_SIZE, "little") for bound in bounds)
    start = _FIXED.size + len(text) + len(steps)
    return _FIXED.pack(MAGIC, start, ENTRY_SIZE, k, count, len(text)) + text + steps


def parse_head(data: bytes, limits: MapLimits = DEFAULT_MAP_LIMITS) -> MapHead:
    """Read a head; `data` is the beginning of a map, its first 32 KiB if it has so many.

    Raises: InvalidMap.
    """
    if not data.startswith(MAGIC):
        raise InvalidMap("it does not begin as maps do")
    if len(data) < _FIXED.size:
        raise InvalidMap("its head is cut off")
    _, start, entry_size, k, count, facts_size = _FIXED.unpack_from(data)
    if not ENTRY_SIZE <= entry_size <= _LONGEST_ENTRY or k > _MOST_STEPS:
        raise InvalidMap("its head has sizes that no map has")
    if count > limits.count or facts_size > limits.facts_size:
        raise InvalidMap(f"it is larger than is read: more than {limits.count} entries")
    steps_at = _FIXED.size + facts_size
    steps_end = steps_at + ((1 << k) - 1) * _STEP_SIZE
    if not steps_end <= start <= LARGEST_HEAD or len(data) < start:
        raise InvalidMap("its head does not end where it says")
    facts = _parse_facts(data[_FIXED.size : steps_at])
    places = range(steps_at, steps_end, _STEP_SIZE)
    found = (int.from_bytes(data[at : at + _STEP_SIZE], "little") for at in places)
    steps = (0, *found, count)
    if any(after < before for before, after in pairwise(steps)):
        raise InvalidMap("its steps are not in order")
    return MapHead(facts, start, entry_size, count, steps)


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
