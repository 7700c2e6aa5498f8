"""Kinds of work on an open store: each a function of a `Session`, one or more steps of its history.

A new kind is a function in `WORKS`, with how often it is done beside the others.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol
from unittest.mock import patch

from eris.errors import ErisError, StoreUnavailable
from eris.model import BlockSize, Reference
from kapla.storage.sqlite.keeping import compaction
from kapla.storage.sqlite.writer import PutResult, SqliteReader, SqliteWriter
from tests.torture.blocks import new_blocks
from tests.torture.history import Fault, History
from tests.torture.pin_works import PIN_WORKS, Opened

__all__ = ["WORKS", "Session", "Work", "work"]

# However few of its neighbours are gone.
_EVERYTHING: Final = 2.0


@dataclass(slots=True)
class Session:
    """One process with a store open."""

    random: Random
    history: History
    writer: SqliteWriter
    reader: SqliteReader
    answers_early: bool = False
    """A fault that is planted."""
    reading: bool = field(default=False)
    """Whether the reader is in the middle of a transaction, which keeps the WAL from its start."""
    opened: list[Opened] = field(default_factory=list)
    coming: dict[Reference, bytes] = field(default_factory=dict)
    """What open pins lack, and is to come."""
    refused: set[Reference] = field(default_factory=set)
    """Of the last PUT."""

    @property
    def present(self) -> set[Reference]:
        """All that was kept."""
        return set(self.history.order[: self.history.now.blocks])

    def flip(self) -> bool:
        """Heads or tails."""
        return self.random.random() < 0.5

    def some_known(self, most: int) -> dict[Reference, bytes]:
        """Up to so many that are there, failed before, or are to come."""
        names = list(self.history.blocks)
        chosen = self.random.sample(names, min(self.random.randrange(most + 1), len(names)))
        return {name: self.history.blocks[name] for name in chosen}

    def put(self, blocks: dict[Reference, bytes], do: Callable[[], PutResult]) -> bool:
        """Keep blocks: one step."""
        is_kept = self.history.put(
            blocks,
            lambda: self._note_refused(do()),
            StoreUnavailable,
            self.answers_early,
            lambda: self.refused,
        )
        if is_kept:
            for opened in self.opened:
                opened.arrived(blocks.keys() - self.refused)
        return is_kept

    def _note_refused(self, result: PutResult) -> None:
        self.refused = set(result.refused)


class Work(Protocol):
    """Something that is done to a store."""

    def __call__(self, session: Session) -> None: ...


def _put(session: Session, blocks: dict[Reference, bytes]) -> None:
    session.put(blocks, lambda: session.writer.put_many(blocks))


def put_small(session: Session) -> None:
    """Some new small blocks, and some that are there."""
    most = 60 if session.history.is_evicting else 13
    blocks = new_blocks(session.random, BlockSize.SMALL, session.random.randrange(1, most))
    _put(session, blocks | session.some_known(3))


def put_large(session: Session) -> None:
    """A few new large blocks."""
    most = 8 if session.history.is_evicting else 4
    _put(session, new_blocks(session.random, BlockSize.LARGE, session.random.randrange(1, most)))


def put_known(session: Session) -> None:
    """Only what is there, or failed before."""
    if blocks := session.some_known(8):
        _put(session, blocks)


def upkeep(session: Session) -> None:
    """Some of the writer's chores."""
    for _ in range(session.random.randrange(1, 6)):
        try:
            session.writer.chore(is_idle=session.random.random() < 0.7)
        except (ErisError, sqlite3.Error) as error:
            raise Fault(f"the upkeep lets an error through: {error}") from error


def move_together(session: Session) -> None:
    """Small blocks go to the end under new ids, as where kept ones leave half empty pages."""
    compactor = session.writer._space._evictor
    if session.writer.keeper.rebuild is not None:
        return
    compactor._next, compactor._last = 0, session.writer._numbering.next
    with patch.object(compaction, "_DENSE", _EVERYTHING):
        session.history.step(session.history.now, compactor._move_some, sqlite3.Error)


def checkpoint(session: Session) -> None:
    """What the WAL holds goes into the database."""
    if session.random.random() < 0.5:
        session.writer._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    else:
        session.writer._connection.execute("PRAGMA busy_timeout = 0")
        session.writer.checkpoint()


def read(session: Session) -> None:
    """Everything that must be there is, at any time."""
    try:
        found = session.reader.get_many(list(session.history.blocks))
    except ErisError:
        return
    history = session.history
    if any(found[name] != history.blocks[name] for name in found):
        raise Fault("a block is another one than was put")
    if session.reading:
        return
    if any(not opened.held <= found.keys() for opened in session.opened):
        raise Fault("what an open pin holds is not there")
    if not history.is_evicting and len(found) < history.now.blocks:
        raise Fault("what was answered is not found by the next who asks")


def long_read(session: Session) -> None:
    """A reader that stays in its transaction for a while."""
    execute = session.reader._connection.execute
    if session.reading:
        execute("COMMIT")
    else:
        execute("BEGIN")
        execute("SELECT count(*) FROM totals").fetchall()
    session.reading = not session.reading


WORKS: Final[dict[Work, int]] = {
    put_small: 8,
    put_large: 2,
    put_known: 2,
    upkeep: 4,
    move_together: 1,
    checkpoint: 2,
    read: 2,
    long_read: 1,
    **PIN_WORKS,
}


def work(session: Session, steps: int) -> None:
    """So many pieces of work, one after another. What the disk refuses is refused."""
    kinds, weights = list(WORKS), list(WORKS.values())
    for kind in session.random.choices(kinds, weights, k=steps):
        try:
            kind(session)
        except (ErisError, sqlite3.Error):
            # Of what needs no answer, as a checkpoint or a list.
            continue
