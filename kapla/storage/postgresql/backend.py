"""A store in a PostgreSQL database behind the port that the front uses."""

from __future__ import annotations

from contextlib import closing
from functools import partial

import psycopg

from eris.errors import StoreUnavailable
from eris.model import BlockSize
from kapla.errors import StorageError
from kapla.storage.port import Kept, Listing
from kapla.storage.postgresql import schema
from kapla.storage.postgresql.front import Front
from kapla.storage.postgresql.listing import pages_of
from kapla.storage.postgresql.looking import Looker
from kapla.storage.postgresql.reader import PostgresReader
from kapla.storage.postgresql.session import Session
from kapla.storage.postgresql.settings import PostgresSettings
from kapla.storage.postgresql.writer import PostgresWriter

__all__ = ["PostgresBackend"]


class PostgresBackend:
    """One front end of a database, which others may have open too."""

    failures: tuple[type[Exception], ...] = (psycopg.Error,)

    def __init__(self, settings: PostgresSettings) -> None:
        """Make the tables, if there are none, and that may be. Raises: StorageError."""
        self._front = Front(settings)
        self.readers = self.writers = settings.connections
        with closing(Session(settings)) as session:
            session.open()
            _prepare(session, self._front)

    def reader(self) -> PostgresReader:
        """Open a connection. Raises: StorageError."""
        return PostgresReader(self._front)

    def writer(self) -> PostgresWriter:
        """Open a connection. Raises: StorageError."""
        return PostgresWriter(self._front)

    def looker(self) -> Looker:
        """Open a connection, when it is needed."""
        return Looker(self._front.settings)

    def listing(self) -> Listing:
        """The list of the blocks."""
        return pages_of(self._front.settings)

    def totals(self) -> dict[int, int]:
        """How many blocks of each size there are, as of the last look."""
        total = self._front.total
        return {int(BlockSize.SMALL): total.small, int(BlockSize.LARGE): total.large}

    def kept(self) -> Kept:
        """What is pinned and lent, as the pins were counted last, without what is only held.

        What is lent without a pin counts as often as it was.
        """
        kept = self._front.sharing.kept
        return kept._replace(lent=kept.lent + self._front.lent_without)

    @property
    def evicted_blocks(self) -> int:
        """How many made room for others since the start, as far as this front end saw to it."""
        return self._front.evicted_blocks

    @property
    def path(self) -> None:
        """There is no file that others may read."""
        return None

    @property
    def is_writer_wanted(self) -> bool:
        """Readers find nothing that the writer is to see to."""
        return False

    def close(self) -> None:
        """Say what was read, and that this front end is gone."""
        try:
            with closing(Session(self._front.settings)) as session:
                self._front.leave(session)
        except StoreUnavailable:
            # It is noticed that it says nothing any more.
            return


def _prepare(session: Session, front: Front) -> None:
    """Raises: StorageError."""
    settings = session.settings
    try:
        session.retried(partial(schema.prepare, may_make=settings.may_make))
        front.refresh(session)
        front.measure(session)
        if settings.evicts:
            front.say(session)
    except StorageError as error:
        raise StorageError(f"cannot use the store {settings}: {error}") from None
    except StoreUnavailable as error:
        raise StorageError(f"cannot use the store {settings}: {error}") from error
