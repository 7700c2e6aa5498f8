"""A store in a file: read beside whoever writes, written in turns."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from eris import BlockNotFound, BlockSize, CorruptBlock, Reference, reference_of
from eris.errors import StoreRefused, StoreUnavailable
from kapla.caring import scrub
from kapla.errors import ConfigError
from kapla.file_store import FileStore
from kapla.pinning import Pins
from kapla.storage.batching import BatchedStorage
from kapla.storage.sqlite.database import SqliteSettings
from kapla.storage.sqlite.holder import Holder
from kapla.storage.sqlite.lock import lock_store
from kapla.urls import StoreUrl, parse_store_url
from tests.kapla.storage.databases import make_blocks, put_many

GUARD_S = 60


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(GUARD_S):
            await test()

    asyncio.run(bounded())


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a store may be; the settings of whoever runs the tests do not count."""
    for name in [name for name in os.environ if name.startswith("KAPLA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KAPLA_CONFIG", str(tmp_path / "kapla.toml"))
    (tmp_path / "kapla.toml").touch()
    return tmp_path / "blocks.sqlite"


def url_of(path: Path, flags: str = "") -> StoreUrl:
    return parse_store_url(f"file://{path}{flags}")


def one_block(text: bytes = b"a block") -> tuple[Reference, bytes]:
    block = text.ljust(BlockSize.SMALL, b"\0")
    return reference_of(block), block


def config(path: Path, text: str) -> None:
    (path.parent / "kapla.toml").write_text(text)


def mode_of(path: Path) -> int | None:
    return path.stat().st_mode & 0o777 if path.exists() else None


async def fill(path: Path) -> tuple[Reference, bytes]:
    name, block = one_block()
    async with FileStore(url_of(path)) as store:
        await store.put(name, block)
    return name, block


def test_a_file_is_made_only_when_something_is_put(path: Path) -> None:
    name, block = one_block()

    async def test() -> None:
        async with FileStore(url_of(path)) as store:
            with pytest.raises(StoreUnavailable, match="there is no store"):
                await store.get(name, BlockSize.SMALL)
            assert await store.find([name]) == [False]
            await store.connect()
            assert mode_of(path) is None
            await store.put(name, block)
            assert mode_of(path) == 0o600
            assert await store.get(name, BlockSize.SMALL) == block

    run(test)
    # Closed in order: nothing is left beside it but the lock.
    names = {one.name for one in path.parent.glob("blocks*")}
    assert names == {path.name, path.name + ".lock"}


def test_a_file_that_is_only_to_be_read_is_not_made(path: Path) -> None:
    name, block = one_block()

    async def test() -> None:
        async with FileStore(url_of(path, "?get")) as store:
            with pytest.raises(StoreUnavailable, match="there is no store"):
                await store.connect()
            with pytest.raises(StoreRefused, match="does not allow put"):
                await store.put(name, block)
            assert not await store.takes_blocks()

    run(test)
    assert not path.exists()


def test_it_is_read_beside_whoever_writes(path: Path) -> None:
    blocks = list(make_blocks(40).values())

    async def test() -> None:
        # A generation is soon over: places move into the index meanwhile.
        writer = BatchedStorage(SqliteSettings(path, generation=8))
        lock = lock_store(path, Holder.myself("kaplad"))
        await writer.open()
        try:
            await put_many(writer, blocks[:5])
            async with FileStore(url_of(path)) as store:
                for block in blocks[:5]:
                    assert await store.get(reference_of(block), BlockSize.SMALL) == block
                for block in blocks[5:]:
                    name = reference_of(block)
                    assert await store.find([name]) == [False]
                    with pytest.raises(BlockNotFound):
                        await store.get(name, BlockSize.SMALL)
                    await put_many(writer, [block])
                    assert await store.get(name, BlockSize.SMALL) == block
                assert all(await store.find(list(map(reference_of, blocks))))
                with pytest.raises(CorruptBlock):
                    await store.get(reference_of(blocks[0]), BlockSize.LARGE)
                assert (await store.stat())["blocks"] == {"1024": 40, "32768": 0}
        finally:
            await writer.close()
            os.close(lock)

    run(test)


def test_what_is_asked_as_it_is_opened_to_write_is_answered(path: Path) -> None:
    blocks = list(make_blocks(50).values())

    async def test() -> None:
        name, block = await fill(path)
        async with FileStore(url_of(path)) as store:
            # Some by the one that reads, some by the one that writes; none in between is lost.
            gets = [store.get(name, BlockSize.SMALL)]
            for one in blocks:
                gets.append(store.get(name, BlockSize.SMALL))
                await store.put(reference_of(one), one)
            assert set(await asyncio.gather(*gets)) == {block}

    run(test)


def test_who_writes_waits_for_the_lock_and_names_who_has_it(path: Path) -> None:
    name, block = one_block()
    said: list[StoreUrl] = []

    async def test() -> None:
        await fill(path)
        lock = lock_store(path, Holder.myself("kaplad", "/run/it is.sock"))
        try:
            async with FileStore(url_of(path), connect_timeout_s=1.1, on_wait=said.append) as store:
                with pytest.raises(StoreUnavailable) as caught:
                    await store.put(name, block)
                # It can be read as ever.
                assert await store.get(name, BlockSize.SMALL) == block
        finally:
            os.close(lock)
        assert said == [url_of(path)]
        text = str(caught.value)
        assert f"kaplad (pid {os.getpid()}) at the socket /run/it is.sock" in text
        assert "--store-url coap+unix:///run/it%20is.sock" in text

    run(test)


def test_two_who_write_take_turns(path: Path) -> None:
    name, block = one_block()

    async def test() -> None:
        lock = lock_store(path, Holder.myself("kapla"))
        waiting = asyncio.Event()
        async with FileStore(
            url_of(path), connect_timeout_s=GUARD_S, on_wait=lambda _: waiting.set()
        ) as store:
            put = asyncio.ensure_future(store.put(name, block))
            await waiting.wait()
            assert not put.done()
            os.close(lock)
            await put

    run(test)


def test_closing_ends_a_wait_for_the_lock(path: Path) -> None:
    name, block = one_block()

    async def test() -> None:
        lock = lock_store(path)
        try:
            store = FileStore(url_of(path), connect_timeout_s=GUARD_S)
            put = asyncio.ensure_future(store.put(name, block))
            await asyncio.sleep(0)
            await store.close()
            with pytest.raises(asyncio.CancelledError):
                await put
            with pytest.raises(StoreUnavailable, match="closed"):
                await store.find([name])
        finally:
            os.close(lock)

    run(test)


def test_pins_are_kept_and_are_told_of_without_the_lock(path: Path) -> None:
    name, _ = one_block()
    other, more = one_block(b"another")

    async def test() -> None:
        await fill(path)
        async with FileStore(url_of(path)) as store:
            pins = Pins(store)
            async with await pins.open() as pin:
                await store.put(other, more)
                assert await store.find([name]) == [True]
                await pin.close(root=other, name="mine")
        lock = lock_store(path)
        try:
            async with FileStore(url_of(path), connect_timeout_s=0.01) as store:
                pins = Pins(store)
                [found] = [one async for one in pins.list()]
                assert (found.name, found.small, found.keep) == ("mine", 2, True)
                assert await pins.find("mine") == found
                assert await pins.find(other) == found
                assert await pins.find("yours") is None
                with pytest.raises(StoreUnavailable, match="in use"):
                    await pins.release("mine")
        finally:
            os.close(lock)
        async with FileStore(url_of(path)) as store:
            assert (await Pins(store).change("mine", lend=True)).lend
            await Pins(store).release("mine")
            assert [one async for one in Pins(store).list()] == []

    run(test)


def test_several_in_one_program_share_a_file(path: Path) -> None:
    name, block = one_block()

    async def test() -> None:
        async with FileStore(url_of(path), connect_timeout_s=0.01) as one:
            await one.put(name, block)
            async with (
                FileStore(url_of(path), connect_timeout_s=0.01) as other,
                # Each has an open pin of its own.
                await Pins(one).open(),
                await Pins(other).open(),
            ):
                assert await other.find([name]) == [True]
            assert await one.get(name, BlockSize.SMALL) == block

    run(test)


def test_a_whole_store_is_listed_and_looked_at(path: Path) -> None:
    blocks = list(make_blocks(1200).values())

    async def test() -> None:
        async with FileStore(url_of(path)) as store:
            await asyncio.gather(*(store.put(reference_of(block), block) for block in blocks))
            assert (await scrub(store)).blocks == len(blocks)
        async with FileStore(url_of(path)) as store, aclosing(store.list_blocks()) as pages:
            listed = [name async for page in pages for name in page]
        assert set(listed) == set(map(reference_of, blocks))

    run(test)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE kapla_schema SET version = 2", "schema version 2.*start kaplad on it once"),
        ("UPDATE kapla_schema SET version = 99", "a newer Kapla wrote it"),
        ("UPDATE kapla_schema SET version = 'x'", "not a Kapla store"),
        ("DROP TABLE kapla_schema", "not a Kapla store"),
    ],
)
def test_other_databases_are_not_read(path: Path, statement: str, reason: str) -> None:
    async def test() -> None:
        name, _ = await fill(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(statement)
        async with FileStore(url_of(path)) as store:
            with pytest.raises(StoreUnavailable, match=reason):
                await store.get(name, BlockSize.SMALL)

    run(test)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "it is empty"), (b"no database" * 500, "not a database"), (None, "Is a directory")],
)
def test_other_files_are_not_read(path: Path, content: bytes | None, reason: str) -> None:
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)

    async def test() -> None:
        async with FileStore(url_of(path)) as store:
            with pytest.raises(StoreUnavailable, match=reason):
                await store.get(one_block()[0], BlockSize.SMALL)

    run(test)
    if content is not None:
        assert path.read_bytes() == content


