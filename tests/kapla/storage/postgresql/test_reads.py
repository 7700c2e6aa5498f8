"""What one front end noted as read, until the database knows it."""

from __future__ import annotations

import psycopg
from pyroaring import BitMap

from kapla.storage.opening import open_backend
from kapla.storage.postgresql import reads as stored
from kapla.storage.postgresql.reads import Reads, number_of
from kapla.storage.postgresql.settings import PostgresSettings
from tests.kapla.storage.contract.stores import make_blocks

NAMES = list(make_blocks(10))
NUMBERS = BitMap(map(number_of, NAMES))


def noted() -> Reads:
    reads = Reads()
    reads.add(NAMES)
    return reads


def test_what_is_read_is_written_once() -> None:
    reads = noted()
    assert reads.unwritten() == NUMBERS
    # Meanwhile another one.
    reads.add([b"\xff" * 32])
    reads.written(NUMBERS, 1)
    reads.add(NAMES)
    assert reads.unwritten() == BitMap([0xFFFFFFFF])
    reads.written(reads.unwritten(), 1)


def test_what_is_read_before_a_new_generation_is_noticed_is_not_lost() -> None:
    reads = noted()
    reads.written(reads.unwritten(), 1)
    # The second one has begun, and nobody here knows.
    reads.add(NAMES)
    assert not reads.unwritten()
    reads.forget(2)
    assert reads.unwritten() == NUMBERS


def test_what_was_written_under_an_older_generation_is_written_again() -> None:
    reads = noted()
    numbers = reads.unwritten()
    # While the database was told of the first one.
    reads.forget(2)
    reads.written(numbers, 1)
    reads.add(NAMES)
    assert reads.unwritten() == NUMBERS


def test_many_rows_become_few_and_tell_the_same(postgres_url: str) -> None:
    open_backend(PostgresSettings.of(postgres_url)).close()
    with psycopg.connect(postgres_url) as connection, connection.cursor(binary=True) as cursor:
        for number in range(1000):
            stored.write(cursor, BitMap([number, 7 * number]), 1 + number % 2)
        expected = BitMap(range(1000)) | BitMap(range(0, 7000, 7))
        for _ in range(2):
            assert stored.load(cursor) == expected
        cursor.execute("SELECT generation, bits FROM reads ORDER BY generation")
        rows: dict[int, bytes] = dict(cursor.fetchall())
        assert list(rows) == [1, 2]
        assert BitMap.deserialize(rows[2]) == BitMap(range(1, 1000, 2)) | BitMap(range(7, 7000, 14))
        # The first one is long ago.
        cursor.execute("UPDATE generations SET number = 5")
        assert stored.load(cursor) == BitMap()
