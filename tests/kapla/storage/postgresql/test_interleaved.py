"""Random work with pins at two front ends, and steps of making room wherever there may be one.

Between any two transactions of one front end the other one may go on making room: a generation is
gone over in parts of a few references, and its pins one in each transaction. What was acknowledged
under an open pin, or is in a pin that keeps, is there after everything that was done.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import psycopg
import pytest

from eris import Reference
from eris.errors import StoreFull
from kapla.storage.pins import Hold, PinChoice
from kapla.storage.postgresql import eviction, kept, lacking, runs
from kapla.storage.postgresql.eviction import Step
from kapla.storage.postgresql.session import Session
from kapla.storage.postgresql.writer import PostgresWriter
from tests.kapla.storage.contract.stores import OWNER, make_blocks
from tests.kapla.storage.postgresql.sessions import (
    MOST_PINS,
    becoming,
    blocks_of,
    fronts,
    hold,
    step,
    turn,
)
from tests.postgres import Server

_T = TypeVar("_T")

POOL: Final = make_blocks(100)
NAMES: Final = sorted(POOL)
PINS: Final = "abcdef"
MOST_OPEN = 4
MOST_GENERATIONS = 5
OPS = 150
QUOTA = 40 * 1024
COUNTED = """
SELECT generation, sum(small)::int
FROM (SELECT generation, small FROM totals UNION ALL SELECT generation, small FROM added) AS counted
GROUP BY generation HAVING sum(small) <> 0
"""


@dataclass
class Open:
    """An open pin: who has it, and what was said of its blocks."""

    writer: PostgresWriter
    token: bytes
    number: int
    held: Hold
    has: set[Reference] = field(default_factory=set)
    lacks: set[Reference] = field(default_factory=set)


@dataclass
class Closed:
    """A closed pin. `sure`: what must not go."""

    keep: bool
    names: set[Reference]
    sure: set[Reference]


class World:
    """What is known of a store by who uses it."""

    def __init__(
        self, writers: list[PostgresWriter], url: str, chance: random.Random, *, is_limited: bool
    ) -> None:
        self.writers, self.url, self.chance = writers, url, chance
        self.is_limited = is_limited
        self.open: list[Open] = []
        self.closed: dict[str, Closed] = {}
        self.drops = self.refused = 0
        self._begun = 0
        self._is_making_room = True

    @property
    def ops(self) -> list[Callable[[PostgresWriter], None]]:
        """What may be done; what stands here twice is done more often."""
        return [
            *[self.put] * 2,
            *[self.begin] * 5,
            *[self.put_under] * 3,
            *[self.find] * 4,
            *[self.want] * 2,
            *[self.close] * 2,
            *[self.change] * 2,
            *[self.make_room] * 6,
            *(self.release, self.abandon, self.resume, self.tidy, self.tell, self.lose, self.turn),
        ]

    def do(self) -> None:
        """One of all that."""
        op, writer = self.chance.choice(self.ops), self.chance.choice(self.writers)
        self._is_making_room = False
        try:
            op(writer)
        except StoreFull:
            self.refused += 1
        finally:
            self._is_making_room = True
        self.check()

    def between(self, session: Session) -> None:
        """A front end is about to begin a transaction: the other one may make some room."""
        if not self._is_making_room and self.chance.random() < 0.3:
            self._is_making_room = True
            self.make_room(next(one for one in self.writers if one.session is not session))
            self._is_making_room = False

    def check(self) -> None:
        """What must be there is."""
        there = blocks_of(self.url, leaving=True)
        stays = blocks_of(self.url)
        for pin in self.open:
            assert pin.has <= there
        for name, closed in self.closed.items():
            assert closed.sure <= there, name
            if closed.keep and not self.is_limited:
                # What comes stays from the first moment.
                closed.sure |= closed.names & stays

    def put(self, writer: PostgresWriter) -> None:
        writer.put_many(self._some(8))

    def begin(self, writer: PostgresWriter) -> None:
        if len(self.open) < MOST_OPEN:
            self._begun += 1
            token = str(self._begun).encode()
            number, held, _ = writer.pins.begin(OWNER, None, token)
            self.open.append(Open(writer, token, number, held))

    def put_under(self, _: PostgresWriter) -> None:
        for pin in self._pin():
            blocks = self._some(8)
            if error := hold(pin.writer, pin.held, blocks):
                raise error
            pin.has |= blocks.keys()

    def find(self, _: PostgresWriter) -> None:
        for pin in self._pin():
            pin.has |= pin.writer.hold_found(list(self._some(12)), pin.held)

    def want(self, _: PostgresWriter) -> None:
        for pin in self._pin():
            names = list(self._some(6))
            found = pin.writer.want(pin.number, pin.held, names)
            pin.has |= found
            pin.lacks |= set(names) - found

    def close(self, _: PostgresWriter) -> None:
        for pin in self._pin():
            name, keep = self.chance.choice(PINS), self.chance.random() < 0.6
            asked = becoming(name, keep=keep, lend=self.chance.random() < 0.3)
            told = pin.writer.pins.close(pin.number, pin.held, asked, MOST_PINS)
            names = pin.has | pin.lacks
            assert told.small + told.missing == len(names)
            self.open.remove(pin)
            self.closed[name] = Closed(keep, names, set(pin.has) if keep else set())

    def change(self, writer: PostgresWriter) -> None:
        if not self.closed:
            return
        name, keep = self.chance.choice(list(self.closed)), self.chance.random() < 0.6
        told = writer.pins.change(PinChoice(OWNER, name), lend=None, keep=keep)
        pin = self.closed[name]
        there = pin.names & blocks_of(self.url)
        if keep:
            assert told.small <= len(pin.names & blocks_of(self.url, leaving=True))
        pin.sure = (pin.sure if pin.keep else there) if keep else set()
        pin.keep = keep

    def release(self, writer: PostgresWriter) -> None:
        if self.closed and self.chance.random() < 0.5:
            name = self.chance.choice(list(self.closed))
            writer.pins.release(PinChoice(OWNER, name))
            del self.closed[name]

    def abandon(self, _: PostgresWriter) -> None:
        for pin in self._pin():
            if self.chance.random() < 0.3:
                lend = self.chance.random() < 0.5
                pin.writer.pins.abandon(pin.number, pin.held, lend=lend)
                self.open.remove(pin)

    def resume(self, writer: PostgresWriter) -> None:
        for pin in self._pin():
            pin.number, pin.held, _ = writer.pins.attach(OWNER, pin.token)
            pin.writer = writer

    def tidy(self, _: PostgresWriter) -> None:
        for pin in self._pin():
            # As if all had been asked for again and again.
            pin.held.written = 1 << 30  # type: ignore[attr-defined]
            pin.writer.pins.tidy()

    def tell(self, writer: PostgresWriter) -> None:
        there = blocks_of(self.url, leaving=True)
        for told in writer.pins.page(OWNER, (0, ""), 100)[0]:
            pin = self.closed[told.name]
            assert not pin.keep or told.small <= len(pin.names & there)

    def lose(self, writer: PostgresWriter) -> None:
        """The server ends a connection."""
        writer.session.connection.close()

    def turn(self, _: PostgresWriter) -> None:
        if len(self.writers[0].front.refresh(self.writers[0].session).all) < MOST_GENERATIONS:
            turn(self.writers)

    def make_room(self, writer: PostgresWriter) -> None:
        self._is_making_room = True
        for _ in range(self.chance.choice((1, 1, 2, 6))):
            self.drops += step(writer, self.writers) is Step.DONE

    def _some(self, most: int) -> dict[Reference, bytes]:
        names = self.chance.sample(NAMES, self.chance.randint(1, most))
        return {name: POOL[name] for name in names}

    def _pin(self) -> list[Open]:
        return [self.chance.choice(self.open)] if self.open else []


@contextmanager
def interrupted(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Something may be done before each transaction."""
    retried = Session.retried

    def later(self: Session, work: Callable[[psycopg.Cursor[Any]], _T]) -> _T:
        world.between(self)
        return retried(self, work)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "retried", later)
        yield


