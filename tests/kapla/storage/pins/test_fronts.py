"""Several front ends of one database: whose a pin is, and what becomes of it when one ends."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from typing import Any

import psycopg
import pytest

from eris import BlockSize, Reference, StoreUnavailable
from kapla.errors import PinNotFound
from kapla.storage.batching import BatchedStorage
from kapla.storage.pinning import OpenPin
from kapla.storage.pins import Closing
from kapla.storage.postgresql import pins
from kapla.storage.postgresql.lent import KnownLent, Lent
from kapla.storage.postgresql.session import Session
from kapla.storage.postgresql.settings import PostgresSettings
from tests.kapla.storage.databases import get_many
from tests.kapla.storage.pins.stores import (
    MIB,
    OTHER,
    OWNER,
    Settings,
    batched,
    find,
    lent_within_seconds,
    list_all,
    make_blocks,
    pinned,
    put,
    under_pin,
)
from tests.postgres import Server

BLOCKS = make_blocks(40)
GUARD_S = 60.0


@pytest.fixture
def database(postgres_url: str) -> Settings:
    """How a front end has the database open."""
    return partial(PostgresSettings.of, postgres_url)


@pytest.fixture
def rows(postgres_server: Server, postgres_url: str) -> Any:
    """Has the database do something, beside the front ends; returns the rows."""
    name = postgres_url.partition("@/")[2].partition("?")[0]
    return lambda statement: postgres_server.execute(statement, name)


async def opened(storage: BatchedStorage, count: int) -> OpenPin:
    """An open pin with the first so many blocks."""
    pin = await storage.pinning.open(OWNER)
    await under_pin(storage, list(BLOCKS.values())[:count], pin)
    return pin


async def chores(storage: BatchedStorage) -> None:
    """Have done what is done now and then, now."""

    def now(writer: Any) -> None:
        writer.pins.renew()
        writer.pins.end_expired()

    await storage.do(now)


def test_a_pin_goes_on_at_another_front_end_and_the_first_one_has_it_no_more(
    database: Settings,
) -> None:
    async def main() -> None:
        async with batched(database()) as first, batched(database()) as second:
            pin = await opened(first, 20)
            with pytest.raises(PinNotFound):
                await second.pinning.resume(OTHER, pin.token)
            with pytest.raises(PinNotFound):
                await second.pinning.resume(OWNER, b"?" * 16)
            again = await second.pinning.resume(OWNER, pin.token)
            assert again.token == pin.token
            with pytest.raises(PinNotFound):
                await second.pinning.resume(OWNER, pin.token)
            # What was on its way at the first one belongs to the pin, too.
            await under_pin(first, list(BLOCKS.values())[20:30], pin)
            with pytest.raises(PinNotFound):
                await first.pinning.close(pin, name="a")
            assert not first.pinning.has(pin)
            await under_pin(second, list(BLOCKS.values())[30:], again)
            summary = await second.pinning.close(again, name="a")
            assert summary.small == 40
            assert await list_all(first) == [summary]
            for storage in (first, second):
                with pytest.raises(PinNotFound):
                    await storage.pinning.resume(OWNER, pin.token)

    asyncio.run(main())


def test_a_pin_comes_back_to_where_it_was_opened(database: Settings) -> None:
    async def main() -> None:
        async with batched(database()) as first, batched(database()) as second:
            pin = await opened(first, 20)
            pin.detach()
            there = await second.pinning.resume(OWNER, pin.token)
            there.detach()
            back = await first.pinning.resume(OWNER, pin.token)
            with pytest.raises(PinNotFound):
                await second.pinning.close(there, name="a")
            # Whoever has it no more ends nothing.
            await chores(second)
            assert (await first.pinning.close(back, name="a")).small == 20

    asyncio.run(main())


def test_a_pin_outlives_the_front_end_that_stopped(database: Settings, rows: Any) -> None:
    async def main() -> None:
        async with batched(database()) as first:
            pin = await opened(first, 20)
        async with batched(database()) as second:
            await chores(second)
            assert (await second.pinning.resume(OWNER, pin.token)).hold.owner == OWNER
        rows("UPDATE pins SET leased_until = now() - interval '1 s'")
        async with batched(database()) as third:
            await chores(third)
            with pytest.raises(PinNotFound):
                await third.pinning.resume(OWNER, pin.token)
        assert rows("SELECT count(*) FROM pin_runs") == [(0,)]

    asyncio.run(main())


def test_a_lease_is_renewed_while_a_front_end_is_there(database: Settings, rows: Any) -> None:
    async def main() -> None:
        async with batched(database()) as first, batched(database()) as second:
            pin = await opened(first, 20)
            rows("UPDATE pins SET leased_until = now() - interval '1 s'")
            await chores(first)
            await chores(second)
            assert (await first.pinning.close(pin, name="a")).small == 20

    asyncio.run(main())


def test_a_lease_is_renewed_while_many_pins_are_closed(
    database: Settings, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one round there may be hundreds of them, and some take long."""
    monkeypatch.setattr(pins, "_RENEW_S", 0.0)

    async def main() -> None:
        async with batched(database()) as first, batched(database()) as second:
            others = [await opened(first, 5) for _ in range(3)]
            pin = await opened(first, 20)

            def between(writer: Any) -> None:
                rows("UPDATE pins SET leased_until = now() - interval '1 s' WHERE name IS NULL")
                for number, other in enumerate(others):
                    writer.pins.close(other.number, other.hold, _closing(str(number)), 10)
                assert rows("SELECT number FROM pins WHERE leased_until < now()") == []

            await first.do(between)
            await chores(second)
            assert (await first.pinning.close(pin, name="a")).small == 20

    asyncio.run(main())


