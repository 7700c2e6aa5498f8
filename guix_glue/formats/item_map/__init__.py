"""Maps: the hash parts of items, sorted, and under which URN each of them is (`docs/formats.md`).

`layout` reads and writes the head, `entries` what is said of one item, `searching` says where to
look for one; `contents` is a whole map in memory. All of it is pure.
"""

from guix_glue.formats.item_map.contents import Contents
from guix_glue.formats.item_map.entries import (
    ENTRY_SIZE,
    KEY_SIZE,
    Entry,
    check_order,
    entry_of,
    hash_part_at,
    key_of,
    split_entries,
    urn_of,
)
from guix_glue.formats.item_map.layout import (
    DEFAULT_MAP_LIMITS,
    LARGEST_HEAD,
    MAGIC,
    InvalidMap,
    MapFacts,
    MapHead,
    MapLimits,
    format_head,
    parse_head,
)
from guix_glue.formats.item_map.searching import Search, Window, first_guess

__all__ = [
    "DEFAULT_MAP_LIMITS",
    "ENTRY_SIZE",
    "KEY_SIZE",
    "LARGEST_HEAD",
    "MAGIC",
    "Contents",
    "Entry",
    "InvalidMap",
    "MapFacts",
    "MapHead",
    "MapLimits",
    "Search",
    "Window",
    "check_order",
    "entry_of",
    "first_guess",
    "format_head",
    "hash_part_at",
    "key_of",
    "parse_head",
    "split_entries",
    "urn_of",
]
