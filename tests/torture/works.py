"""Kinds of work on an open store: each a function of a `Session`, one or more steps of its history.

A new kind is a function in `WORKS`, with how often it is done beside the others.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol

from eris.crypto import reference_of
from eris.errors import ErisError, StoreUnavailable
from eris.model import BlockSize, Reference
from kapla.storage.sqlite import SqliteReader, SqliteWriter
from tests.torture.history import Fault, History

__all__ = ["WORKS", "Session", "Work", "new_blocks"]


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


class Work(Protocol):
    """Something that is done to a store."""

    def __call__(self, session: Session) -> None: ...


def new_blocks(random: Random, size: BlockSize, count: int) -> dict[Reference, bytes]:
    """Blocks that were never there."""
    blocks = (random.randbytes(size) for _ in range(count))
    return {reference_of(block): block for block in blocks}


def _put(session: Session, blocks: dict[Reference, bytes]) -> None:
    session.history.put(
        blocks,
        lambda: session.writer.put_many(blocks),
        StoreUnavailable,
        answers_early=session.answers_early,
    )


def put_small(session: Session) -> None:
    """Some new small blocks, and some that are there."""
    blocks = new_blocks(session.random, BlockSize.SMALL, session.random.randrange(1, 13))
    _put(session, blocks | _known(session, session.random.randrange(4)))


def put_large(session: Session) -> None:
    """A few new large blocks."""
    _put(session, new_blocks(session.random, BlockSize.LARGE, session.random.randrange(1, 4)))


def put_known(session: Session) -> None:
    """Only what is there, or failed before."""
    if blocks := _known(session, 8):
        _put(session, blocks)


def _known(session: Session, most: int) -> dict[Reference, bytes]:
    names = list(session.history.blocks)
    chosen = session.random.sample(names, min(most, len(names)))
    return {name: session.history.blocks[name] for name in chosen}


def upkeep(session: Session) -> None:
    """Some of the writer's chores."""
    for _ in range(session.random.randrange(1, 6)):
        session.writer.keeper.chore(is_idle=session.random.random() < 0.7)


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
    if not history.is_evicting and not session.reading and len(found) < history.now.blocks:
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
    checkpoint: 2,
    read: 2,
    long_read: 1,
}


def work(session: Session, steps: int) -> None:
    """So many pieces of work, one after another. What the disk refuses is refused."""
    kinds, weights = list(WORKS), list(WORKS.values())
    for kind in session.random.choices(kinds, weights, k=steps):
        try:
            kind(session)
        except sqlite3.Error:
            # Of what needs no answer, as a checkpoint.
            continue
