"""One connection to the database, for one thread, which comes back by itself.

Whatever is done in a transaction can be done again: where the server says that two were in each
other's way it is, a few times, and after a connection was lost once, over a new one. What is asked
of a database that is away fails at once, and the next round tries again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import psycopg
from psycopg import errors, pq
from psycopg.conninfo import conninfo_to_dict

from eris.errors import StoreUnavailable
from kapla.errors import StorageError
from kapla.storage.postgresql.arrays import register
from kapla.storage.postgresql.settings import PostgresSettings

__all__ = ["Cursor", "Session", "away", "is_damage", "reason_of"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

Cursor = psycopg.Cursor[Any]

_TRIES: Final = 5
_CONNECT_S: Final = 10
# Each list of generations has its own statements.
_PREPARED: Final = 200
# What a network swallows is noticed, here and by the server. A front end that lost its power, its
# network or its turn in the middle has locks that all others wait for, and a server that was told
# nothing would look after two hours. (Over a Unix socket what is said of TCP changes nothing.)
_KEEPALIVES: Final = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
_UNACKNOWLEDGED: Final = {"tcp_user_timeout": 30_000}
_HERE: Final = {**_KEEPALIVES, **_UNACKNOWLEDGED}
_AT_THE_SERVER: Final = "".join(
    f"    ('{name}', '{value}'),\n"
    for name, value in {
        **{f"tcp_{name}": value for name, value in _KEEPALIVES.items()},
        **_UNACKNOWLEDGED,
    }.items()
)
# The statements are few, and their plans known: blocks are found by their index, whatever the
# statistics of a table say that was made a second ago. Nor does it matter what was set for the role
# or the database; older servers do not know all of it.
_SETUP: Final = f"""
SELECT set_config(name, value, false) FROM (VALUES
    ('search_path', 'public'),
    ('synchronous_commit', 'on'),
    ('default_transaction_isolation', 'read committed'),
    ('statement_timeout', '0'),
    ('lock_timeout', '0'),
    ('transaction_timeout', '0'),
    ('idle_session_timeout', '0'),
    ('idle_in_transaction_session_timeout', '5min'),
    ('standard_conforming_strings', 'on'),
{_AT_THE_SERVER}    ('plan_cache_mode', 'force_generic_plan'),
    ('enable_indexscan', 'on'),
    ('enable_indexonlyscan', 'on'),
    ('enable_nestloop', 'on'),
    ('enable_seqscan', 'off'),
    ('enable_hashjoin', 'off'),
    ('enable_mergejoin', 'off'),
    ('enable_bitmapscan', 'off'),
    ('max_parallel_workers_per_gather', '0'),
    ('bytea_output', 'hex'),
    ('jit', 'off')
) AS wanted (name, value) WHERE name IN (SELECT name FROM pg_settings)
"""
_DAMAGE: Final = (errors.DataCorrupted, errors.IndexCorrupted)
# In each other's way: done again, it will work.
_AGAIN: Final = (errors.SerializationFailure, errors.DeadlockDetected)
# Another connection is needed.
_LOST: Final = (psycopg.OperationalError, errors.IdleInTransactionSessionTimeout)


class Session:
    """A connection, opened when it is first needed, and anew when it was lost."""

    def __init__(self, settings: PostgresSettings, name: str = "kaplad") -> None:
        """`name`: what the server's list of its sessions calls it."""
        self.settings = settings
        self._name = name
        self._connection: psycopg.Connection[Any] | None = None

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """The connection; each statement is a transaction, but within `transaction`.

        Raises: psycopg.OperationalError, if the database is away.
        """
        if self._connection is None or self._connection.closed:
            self._connection = None
            self._connection = self._connect()
        return self._connection

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """A transaction, and a cursor in it. Raises: psycopg.Error."""
        connection = self.connection
        with connection.transaction(), connection.cursor(binary=True) as cursor:
            yield cursor

    def retried(self, work: Callable[[Cursor], _T]) -> _T:
        """Do something in a transaction; again, where it was in the way of others.

        Raises: StoreUnavailable, if the database is away or fails; what `work` raises.
        """

        def once() -> _T:
            with self.transaction() as cursor:
                return work(cursor)

        return self.again(once)

    def again(self, work: Callable[[], _T]) -> _T:
        """Do something that may be done twice; see `retried`.

        Raises: as that; psycopg.errors.UndefinedTable: who names generations looks for their list.
        """
        tries, is_new = 0, False
        while True:
            tries += 1
            try:
                return work()
            except _AGAIN as error:
                if tries >= _TRIES:
                    raise failed(error) from error
            except _LOST as error:
                if self._connection is not None and not self._connection.closed:
                    raise failed(error) from error
                if self._connection is None or is_new:
                    raise away(error) from error
                is_new = True
            except errors.UndefinedTable:
                raise
            except errors.ReadOnlySqlTransaction as error:
                # The next connection may find the one that is not, where the URL has several.
                self.close()
                raise failed(error) from error
            except psycopg.Error as error:
                raise failed(error) from error

    def open(self) -> None:
        """Connect now. Raises: StorageError, which says why that cannot be."""
        try:
            self.connection.execute("SELECT 1")
        except StorageError as error:
            raise StorageError(f"cannot use the store {self.settings}: {error}") from None
        except psycopg.Error as error:
            raise StorageError(f"cannot use the store {self.settings}: {_text(error)}") from error

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _connect(self) -> psycopg.Connection[Any]:
        try:
            given = conninfo_to_dict(self.settings.url)
        except psycopg.ProgrammingError:
            # Its message may have the URL in it, with a password.
            raise StorageError(
                f"libpq cannot read the URL of the database{_hint(self.settings.url)}"
            ) from None
        # What the URL says comes first.
        others: dict[str, Any] = {
            "connect_timeout": _CONNECT_S,
            "application_name": self._name,
            **_HERE,
        }
        # But for this: names of pins may have any letters.
        wanted = {**others, **given, "client_encoding": "utf8"}
        connection = psycopg.connect(**wanted, autocommit=True, prepare_threshold=0)
        try:
            connection.prepared_max = _PREPARED
            register(connection)
            connection.execute(_SETUP)
        except BaseException:
            connection.close()
            raise
        return connection