@pytest.mark.parametrize("seed", range(4))
def test_what_was_acknowledged_is_there_whatever_is_done(
    postgres_url: str, postgres_server: Server, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(kept, "_PART", chance.choice((1, 1, 200)))
    monkeypatch.setattr(eviction, "_LOOKED_AHEAD", chance.choice((6, 200, 200)))
    monkeypatch.setattr(eviction, "_BATCH", chance.choice((4, 10)))
    monkeypatch.setattr(eviction, "_COPIED", 2)
    monkeypatch.setattr(eviction, "_COPIED_BYTES", chance.choice((1024, 1 << 20)))
    monkeypatch.setattr(lacking, "_AT_ONCE", 3)
    monkeypatch.setattr(lacking, "_COPIED", 2)
    monkeypatch.setattr(runs, "MOST", 3)
    # Every other store has owners who reach what they may pin.
    limit = QUOTA if seed % 2 else None
    with fronts(postgres_url, max_pinned=limit or 1 << 40) as writers:
        world = World(writers, postgres_url, chance, is_limited=limit is not None)
        with interrupted(world, monkeypatch):
            for _ in range(OPS):
                world.do()
        assert world.drops
        assert not world.refused or limit
    counted = {
        int(number): int(count) for number, count in postgres_server.execute(COUNTED, postgres_url)
    }
    there = {
        number: postgres_server.execute(f"SELECT count(*) FROM blocks_{number}", postgres_url)[0][0]
        for (number,) in postgres_server.execute("SELECT number FROM generations", postgres_url)
    }
    assert counted == {number: count for number, count in there.items() if count}