def _closing(name: str) -> Closing:
    return Closing(name, None, lend=False, keep=True, incomplete=False)


def test_the_database_has_no_token(database: Settings, rows: Any) -> None:
    async def main() -> None:
        async with batched(database()) as storage:
            pin = await opened(storage, 1)
            assert rows("SELECT token_hash FROM pins") == [(hashlib.sha256(pin.token).digest(),)]
            [(text,)] = rows("SELECT pins::text FROM pins")
            assert pin.token.hex() not in text
            assert pin.token.hex() not in repr(pin.hold)
            assert repr(pin.token) not in repr(pin.hold)

    asyncio.run(main())


def test_one_pins_what_another_one_pinned_and_both_tell_the_same(database: Settings) -> None:
    large = make_blocks(3, BlockSize.LARGE)

    async def main() -> None:
        async with batched(database()) as first, batched(database()) as second:
            await asyncio.gather(pinned(first, BLOCKS, "a"), pinned(second, BLOCKS | large, "b"))
            told = [(pin.small, pin.own_small, pin.own_large) for pin in await list_all(first)]
            assert told == [(40, 0, 0), (40, 0, 3)]
            assert await list_all(second) == await list_all(first)
            # The same name at once, again and again: one of them is there then.
            await asyncio.gather(
                *(
                    pinned(storage, dict(list(BLOCKS.items())[: 10 + count]), "c")
                    for count in range(10)
                    for storage in (first, second)
                )
            )
            last = (await list_all(first))[-1]
            assert (last.name, await first.pinning.count()) == ("c", 3)
            assert 10 <= last.small < 20

    asyncio.run(main())


def test_what_one_lends_another_one_lends_soon(database: Settings) -> None:
    public = make_blocks(30, seed=1)
    names = [*BLOCKS, *public]

    async def main() -> None:
        async with batched(database()) as first, batched(database()) as second:
            await lent_within_seconds(second, names, [False] * 70)
            await pinned(first, BLOCKS, "a", lend=True)
            await lent_within_seconds(second, names, [True] * 40 + [False] * 30)
            pin = await first.pinning.open(OWNER)
            await under_pin(first, list(public.values()), pin)
            assert await first.pinning.abandon(pin, lend=True) == 30
            await lent_within_seconds(second, names, [True] * 70)
            await second.pinning.release(OWNER, name="a")
            await lent_within_seconds(first, names, [False] * 40 + [True] * 30)

    asyncio.run(main())


def test_what_is_asked_for_again_and_again_fills_no_disk(database: Settings, rows: Any) -> None:
    async def main() -> None:
        async with batched(database()) as storage:
            await put(storage, make_blocks(1000))
            pin = await storage.pinning.open(OWNER)
            for _ in range(100):
                assert all(await find(storage, list(make_blocks(1000)), pin))
            [(written,)] = rows("SELECT sum(octet_length(names)) / 32 FROM pin_runs")
            assert written < 80_000
            assert (await storage.pinning.close(pin, name="a")).small == 1000

    asyncio.run(main())


