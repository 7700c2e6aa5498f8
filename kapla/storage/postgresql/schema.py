"""The tables, and their version.

Blocks are in generations, each a table of its own: `blocks_1`, `blocks_2` and so on. New ones go
into the youngest. What makes room is that the oldest is dropped whole, after what must stay of it
was copied into the youngest: so nothing has to be vacuumed. While one leaves, `leaving` says since
which epoch, up to which reference what must stay is copied, and how many blocks that were.
`filters` has the first 32 bits of all references of a full one.

`state` has one row. Its `epoch` changes with the list of the generations, `lent_version` with what
is lent. `fronts` has those who have the store open, and up to which epoch their reads are written.
`reads` tells what was read, as bitmaps of the first 32 bits of references.

What a PUT adds to the totals is a row of `added`, so that no two of them wait for the same row; now
and then these are added up in `totals`.

`pins` are sets of references, in `pin_runs`: sorted, one behind the other. `lent_runs` has what may
be lent without a pin, while its generation is there.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.schema import CreateIndex, CreateTable

from kapla.errors import StorageError
from kapla.storage.postgresql import locks

__all__ = [
    "SCHEMA_VERSION",
    "added",
    "blocks_table",
    "filters",
    "fronts",
    "generations",
    "leaving",
    "lent_runs",
    "make_blocks_table",
    "metadata",
    "pin_runs",
    "pins",
    "prepare",
    "reads",
    "state",
    "totals",
]

SCHEMA_VERSION: Final = 1

metadata = MetaData()

_Time = TIMESTAMP(timezone=True)
_NOW: Final = text("now()")
_NO_VACUUM: Final = "autovacuum_enabled = off, toast.autovacuum_enabled = off"
# The second one keeps any bytes as they are.
_ENCODINGS: Final = ("UTF8", "SQL_ASCII")
# Generations are made and dropped, the first of them long after a start.
_MAY_MAKE: Final = "SELECT has_schema_privilege('public', 'CREATE')"
_OWNS: Final = """
SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'public.kapla_schema'::regclass
"""
_DIALECT: Final = postgresql.dialect()  # type: ignore[no-untyped-call]

kapla_schema = Table("kapla_schema", metadata, Column("version", Integer, nullable=False))

state = Table(
    "state",
    metadata,
    Column("epoch", BigInteger, nullable=False),
    Column("lent_version", BigInteger, nullable=False),
    # Not used any more, as in `leaving`: the first databases have it.
    Column("kept_version", BigInteger, nullable=False),
    # When a generation was last dropped.
    Column("dropped", _Time),
)

generations = Table(
    "generations",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    # filling | full | leaving
    Column("status", Text, nullable=False),
    Column("created", _Time, nullable=False, server_default=_NOW),
)

added = Table(
    "added",
    metadata,
    Column("generation", Integer, nullable=False),
    Column("small", BigInteger, nullable=False),
    Column("large", BigInteger, nullable=False),
)

totals = Table(
    "totals",
    metadata,
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("small", BigInteger, nullable=False),
    Column("large", BigInteger, nullable=False),
)

leaving = Table(
    "leaving",
    metadata,
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("kept_version", BigInteger, nullable=False),
    Column("spares_read", Boolean, nullable=False),
    Column("copied", LargeBinary, nullable=False),
    Column("small", BigInteger, nullable=False),
    Column("large", BigInteger, nullable=False),
)

filters = Table(
    "filters",
    metadata,
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("bits", LargeBinary, nullable=False),
)

reads = Table(
    "reads",
    metadata,
    # The youngest generation at that time.
    Column("generation", Integer, nullable=False),
    Column("bits", LargeBinary, nullable=False),
)

fronts = Table(
    "fronts",
    metadata,
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("seen", _Time, nullable=False, server_default=_NOW),
)

pins = Table(
    "pins",
    metadata,
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    Column("owner", BigInteger, nullable=False),
    # NULL while it is open.
    Column("name", Text(collation="C")),
    Column("root", LargeBinary),
    Column("keep", Boolean, nullable=False),
    Column("lend", Boolean, nullable=False),
    Column("created", BigInteger, nullable=False),
    # Of an open one, by what another front end knows it; of a closed one, what it was.
    Column("token_hash", LargeBinary),
    # Of an open one: the front end that has it, and until when, if it says nothing more.
    Column("holder", LargeBinary),
    Column("leased_until", _Time),
    # Blocks of a closed one: small and large ones that were there, and those that it lacked.
    Column("small", BigInteger, nullable=False, server_default="0"),
    Column("large", BigInteger, nullable=False, server_default="0"),
    Column("missing", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("owner", "name"),
)

pin_runs = Table(
    "pin_runs",
    metadata,
    Column("pin", BigInteger, ForeignKey("pins.number", ondelete="CASCADE"), nullable=False),
    Column("lacking", Boolean, nullable=False),
    # The size of its blocks, where that is known.
    Column("size", Integer),
    Column("first", LargeBinary, nullable=False),
    Column("last", LargeBinary, nullable=False),
    Column("names", LargeBinary, nullable=False),
    Index("pin_runs_of_pin", "pin"),
    Index("pin_runs_in_order", "first", "last"),
)

lent_runs = Table(
    "lent_runs",
    metadata,
    Column("generation", Integer, nullable=False),
    # By which transaction: so what is new is found by who has read the others.
    Column(
        "written",
        BigInteger,
        nullable=False,
        server_default=text("pg_current_xact_id()::text::bigint"),
    ),
    Column("names", LargeBinary, nullable=False),
    Index("lent_runs_in_order", "written"),
    Index("lent_runs_of_generation", "generation"),
)


def blocks_table(number: int) -> Table:
    """The table of a generation's blocks."""
    return Table(
        f"blocks_{number}",
        MetaData(),
        Column("reference", LargeBinary, primary_key=True),
        Column("block", LargeBinary, nullable=False),
    )


