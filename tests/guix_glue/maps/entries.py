"""Entries and maps for tests, the same each time."""

from __future__ import annotations

import random
from collections.abc import Iterable

from eris.capability import ReadCapability
from eris.model import BlockSize, Key, Reference, ReferenceKeyPair
from guix_glue.formats.item_map import ENTRY_SIZE, KEY_SIZE, Contents, Entry, MapFacts, hash_part_at

__all__ = ["FACTS", "a_urn", "contents", "entries", "formatted", "hash_parts"]

FACTS = MapFacts("/gnu/store", "kapla-packed-1 level 19")


def a_urn(seed: int = 0) -> str:
    """Some URN."""
    source = random.Random(seed)
    pair = ReferenceKeyPair(Reference(source.randbytes(32)), Key(source.randbytes(32)))
    return ReadCapability(BlockSize.LARGE, 1, pair).to_urn()


def entries(count: int, seed: int = 0) -> list[Entry]:
    """So many, in order, spread as evenly as hash parts are."""
    source = random.Random(seed)
    value = ENTRY_SIZE - KEY_SIZE
    return sorted(Entry(source.randbytes(KEY_SIZE), source.randbytes(value)) for _ in range(count))


def contents(count: int, seed: int = 0) -> Contents:
    """The same as a map."""
    return Contents.of(FACTS, entries(count, seed))


def formatted(found: Iterable[Entry]) -> bytes:
    """The bytes of a map."""
    return b"".join(Contents.of(FACTS, found).format())


def hash_parts(count: int, seed: int = 1) -> list[str]:
    """Hash parts of other items."""
    return [hash_part_at(one.key) for one in entries(count, seed)]
