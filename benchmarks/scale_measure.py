"""Measures what benchmarks.scale reckons with: what blocks take, and what a look-up costs.

The tables are the store's own, and so is what is done with them, without a daemon.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

from benchmarks.filling import block_of, made_up
from benchmarks.fronts import ServerClock
from benchmarks.scale import Room
from eris import BlockSize
from kapla.storage.opening import open_backend
from kapla.storage.port import Backend, Reader
from kapla.storage.postgresql import generations
from kapla.storage.postgresql.session import Session
from kapla.storage.postgresql.settings import PostgresSettings
from tests.postgres import Server

__all__ = ["lookups", "rooms"]

_COUNTS: Final = {BlockSize.SMALL: 100_000, BlockSize.LARGE: 3_000}
_ROUND: Final = {BlockSize.SMALL: 512, BlockSize.LARGE: 64}
_GENERATIONS: Final = (1, 4, 16, 64)
_LOOKED_IN: Final = 100_000
_LOOKED_FOR: Final = 64
_LOOKS: Final = 100
_FEW: Final = 100
_SIZES: Final = """
SELECT pg_relation_size(oid), pg_indexes_size(oid),
    coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0)
FROM pg_class WHERE oid = 'blocks_1'::regclass
"""
_WAL: Final = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"


def rooms(server: Server) -> tuple[dict[BlockSize, Room], float]:
    """What a block of each size takes, and the image of a page of an index in the WAL: bytes."""
    with _Store.opened(server) as store:
        small = store.room(BlockSize.SMALL)
        image = store.image(small)
    with _Store.opened(server) as store:
        return {BlockSize.SMALL: small, BlockSize.LARGE: store.room(BlockSize.LARGE)}, image


def lookups(server: Server) -> dict[int, float]:
    """Microseconds of the server's processor time for a block of 1 KiB, by number of generations.

    It is there, and 64 are asked for at once.
    """
    found = {}
    for count in _GENERATIONS:
        with _Store.opened(server) as store:
            store.fill(count)
            found[count] = round(store.lookup(server, count), 1)
    return found


class _Store:
    """An empty store, and a session of its own beside it."""

    def __init__(self, settings: PostgresSettings, backend: Backend) -> None:
        self._settings, self._backend = settings, backend
        self._session = Session(settings)

    @classmethod
    @contextmanager
    def opened(cls, server: Server) -> Iterator[_Store]:
        settings = PostgresSettings.of(server.make_database())
        with closing(open_backend(settings)) as backend:
            store = cls(settings, backend)
            with closing(store._session):
                yield store

    def room(self, size: BlockSize) -> Room:
        """What a block takes."""
        count = _COUNTS[size]
        self._ask("CHECKPOINT")
        self._put(range(count), size)
        # Each page of the index has been written whole since the checkpoint.
        wal = self._logged(range(count, 2 * count), size) / count
        heap, index, toast = self._ask(_SIZES)
        return Room(heap / (2 * count), index / (2 * count), toast / (2 * count), wal)

    def image(self, room: Room) -> float:
        """So few blocks after a checkpoint that each has a page of the index to itself."""
        self._ask("CHECKPOINT")
        first = 2 * _COUNTS[BlockSize.SMALL]
        return self._logged(range(first, first + _FEW), BlockSize.SMALL) / _FEW - room.wal

    def fill(self, count: int) -> None:
        """Fill so many generations alike."""
        for place in range(count):
            if place:
                self._turn()
            self._put(_part(count, place), BlockSize.SMALL)

    def lookup(self, server: Server, count: int) -> float:
        """What a block costs that is in any of so many generations."""
        source = random.Random(count)
        numbers = range(_part(count, count - 1).stop)
        with closing(self._backend.reader()) as reader:
            _look(reader, source.sample(numbers, _LOOKED_FOR))
            clock = ServerClock(server)
            for _ in range(_LOOKS):
                _look(reader, source.sample(numbers, _LOOKED_FOR))
            return clock.seconds() / _LOOKS / _LOOKED_FOR * 1e6

    def _turn(self) -> None:
        self._session.retried(lambda cursor: generations.turn(cursor, generations.read(cursor)))

    def _logged(self, numbers: range, size: BlockSize) -> int:
        """Put blocks; returns how much WAL that was."""
        (before,) = self._ask(_WAL)
        self._put(numbers, size)
        (after,) = self._ask(_WAL)
        return int(after - before)

    def _put(self, numbers: range, size: BlockSize) -> None:
        with closing(self._backend.writer()) as writer:
            for start in range(numbers.start, numbers.stop, _ROUND[size]):
                part = range(start, min(start + _ROUND[size], numbers.stop))
                writer.put_many({made_up(number): block_of(number, size) for number in part})

    def _ask(self, statement: str) -> tuple[Any, ...]:
        cursor = self._session.connection.execute(statement.encode())
        row: tuple[Any, ...] | None = cursor.fetchone() if cursor.description else ()
        assert row is not None
        return row


def _part(count: int, place: int) -> range:
    """The numbers of the blocks in one of so many generations."""
    each = _LOOKED_IN // count
    return range(place * each, (place + 1) * each)


def _look(reader: Reader, numbers: list[int]) -> None:
    found = reader.get_many([made_up(number) for number in numbers])
    if len(found) != len(numbers):
        raise RuntimeError(f"{len(found)} blocks instead of {len(numbers)}")
