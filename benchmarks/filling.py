"""Stores of many blocks, made without a daemon; and what is then asked of one.

Blocks are known by their numbers. References are made up: what is read is not hashed by the store.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Final

from eris import BlockSize, Reference
from kapla.coap.blocks import block_query, get_options, put_options
from kapla.coap.frame import Code, format_frame
from kapla.storage.postgresql import counts, generations, schema
from kapla.storage.postgresql.filters import Filters
from kapla.storage.postgresql.session import Cursor, Session
from kapla.storage.postgresql.settings import PostgresSettings
from kapla.storage.sqlite.database import SqliteSettings, open_database
from kapla.storage.sqlite.writer import SqliteWriter

__all__ = ["block_of", "fill_database", "fill_file", "get_frames", "made_up", "put_frames"]

_NOISE: Final = random.Random(0).randbytes(1 << 17)
_BATCH: Final = {BlockSize.SMALL: 16384, BlockSize.LARGE: 512}
_CACHE: Final = 1 << 28
_GENERATION: Final = 4 << 30
_STEP: Final = 61
# The server makes them itself, faster than they can be sent: as `made_up` and `block_of` do.
_MAKE: Final = """
INSERT INTO blocks_{} SELECT sha256(int8send(number)), int8send(number)
    || substring(%b FROM (number * %s %% %s)::integer + 1 FOR %s)
FROM generate_series(%s::bigint, %s::bigint) AS number
"""


def made_up(number: int) -> Reference:
    """The reference of a block."""
    return Reference(sha256(number.to_bytes(8, "big")).digest())


def block_of(number: int, size: BlockSize) -> bytes:
    """A block, for little work."""
    start = number * _STEP % (len(_NOISE) - size)
    return number.to_bytes(8, "big") + _NOISE[start : start + size - 8]


def fill_file(path: Path, count: int, size: BlockSize) -> None:
    """Put blocks into a SQLite file."""
    database = open_database(SqliteSettings(path, cache_bytes=_CACHE))
    with closing(SqliteWriter(database)) as writer:
        for part in _parts(count, _BATCH[size]):
            writer.put_many({made_up(number): block_of(number, size) for number in part})
        writer.checkpoint()


def fill_database(url: str, count: int, size: BlockSize) -> None:
    """Put blocks into an empty database, in generations as they would have become.

    With what front ends keep of full ones: the first makes it, and the others read it.
    """
    with closing(Session(PostgresSettings.of(url))) as session:
        session.retried(schema.prepare)
        weight = counts.weight_of(counts.sizes_of({size: 1}))
        for number, part in enumerate(_parts(count, _GENERATION // weight), 1):
            if number > 1:
                session.retried(lambda cursor: generations.turn(cursor, generations.read(cursor)))
            with session.transaction() as cursor:
                _fill(cursor, number, part, size)
        known, filters = session.retried(generations.read), Filters()
        while filters.step(session, known):
            pass
        session.connection.execute("CHECKPOINT")


def _fill(cursor: Cursor, generation: int, numbers: range, size: BlockSize) -> None:
    """A table that was made in the same transaction is not logged, and its index is made last."""
    table = f"blocks_{generation}"
    cursor.execute(f"DROP TABLE {table}".encode())
    schema.make_blocks_table(cursor, generation)
    cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey".encode())
    cursor.execute(
        _MAKE.format(generation).encode(),
        (_NOISE, _STEP, len(_NOISE) - size, size - 8, numbers[0], numbers[-1]),
    )
    cursor.execute(f"ALTER TABLE {table} ADD PRIMARY KEY (reference)".encode())
    counts.add(cursor, generation, counts.sizes_of({size: len(numbers)}))


def _parts(count: int, step: int) -> Iterator[range]:
    for start in range(0, count, step):
        yield range(start, min(start + step, count))


def get_frames(numbers: Iterable[int], size: BlockSize) -> list[bytes]:
    """GETs of blocks."""
    return [
        format_frame(
            Code.GET,
            token.to_bytes(3, "big"),
            get_options((), block_query(made_up(number)), size),
        )
        for token, number in enumerate(numbers)
    ]


def put_frames(blocks: Iterable[bytes]) -> list[bytes]:
    """PUTs of blocks."""
    options = put_options(()) + b"\xff"
    return [
        format_frame(Code.PUT, token.to_bytes(3, "big"), options + block)
        for token, block in enumerate(blocks)
    ]