def make_blocks_table(cursor: psycopg.Cursor[Any], number: int) -> None:
    """Make the table of a generation."""
    table = blocks_table(number)
    cursor.execute(_ddl(CreateTable(table)))
    # Blocks are ciphertext: to try to make them smaller would be in vain.
    cursor.execute(f"ALTER TABLE {table.name} ALTER block SET STORAGE EXTERNAL".encode())
    # Rows come, and go with the table: until their numbers run out there is nothing to clean up,
    # and the server sees to that whatever is said here.
    cursor.execute(f"ALTER TABLE {table.name} SET ({_NO_VACUUM})".encode())


def prepare(cursor: psycopg.Cursor[Any], *, may_make: bool = True) -> None:
    """Make the tables, unless they are there; within a transaction.

    Raises: StorageError, if they are of another version, or this is no database for them.
    """
    cursor.execute(locks.exclusive(locks.SCHEMA).encode())
    cursor.execute("SELECT current_setting('server_encoding')")
    encoding = _only(cursor)
    if encoding not in _ENCODINGS:
        raise StorageError(
            f"its encoding is {encoding}, which has not all letters that names of pins may have:"
            " make one with createdb --encoding UTF8 --template template0"
        )
    cursor.execute("SELECT to_regclass('public.kapla_schema') IS NULL")
    is_empty = _only(cursor)
    if is_empty and not may_make:
        raise StorageError("there is no store in this database")
    if may_make:
        _check_rights(cursor, is_empty=is_empty)
    if is_empty:
        _make(cursor)
        return
    cursor.execute("SELECT max(version) FROM kapla_schema")
    version = _only(cursor)
    if version != SCHEMA_VERSION:
        raise StorageError(
            f"its tables are of version {version}, and this program knows {SCHEMA_VERSION}:"
            " use the newer program"
        )


def _check_rights(cursor: psycopg.Cursor[Any], *, is_empty: bool) -> None:
    if not _only(cursor.execute(_MAY_MAKE)):
        raise StorageError(
            "permission denied for schema public: the role is to own the database, or to have the"
            " right CREATE there"
        )
    if not is_empty and not _only(cursor.execute(_OWNS)):
        raise StorageError(
            "permission denied for its tables: the role is to own them, as after pg_restore"
            " --no-owner --role"
        )


def _make(cursor: psycopg.Cursor[Any]) -> None:
    cursor.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    if _only(cursor):
        raise StorageError("this database has tables of something else: give Kapla one of its own")
    for table in metadata.sorted_tables:
        cursor.execute(_ddl(CreateTable(table)))
        for index in sorted(table.indexes, key=lambda one: str(one.name)):
            cursor.execute(_ddl(CreateIndex(index)))
    # Runs are read whole, and references cannot be made smaller.
    for column in (
        "pin_runs ALTER names",
        "lent_runs ALTER names",
        "reads ALTER bits",
        "filters ALTER bits",
    ):
        cursor.execute(f"ALTER TABLE {column} SET STORAGE EXTERNAL".encode())
    cursor.execute("INSERT INTO state VALUES (1, 1, 1, NULL)")
    cursor.execute("INSERT INTO generations VALUES (1, 'filling')")
    make_blocks_table(cursor, 1)
    cursor.execute("INSERT INTO kapla_schema VALUES (%s)", (SCHEMA_VERSION,))


def _ddl(statement: CreateTable | CreateIndex) -> bytes:
    return str(statement.compile(dialect=_DIALECT)).encode()


def _only(cursor: psycopg.Cursor[Any]) -> Any:
    """The one value of a result that has one row."""
    row = cursor.fetchone()
    assert row is not None
    return row[0]
