"""What becomes of pins as their blocks are damaged, dropped, replaced or moved; and in a crash."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from eris import BlockSize, Reference, StoreUnavailable
from kapla.pins import PinSummary
from kapla.storage.batching import BatchedStorage
from kapla.storage.pins import Closing
from kapla.storage.port import Promise
from kapla.storage.sqlite.damage import transaction
from kapla.storage.sqlite.database import SqliteSettings
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.keeping.rows import PinRows
from kapla.storage.sqlite.writer import SqliteWriter
from tests.kapla.storage.backends import keeping_of
from tests.kapla.storage.databases import (
    batched,
    forge,
    get_many,
    make_blocks,
    opened,
    put_many,
    settings_for,
    under_pin,
)

OWNER = 1000


def ids_of(path: Path) -> dict[Reference, int]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT reference, id FROM blocks ORDER BY id").fetchall()
    return {Reference(name): block_id for name, block_id in rows}


async def make_pin(storage: BatchedStorage, name: str, blocks: list[bytes]) -> PinSummary:
    pin = await storage.pinning.open(OWNER)
    await under_pin(storage, blocks, pin)
    return await storage.pinning.close(pin, name=name)


async def pins_of(storage: BatchedStorage) -> dict[str, PinSummary]:
    found, _ = await storage.pinning.list(None, None, 99)
    return {pin.name: pin for pin in found}


def drop(
    writer: SqliteWriter, known: Mapping[int, bytes | None], size: BlockSize = BlockSize.SMALL
) -> None:
    """As what looks after the blocks drops bad ones."""
    connection = writer._connection
    with transaction(connection):
        connection.executemany("DELETE FROM blocks WHERE id = ?", [(i,) for i in known])
        writer.pins.lost(known, dict.fromkeys(known, int(size)))


def test_what_is_lost_is_missing_until_it_comes_again(tmp_path: Path) -> None:
    blocks = make_blocks(6)
    settings = settings_for(tmp_path)

    async def main() -> None:
        async with batched(settings) as storage:
            await make_pin(storage, "a", list(blocks.values()))
            await make_pin(storage, "b", list(blocks.values())[:2])
            ids = ids_of(settings.path)
            whole, by_prefix, unknown, *_ = blocks
            known = {ids[whole]: whole, ids[by_prefix]: by_prefix[:8], ids[unknown]: None}
            await storage.do(lambda writer: drop(writer, known))
            pins = await pins_of(storage)
            assert (pins["a"].small, pins["a"].missing) == (3, 3)
            assert (pins["b"].small, pins["b"].missing) == (0, 2)
            assert keeping_of(storage).kept == Ids(list(ids.values())[3:])
        async with batched(settings) as storage:
            assert await get_many(storage, [whole]) == [None]
            await put_many(storage, list(blocks.values()))
            pins = await pins_of(storage)
            # Of one nothing was known, so that it cannot be told that it has come.
            assert (pins["a"].small, pins["a"].missing) == (5, 1)
            assert (pins["b"].small, pins["b"].missing) == (2, 0)
            assert len(keeping_of(storage).kept) == 5
            again = await make_pin(storage, "a", list(blocks.values()))
            assert (again.small, again.missing) == (6, 0)

    asyncio.run(main())


def make_without_pins(settings: SqliteSettings, blocks: dict[Reference, bytes]) -> None:
    """As the version before pins left it."""
    with opened(settings) as store:
        store.writer.put_many(blocks)
    with closing(sqlite3.connect(settings.path, isolation_level=None)) as connection:
        for table in ("pins", "wanted", "arrivals", "lent"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("UPDATE kapla_schema SET version = 2")


def test_what_is_lost_of_all_that_was_before_is_counted(tmp_path: Path) -> None:
    blocks = make_blocks(6)
    settings = settings_for(tmp_path)
    make_without_pins(settings, blocks)

    async def main() -> None:
        async with batched(settings) as storage:
            name, block_id = next(iter(ids_of(settings.path).items()))
            await storage.do(lambda writer: drop(writer, {block_id: name}))
            before = (await pins_of(storage))["before-pins"]
            assert (before.small, before.own_small, before.missing) == (5, 5, 1)
            await put_many(storage, list(blocks.values()))
        for _ in range(2):
            async with batched(settings) as storage:
                before = (await pins_of(storage))["before-pins"]
                assert (before.small, before.own_small, before.missing) == (6, 6, 0)
                assert len(keeping_of(storage).kept) == 6

    asyncio.run(main())


def test_what_others_pin_of_what_came_again_is_not_its_own(tmp_path: Path) -> None:
    """Of the pin over all that there was."""
    blocks = make_blocks(3, BlockSize.LARGE)
    settings = settings_for(tmp_path)
    make_without_pins(settings, blocks)
    with opened(settings) as store:
        drop(store.writer, {1: next(iter(blocks))}, BlockSize.LARGE)

    async def main() -> None:
        async with batched(settings) as storage:
            await put_many(storage, list(blocks.values()))
            await make_pin(storage, "a", list(blocks.values()))
            before = (await pins_of(storage))["before-pins"]
            assert (before.large, before.own_large, before.missing) == (3, 0, 0)

    asyncio.run(main())


def test_what_moves_stays_kept_though_the_pins_cannot_be_read_just_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = list(make_blocks(4).values())
    places = {block_id: (block_id + 100, 1024) for block_id in range(1, 5)}

    def fails(_: PinRows) -> dict[int, int]:
        raise sqlite3.OperationalError("disk I/O error")

    def move(writer: SqliteWriter) -> None:
        with transaction(writer._connection):
            writer._connection.execute("UPDATE blocks SET id = id + 100")
            writer.pins.move(places)
        with monkeypatch.context() as patched:
            patched.setattr(PinRows, "missing", fails)
            writer.pins.moved(places)
        assert {101, 102, 103, 104} <= set(writer._database.keeping.safe())

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            await make_pin(storage, "a", blocks)
            await storage.do(move)
            pins = await pins_of(storage)
            assert (pins["a"].small, pins["a"].own_small) == (4, 4)
            assert list(keeping_of(storage).kept) == [101, 102, 103, 104]

    asyncio.run(main())


def break_overflow(path: Path, block: bytes) -> None:
    """Damage the chain of pages of a large block, so that it cannot be read any more."""
    data = path.read_bytes()
    at = data.index(block[-1024:])
    page_size = int.from_bytes(data[16:18], "big")
    with path.open("r+b") as file:
        file.seek(at - at % page_size)
        file.write(b"\xff\xff\xff\xf0")


def test_a_good_block_takes_the_place_of_a_damaged_one_in_its_pins(tmp_path: Path) -> None:
    blocks = list(make_blocks(4, BlockSize.LARGE).values())
    settings = settings_for(tmp_path)

    async def fill() -> None:
        async with batched(settings) as storage:
            await make_pin(storage, "a", blocks)
            await make_pin(storage, "b", blocks[:1])

    async def main() -> None:
        async with batched(settings) as storage:
            await put_many(storage, blocks[:1])
            pins = await pins_of(storage)
            assert (pins["a"].large, pins["a"].own_large, pins["b"].large) == (4, 3, 1)
            newest = max(ids_of(settings.path).values())
            assert newest in keeping_of(storage).kept
            assert len(keeping_of(storage).kept) == 4
        async with batched(settings) as storage:
            assert newest in keeping_of(storage).kept

    asyncio.run(fill())
    break_overflow(settings.path, blocks[0])
    asyncio.run(main())


def test_blocks_that_move_stay_in_their_pins(tmp_path: Path) -> None:
    blocks = list(make_blocks(4).values())
    settings = settings_for(tmp_path)

    def move(writer: SqliteWriter) -> None:
        places = {2: (7, int(BlockSize.SMALL)), 3: (8, int(BlockSize.SMALL))}
        with transaction(writer._connection):
            for former, (block_id, _) in places.items():
                writer._connection.execute(
                    "UPDATE blocks SET id = ? WHERE id = ?", (block_id, former)
                )
            assert writer.pins.move(places)
        writer.pins.moved(places)

    async def main() -> None:
        async with batched(settings) as storage:
            await make_pin(storage, "a", blocks[:3])
            held = await storage.pinning.open(OWNER)
            await under_pin(storage, blocks[2:], held)
            await storage.do(move)
            assert keeping_of(storage).kept == Ids([1, 7, 8])
            assert held.hold.small == Ids([8, 4])  # type: ignore[attr-defined]
            await storage.pinning.close(held, name="b")
            pins = await pins_of(storage)
            assert (pins["a"].own_small, pins["b"].own_small) == (2, 1)
        async with batched(settings) as storage:
            assert keeping_of(storage).kept == Ids([1, 4, 7, 8])

    asyncio.run(main())


def test_damaged_blocks_are_not_there_for_a_pin(tmp_path: Path) -> None:
    blocks = make_blocks(3)
    settings = settings_for(tmp_path)

    async def main() -> None:
        async with batched(settings) as storage:
            await put_many(storage, list(blocks.values()))
            await storage.do(
                lambda writer: writer._connection.execute(
                    "UPDATE blocks SET block = x'00' WHERE id = 2"
                )
            )
            pin = await storage.pinning.open(OWNER)
            assert await storage.pinning.want(pin, list(blocks)) == [True, False, True]
            # It is healed in its place.
            await under_pin(storage, list(blocks.values()), pin)
            summary = await storage.pinning.close(pin, name="a")
            assert (summary.small, summary.missing) == (3, 0)

    asyncio.run(main())


def test_what_fails_at_closing_leaves_the_pin_open(tmp_path: Path) -> None:
    blocks = list(make_blocks(4).values())

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            before = await make_pin(storage, "a", blocks[:1])
            pin = await storage.pinning.open(OWNER)
            await under_pin(storage, blocks, pin)
            failing = (
                "CREATE TRIGGER failing BEFORE INSERT ON pins BEGIN SELECT RAISE(FAIL, 'x'); END"
            )
            await storage.do(lambda writer: writer._connection.execute(failing))
            with pytest.raises(StoreUnavailable):
                await storage.pinning.close(pin, name="a")
            assert await pins_of(storage) == {"a": before}
            assert len(keeping_of(storage).safe()) == 4
            await storage.do(lambda writer: writer._connection.execute("DROP TRIGGER failing"))
            assert (await storage.pinning.close(pin, name="a")).small == 4

    asyncio.run(main())


def test_a_reference_that_begins_as_another_is_not_taken_for_it(tmp_path: Path) -> None:
    first, second, third = (forge(7, number) for number in range(3))
    with opened(settings_for(tmp_path)) as store:
        store.writer.put_many(dict([first]))
        number, hold, _ = store.writer.pins.begin(OWNER, None, b"token")
        store.writer.want(number, hold, [third[0]])
        store.writer.put_many(dict([second]), [Promise(hold, [second[0]], [second[1]])])
        assert hold.small == Ids([2])
        store.writer.put_many(dict([first, third]))
        assert hold.small == Ids([2, 3])


# --- killed in the middle ---------------------------------------------------------------------

CLOSER = """
import asyncio, sys
from pathlib import Path
from kapla.storage.batching import BatchedStorage
from kapla.storage.sqlite.database import SqliteSettings
from tests.kapla.storage.databases import make_blocks, under_pin