def away(error: psycopg.Error) -> StoreUnavailable:
    """What is told of a database that cannot be reached, or stops."""
    return StoreUnavailable(f"the database is away: {reason_of(error)}")


def failed(error: psycopg.Error) -> StoreUnavailable:
    """What is told of a database that is there and does not do what it is to do."""
    if isinstance(error, errors.DiskFull):
        return StoreUnavailable("the disk of the database is full")
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return StoreUnavailable("the database is read-only: it is a standby, or was set so")
    return StoreUnavailable(f"the database failed: {reason_of(error)}")


def is_damage(error: StoreUnavailable) -> bool:
    """Whether the server says that something stored is damaged."""
    return isinstance(error.__cause__, _DAMAGE)


def reason_of(error: psycopg.Error) -> str:
    """Why, in one line that names no host and no part of the URL."""
    said = (error.diag.message_primary or _text(error)).splitlines()[0]
    if error.sqlstate is None:
        # Of a connection libpq says where to, then why.
        said = said.rpartition(": ")[2]
    return said.strip()


def _hint(url: str) -> str:
    """Which names of libpq may be meant by what it does not know: that may be part of a secret."""
    known = [option.keyword.decode() for option in pq.Conninfo.get_defaults()]
    given = [name for name, _ in parse_qsl(url.partition("?")[2])]
    meant = [
        found for name in given if name not in known for found in get_close_matches(name, known, 1)
    ]
    return f": is {' and '.join(meant)} meant?" if meant else ""


def _text(error: psycopg.Error) -> str:
    return str(error).strip() or type(error).__name__
