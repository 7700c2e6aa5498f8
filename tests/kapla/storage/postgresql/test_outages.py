"""The database goes away and comes back: what was acknowledged is there."""

from __future__ import annotations

import asyncio
import logging
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler
from queue import SimpleQueue

import psycopg
import pytest

from eris import BlockSize, ErisError, Reference, StoreUnavailable
from kapla.errors import StorageError
from kapla.storage.batching import BatchedStorage
from kapla.storage.opening import open_backend
from kapla.storage.postgresql import locks
from kapla.storage.postgresql.eviction import Step
from kapla.storage.postgresql.front import Front
from kapla.storage.postgresql.session import Cursor, Session
from kapla.storage.postgresql.settings import PostgresSettings
from kapla.storage.postgresql.writer import PostgresWriter
from tests.kapla.storage.contract.stores import MIB, batched, find, get, make_blocks, put
from tests.kapla.storage.databases import get_many, put_many
from tests.kapla.storage.pins.stores import lent_within_seconds, pinned
from tests.postgres import Server

_PATIENCE_S = 60

# What an administrator may have set for a role or a database, for others than Kapla.
HOSTILE = (
    "statement_timeout = '300ms'",
    "lock_timeout = '5ms'",
    "idle_session_timeout = '100ms'",
    "idle_in_transaction_session_timeout = '20ms'",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_deferrable = on",
    "search_path = 'nowhere'",
    "bytea_output = 'escape'",
    "standard_conforming_strings = off",
    "enable_indexscan = off",
    "enable_indexonlyscan = off",
    "enable_nestloop = off",
    "force_parallel_mode = on",
    "work_mem = '64kB'",
    "timezone = 'Asia/Kolkata'",
)


async def acknowledged(
    storage: BatchedStorage, kept: dict[Reference, bytes], lane: int, enough: asyncio.Event
) -> str:
    """Put until that fails; notes what was kept, and returns what was said."""
    for seed in range(10**6):
        part = make_blocks(4, seed=1000 * lane + seed) | (
            {} if seed % 4 else make_blocks(1, BlockSize.LARGE, 1000 * lane + seed)
        )
        for size in BlockSize:
            blocks = {name: block for name, block in part.items() if len(block) == size}
            answer = await put_many(storage, list(blocks.values())) if blocks else None
            if answer is not None:
                assert isinstance(answer, StoreUnavailable)
                return str(answer)
            kept.update(blocks)
        if seed == 20:
            enough.set()
    raise AssertionError("it was not killed")