async def main():
    storage = BatchedStorage(SqliteSettings(Path(sys.argv[1]), synchronous=sys.argv[2]))
    await storage.open()
    for seed in range(1000):
        pin = await storage.pinning.open(1)
        await under_pin(storage, list(make_blocks(20, seed=seed).values()), pin)
        await storage.pinning.close(pin, name=str(seed % 5))
        print(seed, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize(("rounds", "synchronous"), [(1, "normal"), (9, "normal"), (4, "full")])
def test_a_closed_pin_is_there_after_a_kill(tmp_path: Path, rounds: int, synchronous: str) -> None:
    settings = settings_for(tmp_path)
    command = [sys.executable, "-c", CLOSER, str(settings.path), synchronous]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        closed = [int(process.stdout.readline()) for _ in range(rounds)]
        process.kill()
        # Whatever it told of before it was killed.
        closed += [int(line) for line in process.stdout if line.endswith("\n")]

    async def main() -> None:
        async with batched(settings) as storage:
            ids = ids_of(settings.path)
            pins = await pins_of(storage)
            assert {str(seed % 5) for seed in closed} <= set(pins)
            assert all((pin.small, pin.missing) == (20, 0) for pin in pins.values())
            for seed in closed[-5:]:
                mine = make_blocks(20, seed=seed)
                assert await get_many(storage, list(mine)) == list(mine.values())
                # Only the one that was about to be closed may have taken the place of another.
                if seed % 5 != (closed[-1] + 1) % 5:
                    assert {ids[name] for name in mine} <= set(keeping_of(storage).kept)

    asyncio.run(main())


def test_what_was_open_when_it_was_killed_lacks_nothing_later(tmp_path: Path) -> None:
    settings, blocks = settings_for(tmp_path), make_blocks(9)
    with opened(settings) as store:
        number, hold, _ = store.writer.pins.begin(OWNER, None, b"token")
        store.writer.want(number, hold, list(blocks))
    with opened(settings) as store:
        again, hold, _ = store.writer.pins.begin(OWNER, None, b"token")
        assert again > number
        while store.writer.chore(is_idle=True) == 0.0:
            pass
        store.writer.put_many(blocks)
        made = Closing("a", None, lend=False, keep=True, incomplete=False)
        assert store.writer.pins.close(again, hold, made, 9).small == 0
    with closing(sqlite3.connect(settings.path)) as connection:
        assert connection.execute("SELECT count(*) FROM wanted").fetchone() == (0,)


def test_upkeep_that_fails_for_a_while_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that cannot be written stops nothing else that the writer does between its rounds."""
    blocks = make_blocks(3)
    with opened(settings_for(tmp_path)) as store:
        writer, connection = store.writer, store.writer._connection
        number, hold, _ = writer.pins.begin(1000, None, b"token")
        writer.want(number, hold, list(blocks))
        closing = Closing("a", next(iter(blocks)), lend=False, keep=True, incomplete=True)
        writer.pins.close(number, hold, closing, 10)
        writer.put_many(blocks)
        connection.execute("PRAGMA query_only = 1")
        assert writer.chore(is_idle=True) == writer.chore(is_idle=True) == 5.0
        assert caplog.text.count("The upkeep of pins failed") == 1
        assert "Traceback" not in caplog.text
        connection.execute("PRAGMA query_only = 0")
        while writer.chore(is_idle=True) is not None:
            pass
        assert connection.execute("SELECT count(*) FROM arrivals").fetchall() == [(0,)]
        ([summary], _) = writer.pins.page(None, (-1, ""), 10)
        assert (summary.small, summary.missing) == (3, 0)


def test_a_pin_over_all_that_was_before_and_has_lost_all_has_nothing(tmp_path: Path) -> None:
    """What came later is none of its."""
    with opened(settings_for(tmp_path)) as store:
        store.writer.put_many(make_blocks(4))
    with closing(sqlite3.connect(tmp_path / "blocks.sqlite")) as connection, connection:
        for table in ("pins", "wanted", "arrivals", "lent"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("UPDATE kapla_schema SET version = 2")
    known = {block_id: name for name, block_id in ids_of(tmp_path / "blocks.sqlite").items()}
    with opened(settings_for(tmp_path)) as store:
        drop(store.writer, known)
        store.writer.put_many(make_blocks(7, seed=1))
        ([summary], _) = store.writer.pins.page(None, (-1, ""), 10)
        assert (summary.small, summary.large, summary.missing) == (0, 0, 4)
    with opened(settings_for(tmp_path)) as store:
        ([summary], _) = store.writer.pins.page(None, (-1, ""), 10)
        assert (summary.small, summary.large, summary.missing) == (0, 0, 4)


def test_a_pin_over_ids_that_led_to_nothing_has_nothing_once_it_lost_the_others(
    tmp_path: Path,
) -> None:
    """Its ids are runs, with gaps of what went before: these are not all that there is."""
    path = tmp_path / "blocks.sqlite"
    with opened(settings_for(tmp_path)) as store:
        store.writer.put_many(make_blocks(5))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM blocks WHERE id = 3")
        connection.execute("UPDATE totals SET blocks = 4 WHERE block_size = 1024")
        for table in ("pins", "wanted", "arrivals", "lent"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("UPDATE kapla_schema SET version = 2")
    known = {block_id: name for name, block_id in ids_of(path).items()}
    with opened(settings_for(tmp_path)) as store:
        drop(store.writer, known)
        store.writer.put_many(make_blocks(7, seed=1))
        ([summary], _) = store.writer.pins.page(None, (-1, ""), 10)
        assert (summary.small, summary.large, summary.missing) == (0, 0, 4)
