"""A daemon with a cap: it holds while clients put and get, after a kill, and on a full disk."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eris import BlockSize, Reference
from kapla.client import RemoteStore
from kapla.urls import parse_store_url
from tests.integration.daemon import Daemon, running_daemon
from tests.integration.test_disk_full import (
    MIB,
    check_database,
    fill,
    missing,
    put_all,
    small_disk,
)
from tests.kapla.storage.databases import make_blocks

__all__ = ["small_disk"]

both_sizes = pytest.mark.parametrize("size", BlockSize, ids=lambda size: size.label)


@contextmanager
def sampled(store: Path) -> Iterator[list[int]]:
    """The bytes of a store's files, looked at again and again meanwhile."""
    samples: list[int] = []
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(0.002):
            samples.append(sum(_size(f"{store}{suffix}") for suffix in ("", "-wal", "-reserve")))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield samples
    finally:
        is_over.set()
        thread.join()


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


async def report(daemon: Daemon) -> dict[str, object]:
    async with RemoteStore(parse_store_url(daemon.url)) as store:
        return await store.stat()


async def found(daemon: Daemon, names: list[Reference]) -> set[Reference]:
    async with RemoteStore(parse_store_url(daemon.url)) as store:
        there = await store.find(names)
    return {name for name, is_there in zip(names, there, strict=True) if is_there}


@both_sizes
def test_the_files_stay_within_the_cap_while_three_times_of_it_come(size: BlockSize) -> None:
    blocks = make_blocks(6 * MIB // size, size)
    with running_daemon(None, "--max-size", "2 MiB") as daemon:
        with sampled(daemon.store) as samples:
            assert asyncio.run(put_all(daemon, blocks)) == {}
        assert max(samples) <= 2 * MIB + 2 * MIB
        told = asyncio.run(report(daemon))
        assert told["max_size"] == 2 * MIB
        assert isinstance(told["evicted_blocks"], int)
        names = list(blocks)
        left = asyncio.run(found(daemon, names))
        assert told["evicted_blocks"] == len(blocks) - len(left)
        # What came last is there, and most of what came first is not: a PUT that is sent twice
        # counts as a read. All that is left can be read.
        assert left >= set(names[-MIB // size :]), told
        assert len(left & set(names[: len(names) // 2])) < len(left) / 2, told
        assert asyncio.run(missing(daemon, {name: blocks[name] for name in left}, size)) == []

        # Killed at the cap it goes on where it was.
        daemon.kill()
        daemon.start()
        assert asyncio.run(found(daemon, names)) == left
        more = make_blocks(2 * MIB // size, size, seed=1)
        assert asyncio.run(put_all(daemon, more)) == {}
        assert daemon.stop() == 0
        check_database(daemon.store)
        assert sum(_size(f"{daemon.store}{suffix}") for suffix in ("", "-reserve")) <= 2 * MIB


def test_killed_in_the_middle_of_eviction_nothing_that_is_there_is_wrong() -> None:
    with running_daemon(None, "--max-size", "2 MiB") as daemon:
        everything: dict[Reference, bytes] = {}
        for seed in range(2):
            blocks = make_blocks(3500, seed=seed)
            everything |= blocks

            async def put_until_it_dies(
                blocks: dict[Reference, bytes] = blocks, at: int = 2500 + 300 * seed
            ) -> int:
                """Returns how many were put when the daemon was killed in the middle of others."""
                names = list(blocks)
                async with RemoteStore(parse_store_url(daemon.url)) as store:
                    for start in range(0, len(names), 250):
                        puts = [store.put(name, blocks[name]) for name in names[start:][:250]]
                        work = asyncio.gather(*puts, return_exceptions=True)
                        if start < at:
                            assert set(await work) == {None}
                            continue
                        await asyncio.to_thread(daemon.kill)
                        await work
                        return start
                raise AssertionError("it was not killed")

            put = asyncio.run(put_until_it_dies())
            daemon.start()
            left = asyncio.run(found(daemon, list(everything)))
            kept = {name: everything[name] for name in left}
            assert asyncio.run(missing(daemon, kept, BlockSize.SMALL)) == []
            # What was answered last is there.
            assert set(list(blocks)[put - 500 : put]) <= left
            told = asyncio.run(report(daemon))
            assert told["blocks"] == {"1024": len(left), "32768": 0}
        assert daemon.stop() == 0
        check_database(daemon.store)


def test_on_a_disk_that_others_fill_blocks_go_and_come_go_on(small_disk: Path) -> None:
    first, second = make_blocks(1500, seed=1), make_blocks(2000, seed=2)
    with running_daemon(small_disk, "--max-size", "24 MiB") as daemon:
        assert asyncio.run(put_all(daemon, first)) == {}
        # A WAL that has not grown yet: to let blocks go takes room that is not there.
        assert daemon.stop() == 0
        daemon.start()
        reserve = daemon.store.with_name("blocks.sqlite-reserve")
        assert reserve.stat().st_size > 0
        fill(small_disk / "filler")
        assert asyncio.run(put_all(daemon, second)) == {}
        names = [*first, *second]
        left = asyncio.run(found(daemon, names))
        assert left == set(names[-len(left) :])
        # It does not shrink for those who fill the disk: what was there is replaced.
        assert len(left) > 1200
        kept = {name: (first | second)[name] for name in left}
        assert asyncio.run(missing(daemon, kept, BlockSize.SMALL)) == []
        assert "Traceback" not in daemon.log
        assert daemon.stop() == 0
        check_database(daemon.store)
        (small_disk / "filler").unlink()
        daemon.start()
        assert asyncio.run(put_all(daemon, make_blocks(500, seed=3))) == {}
        assert reserve.stat().st_size > 0


def test_what_must_stay_free_on_the_disk_stays_free(small_disk: Path) -> None:
    first, second = make_blocks(4000, seed=1), make_blocks(2000, seed=2)
    with running_daemon(small_disk, "--min-free", "28 MiB") as daemon:
        assert asyncio.run(put_all(daemon, first)) == {}
        free = os.statvfs(small_disk)
        assert free.f_bavail * free.f_frsize >= 27 * MIB
        (small_disk / "filler").write_bytes(bytes(27 * MIB))
        before = asyncio.run(found(daemon, [*first]))
        assert asyncio.run(put_all(daemon, second)) == {}
        # Whoever fills the disk takes nothing from the store: as much goes as comes.
        left = asyncio.run(found(daemon, [*first, *second]))
        assert abs(len(left) - len(before)) < 500
        assert set(list(second)[-1000:]) <= left
