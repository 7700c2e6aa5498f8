"""Maps: the hash parts of items, sorted, and under which URN each of them is (`docs/formats.md`).

`layout` has the head and the pages, `entries` what is said of one item, `searching` says where to
look for one; `contents` is a whole map in memory. All of it is pure.
"""

from guix_glue.formats.item_map.contents import Contents
from guix_glue.formats.item_map.entries import (
    ENTRY_SIZE,
    KEY_SIZE,
    Entry,
    check_order,
    entry_of,
    given_entry,
    hash_part_at,
    key_of,
    split_entries,
    urn_of,
)
from guix_glue.formats.item_map.layout import (
    DEFAULT_MAP_LIMITS,
    MAGIC,
    MOST_DISPLACED,
    PAGE_SIZE,
    InvalidMap,
    MapFacts,
    MapHead,
    MapLimits,
    Page,
    format_head,
    format_page,
    home_of,
    parse_head,
    parse_page,
)
from guix_glue.formats.item_map.searching import Search

__all__ = [
    "DEFAULT_MAP_LIMITS",
    "ENTRY_SIZE",
    "KEY_SIZE",
    "MAGIC",
    "MOST_DISPLACED",
    "PAGE_SIZE",
    "Contents",
    "Entry",
    "InvalidMap",
    "MapFacts",
    "MapHead",
    "MapLimits",
    "Page",
    "Search",
    "check_order",
    "entry_of",
    "format_head",
    "format_page",
    "given_entry",
    "hash_part_at",
    "home_of",
    "key_of",
    "parse_head",
    "parse_page",
    "split_entries",
    "urn_of",
]
