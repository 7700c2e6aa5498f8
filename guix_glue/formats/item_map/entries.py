"""What a map says of one item: its hash part as a number, and a read capability, in 85 bytes.

The number is that of the 32 digits of the hash part, highest byte first, so that entries are in the
same order as hash parts are as text. A capability has 66 bytes; here its block size and level share
one. Whoever has an entry can read the item, so its repr shows nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final, NamedTuple

from eris.base32 import format_base32
from eris.capability import URN_PREFIX, ReadCapability
from eris.errors import InvalidCapability
from eris.model import BlockSize
from guix_glue.errors import GuixError, InvalidStorePath
from guix_glue.formats import nixbase32
from guix_glue.formats.store_path import check_hash_part

__all__ = [
    "ENTRY_SIZE",
    "KEY_SIZE",
    "Entry",
    "InvalidMap",
    "check_order",
    "entry_of",
    "given_entry",
    "hash_part_at",
    "key_of",
    "split_entries",
    "urn_of",
]

KEY_SIZE: Final = 20
_PAIR_SIZE: Final = 64
ENTRY_SIZE: Final = KEY_SIZE + 1 + _PAIR_SIZE
_ENTRY: Final = Struct(f"{KEY_SIZE}s{1 + _PAIR_SIZE}s")
_LARGE: Final = 0x80
_LEVEL: Final = 0x7F


class InvalidMap(GuixError, ValueError):
    """The bytes are no map, or not one that keeps the rules. The message shows no URN."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not a valid map: {reason}")
        self.reason = reason


class Entry(NamedTuple):
    """An item's hash part, 20 bytes, and its capability, 65 bytes, both as a map has them."""

    key: bytes
    value: bytes

    def __repr__(self) -> str:
        return f"<Entry {hash_part_at(self.key)}, redacted>"


def key_of(hash_part: str) -> bytes:
    """The 20 bytes for a hash part. Raises: InvalidStorePath, InvalidEncoding."""
    return nixbase32.decode(check_hash_part(hash_part))[::-1]


def hash_part_at(key: bytes) -> str:
    """The hash part for 20 bytes."""
    return nixbase32.encode(key[::-1])


def entry_of(hash_part: str, urn: str) -> Entry:
    """The entry for an item.

    Raises: InvalidStorePath; InvalidCapability, also for a level above 127, which no content has.
    """
    capability = ReadCapability.from_urn(urn)
    if capability.level > _LEVEL:
        raise InvalidCapability(f"a content of level {capability.level} is in no map")
    large = _LARGE if capability.block_size is BlockSize.LARGE else 0
    reference, key = capability.root
    return Entry(key_of(hash_part), bytes([large | capability.level]) + reference + key)


def given_entry(hash_part: str, urn: str) -> Entry:
    """The entry for what a map in another form says. Raises: InvalidMap, without the URN."""
    try:
        return entry_of(hash_part, urn)
    except InvalidStorePath as error:
        raise InvalidMap(error.reason) from None
    except InvalidCapability as error:
        raise InvalidMap(f"the URN of {hash_part}: {error.reason}") from None


def urn_of(value: bytes) -> str:
    """The URN for 65 bytes of an entry: any of them are one."""
    size = BlockSize.LARGE if value[0] & _LARGE else BlockSize.SMALL
    return URN_PREFIX + format_base32(bytes([size.code, value[0] & _LEVEL]) + value[1:])


def split_entries(data: bytes | memoryview, entry_size: int = ENTRY_SIZE) -> Iterator[Entry]:
    """Take bytes apart into entries; what a longer entry has behind its 85 bytes is passed over.

    Raises: InvalidMap, if the last entry is cut.
    """
    view = memoryview(data)
    if len(view) % entry_size:
        raise InvalidMap("its last entry is cut off")
    if entry_size == ENTRY_SIZE:
        return (Entry(*pair) for pair in _ENTRY.iter_unpack(view))
    starts = range(0, len(view), entry_size)
    return (Entry(*_ENTRY.unpack_from(view, start)) for start in starts)


def check_order(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Give the same entries on. Raises: InvalidMap, where one is not behind the one before."""
    before = b""
    for entry in entries:
        if entry.key <= before and before:
            raise InvalidMap("its entries are not in order, or one item is there twice")
        before = entry.key
        yield entry