def test_pins_of_many_blocks_are_in_order_when_closed(database: Settings, rows: Any) -> None:
    async def main() -> None:
        async with batched(database()) as storage:
            pin = await storage.pinning.open(OWNER)
            for seed in range(10):
                await under_pin(storage, list(make_blocks(1000, seed=seed).values()), pin)
            assert (await storage.pinning.close(pin, name="a")).small == 10_000
            runs = rows("SELECT first, last, names FROM pin_runs ORDER BY first")
            assert [len(names) // 32 for _, _, names in runs] == [4096, 4096, 1808]
            assert all((names[:32], names[-32:]) == (first, last) for first, last, names in runs)
            together = b"".join(names for _, _, names in runs)
            names = [together[start : start + 32] for start in range(0, len(together), 32)]
            assert names == sorted(
                name for seed in range(10) for name in make_blocks(1000, seed=seed)
            )

    asyncio.run(main())


def test_a_server_that_is_killed_while_a_pin_is_closed_has_it_open_still(
    database: Settings, postgres_server: Server, postgres_url: str
) -> None:
    async def main() -> None:
        async with batched(database()) as storage:
            pin = await opened(storage, 40)
            with closing(psycopg.connect(postgres_url)) as other:
                # Closing writes this last, when all else is done.
                other.execute("LOCK TABLE state IN EXCLUSIVE MODE")
                going = asyncio.ensure_future(storage.pinning.close(pin, name="a", lend=True))
                await waiting_for_a_lock(postgres_url)
                postgres_server.kill()
            try:
                with pytest.raises(StoreUnavailable, match="the database is away"):
                    await going
            finally:
                postgres_server.start()
            assert await list_all(storage) == []
            summary = await storage.pinning.close(pin, name="a", lend=True)
            assert (summary.small, summary.lend) == (40, True)
            assert await list_all(storage) == [summary]

    asyncio.run(main())


async def waiting_for_a_lock(url: str) -> None:
    """Until somebody waits for a lock on a table."""
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        while True:
            row = connection.execute(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
            ).fetchone()
            if row != (0,):
                return
            await asyncio.sleep(0.02)


def test_what_pins_have_outlives_all_that_makes_room_for_others(database: Settings) -> None:
    small = {"max_size": 8 * MIB, "generation_bytes": MIB // 2}
    closed, held, lacking, public = (make_blocks(100, seed=seed) for seed in range(1, 5))
    loose = make_blocks(100, seed=5)

    async def main() -> None:
        async with batched(database(**small)) as first, batched(database(**small)) as second:
            await pinned(first, closed, "closed")
            await pinned(first, loose, "loose", keep=False)
            open_one = await first.pinning.open(OWNER)
            await under_pin(first, list(held.values()), open_one)
            wanting = await second.pinning.open(OTHER)
            await second.pinning.want(wanting, list(lacking))
            await put(second, lacking)
            lent_one = await first.pinning.open(OWNER)
            await under_pin(first, list(public.values()), lent_one)
            await first.pinning.abandon(lent_one, lend=True)
            await pinned(first, public, "public")
            for seed in range(10, 22):
                await put(second, make_blocks(32, BlockSize.LARGE, seed))
            assert first.evicted_blocks + second.evicted_blocks > 0
            for kept in (closed, held, lacking, public):
                assert await get_many(second, list(kept)) == list(kept.values())
            # Lent without a pin, wherever their blocks went.
            await lent_within_seconds(second, list(public), [True] * 100)
            assert (await first.pinning.close(open_one, name="held")).small == 100
            assert (await second.pinning.close(wanting, name="lacking")).small == 100
            assert await left_of(first, loose, "loose") < 100

    asyncio.run(main())


async def left_of(storage: BatchedStorage, blocks: dict[Reference, bytes], name: str) -> int:
    """How many of a pin's blocks there are, as both are told that and find it.

    Room is made after the last PUT, too: what goes between the two looks is in the first one only.
    """
    async with asyncio.timeout(GUARD_S):
        while True:
            [told] = [pin for pin in await list_all(storage) if pin.name == name]
            left = sum(await find(storage, list(blocks)))
            if (told.small, told.missing) == (left, len(blocks) - left):
                return left
            await asyncio.sleep(0.05)


class Counted(KnownLent):
    """Counts what is read of the database."""

    count = 0

    def add(self, names: Iterable[bytes]) -> None:
        given = list(names)
        self.count += len(given)
        super().add(given)


def test_what_is_lent_in_a_store_out_of_a_dump_is_read_once(
    database: Settings, postgres_url: str, rows: Any
) -> None:
    names = list(BLOCKS)

    async def lend(count: int) -> None:
        async with batched(database()) as storage:
            pin = await opened(storage, count)
            await storage.pinning.abandon(pin, lend=True)

    asyncio.run(lend(30))
    # As of a server that has done much more.
    rows("UPDATE lent_runs SET written = written + 1000000000000")
    known = Counted()
    with closing(Session(PostgresSettings.of(postgres_url))) as session:
        lent = Lent(session, known, lambda: True)
        for _ in range(3):
            assert lent.among(names) == names[:30]
            known.look_soon()
        assert known.count == 30
        asyncio.run(lend(40))
        known.look_soon()
        assert lent.among(names) == names
