"""The tables, their version, and how older ones become newer ones.

Blocks are appended in the order of their arrival. They are found by the first eight bytes of their
reference, as a signed integer: `places` is a quarter of the size of an index over whole references,
and references are evenly spread, so two blocks share a prefix about never. Where they do, the
reference itself decides; there is one writer, which looks before it inserts. New blocks are in
`recent`, a log that `kapla.storage.sqlite.recent` keeps in memory too, until they move to `places`.

`totals` is kept up to date with every commit: counting millions of rows takes seconds, and the
quota and `kapla stat` ask often.

`pins` are named sets of blocks. What a pin holds stands in two bitmaps of ids, `small` and `large`
by the size of the block (`kapla.storage.sqlite.keeping.ids`); `wanted` has the references that it
lacks, and `arrivals` what of these came since the bitmaps were last written. The one that a store
got when it came to have pins holds all that there was: its sizes are known in sum only
(`before_small`, `before_large`), and all the ids that it began with stand in `small`. `lent` has
one row: what may be lent while it is kept without a pin.

`upkeep` holds what `kapla.storage.sqlite.notes` names: how far moving and rebuilding have come.
`places`, `recent`, `totals` and `upkeep` follow from `blocks`, and are made anew where they are
damaged (`kapla.storage.sqlite.rebuild`); the index that is being replaced is `damaged_places`
meanwhile.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
    delete,
    insert,
    inspect,
    select,
)
from sqlalchemy.exc import DatabaseError

from eris.model import REFERENCE_SIZE, BlockSize, Reference
from kapla.errors import StorageError
from kapla.storage.pins import BEFORE_PINS, SALVAGED
from kapla.storage.sqlite.keeping.ids import Ids

__all__ = [
    "LOWEST_ID",
    "SCHEMA_VERSION",
    "all_ids",
    "arrivals",
    "blocks",
    "create",
    "damaged_places",
    "lent",
    "make_missing",
    "pins",
    "places",
    "prefix_of",
    "prefixes_of",
    "recent",
    "totals",
    "upgrade",
    "upkeep",
    "wanted",
]

SCHEMA_VERSION: Final = 3

LOWEST_ID: Final = -(2**62)
"""Where ids begin when no more can be added at their end: see `kapla.storage.sqlite.numbering`."""

metadata = MetaData()

# BigInteger does not become SQLite's own row number, which is what we want an id to be there.
_Id = BigInteger().with_variant(Integer, "sqlite")

blocks = Table(
    "blocks",
    metadata,
    Column("id", _Id, primary_key=True),
    # Before the block, so that SQLite finds it without following a chain of overflow pages.
    Column("reference", LargeBinary, nullable=False),
    Column("block", LargeBinary, nullable=False),
)

places = Table(
    "places",
    metadata,
    Column("prefix", BigInteger, primary_key=True, autoincrement=False),
    Column("block_id", BigInteger, primary_key=True, autoincrement=False),
    # The primary key is all there is: in SQLite it need not be stored twice.
    sqlite_with_rowid=False,
)

recent = Table(
    "recent",
    metadata,
    # One row a commit: the prefixes of the blocks first_id, first_id + 1, …
    Column("first_id", _Id, primary_key=True, autoincrement=False),
    Column("prefixes", LargeBinary, nullable=False),
)

totals = Table(
    "totals",
    metadata,
    Column("block_size", Integer, primary_key=True),
    Column("blocks", BigInteger, nullable=False),
)

upkeep = Table(
    "upkeep",
    metadata,
    Column("note", Integer, primary_key=True, autoincrement=False),
    Column("value", BigInteger, nullable=False),
)

pins = Table(
    "pins",
    metadata,
    Column("id", _Id, primary_key=True),
    # A uid: each has names of its own.
    Column("owner", BigInteger, nullable=False),
    Column("name", LargeBinary, nullable=False),
    # The reference of the root; none for a pin over what has no single one.
    Column("root", LargeBinary),
    Column("keep", Integer, nullable=False),
    Column("lend", Integer, nullable=False),
    # Seconds since 1970.
    Column("created", BigInteger, nullable=False),
    Column("before_small", BigInteger),
    Column("before_large", BigInteger),
    # Last, as they may be long.
    Column("small", LargeBinary, nullable=False),
    Column("large", LargeBinary, nullable=False),
    UniqueConstraint("owner", "name"),
)

wanted = Table(
    "wanted",
    metadata,
    Column("reference", LargeBinary, primary_key=True),
    Column("pin", BigInteger, primary_key=True, autoincrement=False),
    # How much a pin lacks is asked for, and goes with it.
    Index("wanted_by_pin", "pin"),
    sqlite_with_rowid=False,
)

arrivals = Table(
    "arrivals",
    metadata,
    Column("pin", BigInteger, primary_key=True, autoincrement=False),
    Column("block_id", BigInteger, primary_key=True, autoincrement=False),
    Column("block_size", Integer, nullable=False),
    sqlite_with_rowid=False,
)

lent = Table(
    "lent",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("ids", LargeBinary, nullable=False),
)

# Not made with the others: it is `places` under another name.
damaged_places = Table(
    "damaged_places",
    MetaData(),
    Column("prefix", BigInteger, primary_key=True, autoincrement=False),
    Column("block_id", BigInteger, primary_key=True, autoincrement=False),
)

_version = Table("kapla_schema", metadata, Column("version", Integer, nullable=False))


def _add_upkeep(connection: Connection) -> None:
    upkeep.create(connection, checkfirst=True)
    if connection.execute(select(blocks.c.id).limit(1)).first() is None:
        # Such a store got its totals with the first session that could write.
        connection.execute(delete(totals))
        _begin_totals(connection)


def _begin_totals(connection: Connection) -> None:
    connection.execute(
        insert(totals), [{"block_size": int(size), "blocks": 0} for size in BlockSize]
    )


def _add_pins(connection: Connection) -> None:
    for table in (pins, wanted, arrivals, lent):
        table.create(connection, checkfirst=True)
    _keep_all(connection, BEFORE_PINS)


def _keep_all(connection: Connection, name: str) -> None:
    """Make a pin over all that there is."""
    ids = all_ids(lambda text: connection.exec_driver_sql(text).one())
    if not ids:
        return
    counts: dict[int, int] = {}
    # Where the totals are damaged it is not known: they are made anew later, and cost no start.
    with contextlib.suppress(DatabaseError):
        rows = connection.execute(select(totals.c.block_size, totals.c.blocks))
        counts = dict(rows.all())
    connection.execute(
        insert(pins).values(
            owner=0,
            name=name.encode(),
            keep=1,
            lend=0,
            created=int(time.time()),
            before_small=counts.get(BlockSize.SMALL),
            before_large=counts.get(BlockSize.LARGE),
            small=ids.pack(),
            large=Ids().pack(),
        )
    )


def all_ids(one: Callable[[str], Sequence[Any]]) -> Ids:
    """All ids that there may be, as runs: those of a store that turned begin with the lowest.

    `one` runs a statement and returns its row.
    """
    try:
        first, last = one("SELECT min(id), max(id) FROM blocks")
        if first is None:
            return Ids()
        if first > 0:
            return Ids.run(first, last)
        (below,) = one("SELECT max(id) FROM blocks WHERE id < 0")
    except (DatabaseError, sqlite3.DatabaseError):
        # The first or the last page is damaged. More than there are does no harm.
        (pages,), (size,) = one("PRAGMA page_count"), one("PRAGMA page_size")
        most = max(1, pages * (size // BlockSize.SMALL))
        return Ids.run(1, most) | Ids.run(LOWEST_ID, LOWEST_ID + most)
    turned = Ids.run(first, below)
    return turned | Ids.run(1, last) if last > 0 else turned


# From version N (the key) to N + 1.
_MIGRATIONS: Final[dict[int, Callable[[Connection], None]]] = {1: _add_upkeep, 2: _add_pins}


def prefix_of(reference: bytes) -> int:
    """The integer under which a reference is indexed."""
    return int.from_bytes(reference[:8], "big", signed=True)


def prefixes_of(references: Sequence[Reference]) -> list[int]:
    """The same of many: a thousand are ten times as fast."""
    words = array("q", b"".join(references))[:: REFERENCE_SIZE // 8]
    if sys.byteorder == "little":
        words.byteswap()
    return words.tolist()


def create(connection: Connection) -> None:
    """Make the tables of the newest version in an empty database."""
    metadata.create_all(connection)
    _begin_totals(connection)
    _set_version(connection, SCHEMA_VERSION)


def upgrade(connection: Connection) -> None:
    """Bring an existing database to the newest version.

    Raises: StorageError, if it is not a Kapla store or of a newer version.
    """
    if not inspect(connection).has_table(_version.name):
        raise StorageError("the database is not a Kapla store")
    version = connection.execute(select(_version.c.version)).scalar()
    if not isinstance(version, int) or version < 1:
        raise StorageError("the database is not a Kapla store")
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"the store has schema version {version}, this program knows up to {SCHEMA_VERSION}:"
            " a newer Kapla wrote it"
        )
    if version < SCHEMA_VERSION:
        while version < SCHEMA_VERSION:
            _MIGRATIONS[version](connection)
            version += 1
        _set_version(connection, version)


def make_missing(connection: Connection) -> list[str]:
    """Make the tables that are not there; returns the names of those that follow from `blocks`.

    Where it was one of those that tell what is pinned, all that there is is pinned.
    """
    present = set(inspect(connection).get_table_names())
    follow = (places, recent, totals, upkeep)
    missing = [table for table in follow if table.name not in present]
    for table in missing:
        table.create(connection)
    of_pins = [table for table in (pins, wanted, arrivals, lent) if table.name not in present]
    for table in of_pins:
        table.create(connection)
    if pins in of_pins or arrivals in of_pins:
        _keep_all(connection, SALVAGED)
    return [table.name for table in missing]


def _set_version(connection: Connection, version: int) -> None:
    connection.execute(delete(_version))
    connection.execute(insert(_version).values(version=version))