def test_the_settings_of_the_daemon_limit_its_store_alone(path: Path) -> None:
    config(path, f'store = "{path}"\nmax-size = "1 MiB"\nwhen-full = "refuse"\n')
    blocks = list(make_blocks(60, BlockSize.LARGE).values())

    async def put_all(store: FileStore) -> None:
        for block in blocks:
            await store.put(reference_of(block), block)

    async def test() -> None:
        async with FileStore(url_of(path)) as store:
            with pytest.raises(StoreRefused, match="max-size"):
                await put_all(store)
            assert (await store.stat())["max_size"] == 2**20
        async with FileStore(url_of(path.with_name("other.sqlite"))) as store:
            await put_all(store)
            assert (await store.stat())["max_size"] is None

    run(test)


def test_settings_that_are_wrong_are_in_the_way_of_who_writes_alone(path: Path) -> None:
    async def test() -> None:
        name, block = await fill(path)
        config(path, 'max-sise = "1 MiB"\n')
        async with FileStore(url_of(path)) as store:
            assert await store.get(name, BlockSize.SMALL) == block
            with pytest.raises(ConfigError, match=r"may limit the store.*max-sise"):
                await store.put(name, block)

    run(test)


_KILLED = """
import asyncio, os, signal, sys
from eris import reference_of
from kapla.file_store import FileStore
from kapla.urls import parse_store_url

async def main():
    block = b"a block".ljust(1024, b"\\0")
    store = FileStore(parse_store_url(sys.argv[1]))
    await store.put(reference_of(block), block)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_what_was_answered_outlives_a_killed_program(path: Path) -> None:
    name, block = one_block()
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, f"file://{path}"], check=False, timeout=GUARD_S
    )
    assert done.returncode == -9

    async def test() -> None:
        async with FileStore(url_of(path), connect_timeout_s=0.01) as store:
            assert await store.get(name, BlockSize.SMALL) == block
            # The lock went with who had it.
            assert await store.takes_blocks()

    run(test)
