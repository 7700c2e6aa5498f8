"""Stores of each kind to run the same tests over."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eris import ErisError, Reference
from kapla.storage.batching import BatchedStorage
from kapla.storage.lending import Lent
from kapla.storage.port import StoreSettings
from kapla.storage.postgresql.settings import PostgresSettings
from kapla.storage.worker import answered
from tests.kapla.storage.databases import batched, get_many, make_blocks, put_many, settings_for

__all__ = [
    "MIB",
    "OWNER",
    "Kind",
    "batched",
    "find",
    "get",
    "keep",
    "lent",
    "list_all",
    "make_blocks",
    "of_database",
    "of_file",
    "put",
]

MIB = 1 << 20
OWNER = 1000


@dataclass(frozen=True)
class Kind:
    """A store of one kind: the same one, however often it is opened."""

    settings: Callable[..., StoreSettings]
    """How it is opened; takes `max_size`, `when_full`, `max_pinned`, `lend_cache`."""
    spoil: Callable[[Reference], None]
    """Makes a stored block a bad one, beside the store."""


def of_file(directory: Path) -> Kind:
    """A file of SQLite."""

    def spoil(name: Reference) -> None:
        with closing(sqlite3.connect(directory / "blocks.sqlite")) as connection, connection:
            block = bytes(1024)
            statement = "UPDATE blocks SET block = ? WHERE reference = ?"
            assert connection.execute(statement, (block, name)).rowcount == 1

    return Kind(lambda **options: settings_for(directory, **options), spoil)


def of_database(url: str, execute: Callable[[str], Any]) -> Kind:
    """A database of PostgreSQL."""

    def spoil(name: Reference) -> None:
        for (number,) in execute("SELECT number FROM generations"):
            execute(
                f"UPDATE blocks_{number} SET block = decode(repeat('00', 1024), 'hex')"
                f" WHERE reference = '\\x{name.hex()}'"
            )

    return Kind(lambda **options: PostgresSettings.of(url, **options), spoil)


async def put(storage: BatchedStorage, blocks: dict[Reference, bytes]) -> None:
    """Have blocks kept, all of them."""
    assert await put_many(storage, list(blocks.values())) is None


async def keep(storage: BatchedStorage, blocks: dict[Reference, bytes], *, lend: bool) -> None:
    """Have blocks of any sizes kept that came from others."""
    error = await answered(lambda done, _: storage.keep(blocks, done, lend=lend))
    assert error is None


async def get(storage: BatchedStorage, names: Sequence[Reference]) -> list[bytes | None]:
    """Ask for blocks."""
    found = await get_many(storage, names)
    assert not isinstance(found, ErisError), found
    return list(found)


async def find(storage: BatchedStorage, names: Sequence[Reference]) -> list[bool]:
    """Ask which blocks are there."""
    return list(await answered(lambda done, _: storage.find_many(names, done)))


async def lent(storage: BatchedStorage, names: Sequence[Reference]) -> list[bool]:
    """Ask, as a stranger, which blocks are there; what is got must be the same."""
    found = list(await answered(lambda done, _: storage.find_many(Lent(names), done)))
    assert [block is not None for block in await get(storage, Lent(names))] == found
    return found


async def list_all(storage: BatchedStorage) -> list[Reference]:
    """All pages of the list."""
    names: list[Reference] = []
    place: int | None = 0
    while place is not None:
        before = place
        found, place = await storage.listing().page(place)
        names += found
        assert place is None or before < place < 1 << 64
    return names