def test_what_was_acknowledged_before_a_kill_is_there(empty_server: Server) -> None:
    settings = PostgresSettings.of(empty_server.make_database(), generation_bytes=MIB // 4)

    async def main() -> None:
        async with batched(settings) as storage:
            kept: dict[Reference, bytes] = {}
            for lane in range(2):
                enough = asyncio.Event()
                putting = [
                    asyncio.ensure_future(acknowledged(storage, kept, 4 * lane + one, enough))
                    for one in range(4)
                ]
                await enough.wait()
                await asyncio.to_thread(empty_server.kill)
                for said in await asyncio.gather(*putting):
                    assert said.startswith("the database is away: ")
                    assert str(empty_server.directory) not in said
                # Reads fail too, with the same word.
                found = await get_many(storage, list(kept)[:1])
                assert isinstance(found, ErisError)
                await asyncio.to_thread(empty_server.start)
                # The same sessions, which connect by themselves.
                assert await get(storage, list(kept)) == list(kept.values())
                await put(storage, make_blocks(20, seed=99 + lane))

    asyncio.run(main())


def test_a_connection_that_was_ended_costs_nothing(
    postgres_url: str, postgres_server: Server
) -> None:
    end = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    async def main() -> None:
        async with batched(PostgresSettings.of(postgres_url)) as storage:
            for seed in range(4):
                blocks = make_blocks(50, seed=seed)
                await put(storage, blocks)
                assert postgres_server.execute(end, postgres_url)
                await put(storage, make_blocks(60, seed=seed))
                assert postgres_server.execute(end, postgres_url)
                assert all(await find(storage, list(blocks)))
                assert await get(storage, list(blocks)) == list(blocks.values())
            assert storage.new_blocks == 240

    asyncio.run(main())


def test_what_the_server_cannot_read_counts_as_not_there(empty_server: Server) -> None:
    url = empty_server.make_database()
    settings = PostgresSettings.of(url)
    blocks = make_blocks(70)

    async def fill() -> None:
        async with batched(settings) as storage:
            await put(storage, blocks)

    async def read() -> None:
        async with batched(settings) as storage:
            found = await get(storage, list(blocks))
            lost = found.count(None)
            # A page has seven.
            assert 1 <= lost <= 8
            assert all(
                block in (None, blocks[name]) for name, block in zip(blocks, found, strict=True)
            )

    asyncio.run(fill())
    ((path,),) = empty_server.execute("SELECT pg_relation_filepath('blocks_1')", url)
    empty_server.execute("CHECKPOINT", url)
    empty_server.kill()
    with (empty_server.directory / "data" / path).open("r+b") as file:
        file.seek(3 * 8192)
        file.write(b"\xff" * 8192)
    empty_server.start()
    asyncio.run(read())


def test_a_store_that_is_closed_while_the_database_is_away(empty_server: Server) -> None:
    settings = PostgresSettings.of(empty_server.make_database(), max_size=4 * MIB)

    async def main() -> None:
        async with batched(settings) as storage:
            await put(storage, make_blocks(20))
            await asyncio.to_thread(empty_server.kill)

    asyncio.run(main())
    empty_server.start()


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_others_go_on_where_one_that_made_room_was_killed(
    postgres_url: str, postgres_server: Server, steps: int
) -> None:
    settings = PostgresSettings.of(postgres_url, max_size=2 * MIB)

    async def fill() -> None:
        async with batched(settings) as storage:
            for seed in range(5):
                await put(storage, make_blocks(10, BlockSize.LARGE, seed))

    async def go_on() -> None:
        async with batched(settings) as storage:
            newest: dict[Reference, bytes] = {}
            for seed in range(20, 30):
                newest = make_blocks(10, BlockSize.LARGE, seed)
                await put(storage, newest)
            assert (await storage.totals())[1] <= 2 * MIB
            assert all(await find(storage, list(newest)))

    def execute(statement: str) -> list[tuple[int, int]]:
        return [
            (int(one), int(other))
            for one, other in postgres_server.execute(statement, postgres_url)
        ]

    asyncio.run(fill())
    # One that takes some steps, and then is heard of no more.
    front = Front(settings)
    writer = PostgresWriter(front)
    front.refresh(writer.session)
    done = [writer._room.evictor.step(MIB) for _ in range(steps)]
    assert not {Step.NOTHING, Step.ENOUGH} & set(done)
    writer.close()
    front.leave(writer.session)
    writer.close()
    asyncio.run(go_on())
    # What is counted is what there is.
    counted = dict(
        execute(
            "SELECT generation, sum(large) FROM"
            " (SELECT generation, large FROM totals UNION ALL SELECT generation, large FROM added)"
            " AS counted GROUP BY generation HAVING sum(large) > 0"
        )
    )
    there = {
        number: execute(f"SELECT count(*), 0 FROM blocks_{number}")[0][0]
        for number, _ in execute("SELECT number, 0 FROM generations")
    }
    assert counted == {number: count for number, count in there.items() if count}


def test_a_database_that_is_read_only_is_told_and_used_again(empty_server: Server) -> None:
    url = empty_server.make_database()
    settings = PostgresSettings.of(url, max_size=4 * MIB)
    writing = url + "&options=-c%20default_transaction_read_only%3Doff"
    blocks, more = make_blocks(10), make_blocks(10, seed=1)

    def switch(setting: str) -> None:
        statement = f"ALTER SYSTEM SET default_transaction_read_only = {setting}"
        empty_server.execute(statement, writing)
        empty_server.execute("SELECT pg_reload_conf()", writing)
        while empty_server.execute("SHOW default_transaction_read_only", url) != [(setting,)]:
            time.sleep(0.01)

    async def main() -> None:
        async with batched(settings) as storage:
            await put(storage, blocks)
            await asyncio.to_thread(switch, "on")
            seed = 1
            # Its sessions hear of it one after the other.
            while (
                said := await put_many(storage, list(make_blocks(1, seed=seed).values()))
            ) is None:
                seed += 1
            assert "the database is read-only" in str(said)
            assert await get(storage, list(blocks)) == list(blocks.values())
            with pytest.raises(StorageError, match="the database is read-only"):
                open_backend(settings)
            await asyncio.to_thread(switch, "off")
            while await put_many(storage, list(more.values())) is not None:
                await asyncio.to_thread(switch, "off")

    asyncio.run(main())


def test_who_is_gone_in_the_middle_is_not_waited_for_long(postgres_url: str) -> None:
    """All others wait for the locks of a front end that lost its power, until the server knows."""
    session = Session(PostgresSettings.of(postgres_url))
    [[wait]] = session.connection.execute("SHOW idle_in_transaction_session_timeout").fetchall()
    assert wait == "5min"
    session.connection.execute("SET idle_in_transaction_session_timeout = '1ms'")
    began: list[object] = []
    with psycopg.connect(postgres_url, autocommit=True) as other:

        def work(cursor: psycopg.Cursor[tuple[object]]) -> None:
            began.append(cursor.connection)
            cursor.execute(locks.exclusive(locks.PRESENCE).encode())
            if len(began) == 1:
                # It does not go on; this waits until the server has ended it.
                other.execute(locks.shared(locks.PRESENCE).encode())
            cursor.execute("SELECT 1")

        session.retried(work)
    # Whoever comes back begins again, over a new connection.
    assert len(set(began)) == len(began) == 2
    session.close()


def test_a_full_disk_of_the_server_is_called_so(postgres_url: str) -> None:
    def work(_cursor: object) -> None:
        raise psycopg.errors.DiskFull('could not extend file "base/1/2": No space left on device')

    session = Session(PostgresSettings.of(postgres_url))
    with pytest.raises(StoreUnavailable, match=r"^the disk of the database is full$"):
        session.retried(work)
    session.close()


class Swapped:
    """A database in whose place a copy can be put that was made earlier."""

    def __init__(self, server: Server, url: str) -> None:
        self._server, self._name = server, url.partition("@/")[2].partition("?")[0]

    def _alone(self, *statements: str) -> None:
        """Do something while nobody is connected, or can be."""
        self._server.execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS false")
        self._server.execute(
            f"SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
            f" WHERE datname = '{self._name}'"
        )
        for statement in statements:
            self._server.execute(statement.format(name=self._name))
        self._server.execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS true")

    def copy(self) -> None:
        """Make a copy."""
        self._alone("CREATE DATABASE {name}_copy TEMPLATE {name}")

    def swap(self) -> None:
        """Put it in the place of the database."""
        self._alone(
            "ALTER DATABASE {name} RENAME TO {name}_lost",
            "ALTER DATABASE {name}_copy RENAME TO {name}",
        )


def test_a_standby_that_takes_over_without_what_came_last(empty_server: Server) -> None:
    url = empty_server.make_database()
    database = Swapped(empty_server, url)
    settings = PostgresSettings.of(url, generation_bytes=MIB // 4)
    first, lost, later = (make_blocks(300, seed=seed) for seed in range(3))

    async def main() -> None:
        async with batched(settings) as storage:
            await put(storage, first)
            await asyncio.to_thread(database.copy)
            await pinned(storage, lost, "lost", lend=True)
            await lent_within_seconds(storage, list(lost), [True] * len(lost))
            await asyncio.to_thread(database.swap)
            assert await get(storage, list(first)) == list(first.values())
            assert not any(await find(storage, list(lost)))
            # Generations and pins get the numbers again that were lost.
            await pinned(storage, later, "later", lend=True)
            await put(storage, lost)
            for blocks in (first, lost, later):
                assert await get(storage, list(blocks)) == list(blocks.values())
            await lent_within_seconds(storage, list(later), [True] * len(later))

    asyncio.run(main())


@contextmanager
def told() -> Iterator[SimpleQueue[logging.LogRecord]]:
    """What is said from now on."""
    records: SimpleQueue[logging.LogRecord] = SimpleQueue()
    handler, logger = QueueHandler(records), logging.getLogger("kapla.storage.postgresql")
    logger.addHandler(handler)
    try:
        yield records
    finally:
        logger.removeHandler(handler)


def until_said(records: SimpleQueue[logging.LogRecord], words: str) -> None:
    while words not in records.get(timeout=_PATIENCE_S).getMessage():
        pass


@pytest.mark.parametrize("way", ["away", "read-only"])
def test_who_watches_an_idle_daemon_is_told(
    empty_server: Server, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    url = empty_server.make_database()
    name = url.partition("@/")[2].partition("?")[0]
    caplog.set_level("INFO", "kapla.storage.postgresql")
    troubles = {
        "away": (
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS",
            "false",
            "true",
            "the database is away",
        ),
        "read-only": (
            f"ALTER DATABASE {name} SET default_transaction_read_only =",
            "on",
            "off",
            "the database is read-only",
        ),
    }
    change, on, off, said = troubles[way]

    def switch(value: str) -> None:
        empty_server.execute(f"{change} {value}")
        empty_server.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
            f" WHERE datname = '{name}'"
        )

    async def main() -> None:
        async with batched(PostgresSettings.of(url)):
            await asyncio.to_thread(switch, on)
            await asyncio.to_thread(until_said, records, said)
            await asyncio.to_thread(switch, off)
            await asyncio.to_thread(until_said, records, "The store can be used again")

    with told() as records:
        asyncio.run(main())
    # Once, and not each second.
    assert len(caplog.messages) == len(set(caplog.messages))


def test_who_was_silent_within_a_transaction_begins_it_anew(postgres_url: str) -> None:
    session = Session(PostgresSettings.of(postgres_url))
    pids: list[int] = []

    def work(cursor: Cursor) -> None:
        pids.append(cursor.connection.info.backend_pid)
        if len(pids) > 1:
            return
        cursor.execute("SET idle_in_transaction_session_timeout = 1")
        # What the server says when it ends the session.
        said, _, _ = select.select([cursor.connection], [], [], _PATIENCE_S)
        assert said
        cursor.execute("SELECT 1")

    session.retried(work)
    assert len(set(pids)) == 2
    session.close()


def test_what_is_set_for_the_role_changes_nothing(
    postgres_url: str, postgres_server: Server
) -> None:
    name = postgres_url.partition("@/")[2].partition("?")[0]
    for setting in HOSTILE:
        postgres_server.execute(f"ALTER DATABASE {name} SET {setting}")

    async def main() -> None:
        async with batched(PostgresSettings.of(postgres_url, max_size=4 * MIB)) as storage:
            newest: dict[Reference, bytes] = {}
            kept = make_blocks(20, BlockSize.LARGE, 99)
            await pinned(storage, kept, "kept", lend=True)
            for seed in range(20):
                newest = make_blocks(10, BlockSize.LARGE, seed)
                await put(storage, newest)
            for blocks in (newest, kept):
                assert await get(storage, list(blocks)) == list(blocks.values())
            assert storage.evicted_blocks

    asyncio.run(main())
