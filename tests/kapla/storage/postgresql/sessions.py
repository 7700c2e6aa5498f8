"""Front ends of one database without their threads: a test says who does what, and when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from eris import Reference
from kapla.pins import PinSummary
from kapla.storage.pins import Closing, Hold
from kapla.storage.port import Promise
from kapla.storage.postgresql.backend import PostgresBackend
from kapla.storage.postgresql.eviction import Step
from kapla.storage.postgresql.settings import PostgresSettings
from kapla.storage.postgresql.writer import PostgresWriter
from tests.kapla.storage.contract.stores import MIB, OWNER

__all__ = [
    "MOST_PINS",
    "becoming",
    "blocks_of",
    "evict",
    "fronts",
    "hold",
    "pinned",
    "step",
    "turn",
]

MOST_PINS = 1000

_STEPS = 1000
# More than there is room for.
_WANTED = 1 << 40


@contextmanager
def fronts(url: str, count: int = 2, **options: Any) -> Iterator[list[PostgresWriter]]:
    """The writers of some front ends, each with a thread of its own only in name."""
    settings = PostgresSettings.of(url, **{"max_size": 64 * MIB, **options})
    backends = [PostgresBackend(settings) for _ in range(count)]
    writers = [backend.writer() for backend in backends]
    yield writers
    for writer in writers:
        writer.close()
    for backend in backends:
        backend.close()


def hold(writer: PostgresWriter, held: Hold, blocks: dict[Reference, bytes]) -> Exception | None:
    """Put blocks under an open pin; returns why they are not held, if so."""
    promise = Promise(held, list(blocks), list(blocks.values()))
    writer.put_many(dict(blocks), [promise])
    return promise.error


def becoming(name: str, *, keep: bool = True, lend: bool = False) -> Closing:
    """What an open pin becomes, whatever it lacks."""
    return Closing(name, None, lend=lend, keep=keep, incomplete=True)


def pinned(
    writer: PostgresWriter,
    blocks: dict[Reference, bytes],
    name: str,
    *,
    keep: bool = True,
    lacking: Sequence[Reference] = (),
    owner: int = OWNER,
) -> PinSummary:
    """A pin over these blocks, which wants others, too."""
    number, held, _ = writer.pins.begin(owner, None, name.encode())
    if blocks:
        assert hold(writer, held, blocks) is None
    writer.want(number, held, lacking)
    return writer.pins.close(number, held, becoming(name, keep=keep), MOST_PINS)


def turn(writers: Sequence[PostgresWriter]) -> None:
    """Begin another generation: what there is can leave."""
    front, session = writers[0].front, writers[0].session
    front.begin_another(session, front.refresh(session))
    for writer in writers:
        writer.front.refresh(writer.session)


def step(writer: PostgresWriter, writers: Iterable[PostgresWriter]) -> Step:
    """One step of making room; the others say what they read."""
    for other in writers:
        other.front.refresh(other.session)
        other.front.say(other.session)
    return writer._room.evictor.step(_WANTED)


def evict(writers: Sequence[PostgresWriter]) -> Step:
    """Make room until a generation is gone, or all must stay; each does a step in turn."""
    for number in range(_STEPS):
        done = step(writers[number % len(writers)], writers)
        if done in (Step.DONE, Step.NOTHING):
            return done
    raise AssertionError("it does not end")


def blocks_of(url: str, *, leaving: bool = False) -> set[Reference]:
    """What there is, looked at beside the front ends: what stays, or all that can be read."""
    statuses = ("filling", "full", "leaving") if leaving else ("filling", "full")
    query = "SELECT number FROM generations WHERE status = ANY(%s)"
    with psycopg.connect(url, autocommit=True) as connection:
        numbers = connection.execute(query, (list(statuses),)).fetchall()
        return {
            Reference(name)
            for (number,) in numbers
            for (name,) in connection.execute(f"SELECT reference FROM blocks_{number}".encode())
        }
