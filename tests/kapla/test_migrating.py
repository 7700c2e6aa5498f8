"""A whole store into another one: blocks, pins, and what became of them on the way."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from eris import BlockSize, Reference
from kapla.cli.migrate import command
from kapla.errors import PinNotFound
from kapla.migrating import Migrated, migrate
from kapla.pins import PinSummary
from kapla.storage.batching import BatchedStorage
from kapla.storage.sqlite.lock import lock_store
from kapla.storage.sqlite.state import SqliteSettings
from tests.kapla.storage.databases import batched, get_many, make_blocks, put_many, under_pin
from tests.kapla.storage.pins.stores import pinned

SMALL = make_blocks(3000)
LARGE = make_blocks(40, BlockSize.LARGE)
LACKING = make_blocks(1500, seed=7)
ALL = SMALL | LARGE


def at(directory: Path, name: str) -> SqliteSettings:
    return SqliteSettings(directory / name)


async def fill(storage: BatchedStorage) -> None:
    """All blocks, some of them in pins; one pin lacks what comes to nobody."""
    for blocks in (SMALL, LARGE):
        assert await put_many(storage, list(blocks.values())) is None
    pinning = storage.pinning
    names = list(ALL)
    for owner, name, held in ((1000, "notes", names[:2500]), (0, "disk", names[2000:])):
        pin = await pinning.open(owner)
        assert all(await pinning.want(pin, held))
        await pinning.close(pin, name=name, root=held[0], lend=not owner, keep=bool(owner))
    pin = await pinning.open(1000)
    await pinning.want(pin, [*names[:10], *LACKING])
    await pinning.close(pin, root=names[5], incomplete=True)


def run(source: Path, target: Path) -> Migrated:
    told: list[tuple[int, int]] = []
    done = asyncio.run(migrate(source, target, lambda so_far, of: told.append((so_far, of))))
    assert told == sorted(told)
    if told:
        assert told[-1][0] == told[-1][1]
    return done


class Told(NamedTuple):
    """What is told of a pin but when it was made, and what is in it."""

    facts: tuple[object, ...]
    names: frozenset[Reference]


async def pins_of(storage: BatchedStorage) -> dict[str, Told]:
    """All pins, by their names."""
    found: dict[str, Told] = {}
    pins, _ = await storage.pinning.list(None, None, 100)
    for pin in pins:
        names = [
            name async for page in storage.pinning.contents(pin.owner, pin.name) for name in page
        ]
        assert len(names) == len(set(names))
        facts = [getattr(pin, field) for field in PinSummary.__slots__ if field != "created"]
        found[pin.name] = Told(tuple(facts), frozenset(names))
    return found


async def is_whole(directory: Path, source: str, target: str) -> None:
    async with batched(at(directory, source)) as one, batched(at(directory, target)) as other:
        assert (await one.totals())[0] == (await other.totals())[0]
        assert await pins_of(one) == await pins_of(other)
        assert await get_many(other, list(ALL)) == list(ALL.values())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    async def main() -> None:
        async with batched(at(tmp_path, "source")) as storage:
            await fill(storage)

    asyncio.run(main())
    return tmp_path / "source"


def test_a_pin_tells_what_is_in_it(source: Path) -> None:
    async def main() -> None:
        async with batched(SqliteSettings(source)) as storage:
            found = await pins_of(storage)
            names = list(ALL)
            assert found["notes"].names == set(names[:2500])
            assert found["disk"].names == set(names[2000:])
            (other,) = set(found) - {"notes", "disk"}
            assert found[other].names == {*names[:10], *LACKING}
            with pytest.raises(PinNotFound):
                await anext(storage.pinning.contents(0, "notes"))
            # What comes is told once, as before.
            assert await put_many(storage, list(LACKING.values())) is None
            assert (await pins_of(storage))[other].names == {*names[:10], *LACKING}

    asyncio.run(main())


def test_all_of_a_store_is_copied_and_once(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "directory" / "target"
    done = run(source, target)
    assert (done.blocks, done.bytes) == (len(ALL), sum(map(len, ALL.values())))
    assert (done.there, done.bad, done.pins, done.pins_there) == (0, 0, 3, 0)
    assert (done.missing, done.in_the_way) == (len(LACKING), [])
    asyncio.run(is_whole(tmp_path, "source", "directory/target"))
    again = run(source, target)
    assert (again.blocks, again.there, again.pins, again.pins_there) == (0, len(ALL), 0, 3)
    back = run(target, tmp_path / "back")
    assert (back.blocks, back.pins) == (len(ALL), 3)
    asyncio.run(is_whole(tmp_path, "source", "back"))


def test_a_copy_that_was_broken_off_goes_on(source: Path, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def enough(so_far: int, of: int) -> None:
        if 3 * so_far > of:
            raise Enough

    target = tmp_path / "target"
    with pytest.raises(Enough):
        asyncio.run(migrate(source, target, enough))
    done = run(source, target)
    assert 500 < done.there < 2500
    assert done.blocks + done.there == len(ALL)
    asyncio.run(is_whole(tmp_path, "source", "target"))


def test_what_the_target_has_stays(source: Path, tmp_path: Path) -> None:
    own = make_blocks(20, seed=3)

    async def before() -> None:
        async with batched(at(tmp_path, "target")) as storage:
            pin = await storage.pinning.open(1000)
            await under_pin(storage, list(own.values()), pin)
            await storage.pinning.close(pin, name="notes", root=next(iter(own)))

    async def after() -> None:
        async with batched(at(tmp_path, "target")) as storage:
            found = await pins_of(storage)
            assert found["notes"].names == set(own)
            assert len(found) == 3
            assert await get_many(storage, list(ALL)) == list(ALL.values())

    asyncio.run(before())
    done = run(source, tmp_path / "target")
    assert (done.pins, done.in_the_way) == (2, ["notes"])
    asyncio.run(after())


def test_a_damaged_block_is_not_copied(source: Path, tmp_path: Path) -> None:
    bad = next(iter(LARGE))
    with closing(sqlite3.connect(source)) as connection, connection:
        connection.execute("UPDATE blocks SET block = zeroblob(32768) WHERE reference = ?", (bad,))
    done = run(source, tmp_path / "target")
    assert (done.blocks, done.bad, done.pins) == (len(ALL) - 1, 1, 3)

    async def main() -> None:
        async with batched(at(tmp_path, "target")) as storage:
            assert await get_many(storage, [bad]) == [None]
            assert bad in (await pins_of(storage))["disk"].names

    asyncio.run(main())


def test_what_a_daemon_made_gets_another_name(tmp_path: Path) -> None:
    async def before() -> None:
        async with batched(at(tmp_path, "source")) as storage:
            await fill(storage)

    asyncio.run(before())
    with closing(sqlite3.connect(tmp_path / "source")) as connection, connection:
        connection.execute("UPDATE pins SET name = ? WHERE name = ?", (b"before-pins", b"disk"))
    assert run(tmp_path / "source", tmp_path / "target").pins == 3

    async def after() -> None:
        async with batched(at(tmp_path, "target")) as storage:
            assert "before-pins-migrated" in await pins_of(storage)

    asyncio.run(after())
    assert run(tmp_path / "source", tmp_path / "target").in_the_way == []


# --- the command ------------------------------------------------------------------------------


def kapla(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, ["migrate", *map(str, arguments)])


def code(result: Result) -> object:
    return getattr(result.exception, "exit_code", result.exit_code)


def test_the_command_says_what_was_done(source: Path, tmp_path: Path) -> None:
    result = kapla(source, tmp_path / "target")
    assert result.exit_code == 0, result.exception
    assert result.stdout == (
        "3,040 blocks copied (4.2 MiB), 0 were there; 3 pins made, 0 were there\n"
    )
    assert "lack 1,500 blocks" in result.stderr
    told = json.loads(kapla("--json", source, tmp_path / "target").stdout)
    assert (told["blocks"], told["there"], told["pins_there"]) == (0, 3040, 3)


def test_one_is_no_plural(tmp_path: Path) -> None:
    async def main() -> None:
        async with batched(at(tmp_path, "source")) as storage:
            await pinned(storage, make_blocks(1), "one")

    asyncio.run(main())
    said = [kapla(tmp_path / "source", tmp_path / "target").stdout for _ in range(2)]
    assert said == [
        "1 block copied (1.0 KiB), 0 were there; 1 pin made, 0 were there\n",
        "0 blocks copied (0 B), 1 was there; 0 pins made, 1 was there\n",
    ]


@pytest.mark.parametrize("which", ["source", "target"])
def test_a_file_that_is_used_is_left_alone(source: Path, tmp_path: Path, which: str) -> None:
    import os

    held = lock_store(tmp_path / which)
    try:
        result = kapla(source, tmp_path / "target")
    finally:
        os.close(held)
    assert (code(result), "is using the store" in str(result.exception)) == (3, True)


def test_what_cannot_be_copied(source: Path, tmp_path: Path) -> None:
    wrong: Sequence[tuple[object, object, int, str]] = (
        (tmp_path / "none", tmp_path / "target", 3, "there is no store"),
        (source, source, 3, "the same store"),
        ("mysql://h/k", source, 2, "FROM: no store is kept by mysql://"),
        (source, "postgresql://u:s3cret@h/", 2, "TO: the URL names no database"),
    )
    for one, other, expected, reason in wrong:
        result = kapla(str(one), str(other))
        assert code(result) == expected, result.exception
        assert reason in str(result.exception)
        assert "s3cret" not in str(result.exception)
    assert not (tmp_path / "target").exists()
