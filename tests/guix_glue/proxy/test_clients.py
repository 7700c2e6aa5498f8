"""Room and time for nars, and clients that want the same one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from guix_glue.errors import FetchFailed
from guix_glue.formats.narinfo import Narinfo
from guix_glue.kept.directory import CacheDirectory
from guix_glue.proxy.nars import Nars
from guix_glue.servers.nars import NarEnd, NarSource, nar_sources
from guix_glue.servers.url import Server
from tests.clocks import Clock, run_on_clock
from tests.guix_glue.fetch.fakes import FakeServer
from tests.guix_glue.proxy.support import (
    HURRIED,
    STREAMING,
    FullDisk,
    Goods,
    Map,
    Watched,
    body_of,
    drain,
    offer,
    proxying,
    run,
    take,
    unreachable,
    vouch,
)


def test_a_spool_that_is_too_small(goods: Goods, server: FakeServer, tmp_path: Path) -> None:
    async def main() -> None:
        size = len(goods.made.nar)
        store = Watched(goods.blocks)
        hinted = vouch(offer(server, goods.made, hint=goods.urn))
        for settings in (replace(STREAMING, spooled=size - 1), replace(STREAMING, spool=size - 1)):
            async with proxying(tmp_path, store, settings=settings) as nars:
                assert await take(nars, hinted) == goods.made.nar
        assert store.asked == 0
        settings = replace(STREAMING, spooled=size, spool=size)
        async with proxying(tmp_path, store, settings=settings) as nars:
            # Of one nar at a time, and it is given back.
            for _ in range(2):
                assert await take(nars, hinted) == goods.made.nar
        assert len(server.requests) == 2

    run(main())


def test_a_full_disk(
    goods: Goods, server: FakeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        store = Watched(goods.blocks)
        hinted = vouch(offer(server, goods.made, hint=goods.urn))
        async with proxying(tmp_path, store, cache=FullDisk) as nars:
            for _ in range(2):
                assert await take(nars, hinted) == goods.made.nar
        assert store.asked == 0
        assert len(server.requests) == 2
        assert caplog.text.count("No space left on device") == 1

    run(main())


def test_nothing_is_waited_for_that_is_late(
    goods: Goods, server: FakeServer, tmp_path: Path
) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def hang() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        settings = replace(HURRIED, spool_s=0.5)
        hinted = vouch(offer(server, goods.made, hint=goods.urn))
        store = Watched(goods.blocks, 3, hang)
        async with proxying(tmp_path, store, settings=settings) as nars:
            assert await take(nars, hinted) == goods.made.nar
            assert ended.is_set() or not store.asked

    run(main())


def test_clients_have_the_same_made_once(goods: Goods, tmp_path: Path) -> None:
    async def main() -> None:
        alone, go_on = Watched(goods.blocks), asyncio.Event()
        async with proxying(tmp_path / "one", alone) as nars:
            await take(nars, unreachable(goods, hint=goods.urn))
        known = Map(**{goods.made.item.hash_part: [goods.urn]})
        store = Watched(goods.blocks, 2, go_on.wait)
        async with proxying(tmp_path, store, hints=(known,), settings=HURRIED) as nars:
            replies = [await nars.reply(unreachable(goods)) for _ in range(3)]
            await until(lambda: known.asked == 3)
            # One that leaves ends nothing for the others.
            body_of(replies[0]).close()
            await settled()
            go_on.set()
            for found in await asyncio.gather(*map(drain, replies[1:])):
                assert found == goods.made.nar
        # Where a file ends may be looked up meanwhile.
        assert store.asked < alone.asked * 1.5

    run(main())


def test_the_last_client_that_leaves_ends_it(goods: Goods, tmp_path: Path) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def hang() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        known = Map(**{goods.made.item.hash_part: [goods.urn]})
        store = Watched(goods.blocks, 2, hang)
        async with proxying(tmp_path, store, hints=(known,), settings=HURRIED) as nars:
            first, last = [body_of(await nars.reply(unreachable(goods))) for _ in range(2)]
            await until(lambda: known.asked == 2)
            await store.was_asked.wait()
            first.close()
            await settled()
            assert not ended.is_set()
            last.close()
            await ended.wait()

    run(main())


async def settled() -> None:
    """Let everything happen that waits for nothing but its turn."""
    for _ in range(100):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - of what no test should have to tell
        await asyncio.sleep(0.005)


class Dripping:
    """Fetches a nar of zeroes, and counts what was taken of it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0

    def nar_sources(self, server: Server, narinfo: Narinfo) -> list[NarSource]:
        return nar_sources(server, narinfo.urls)

    async def nar(
        self, source: NarSource, nar_size: int, end: NarEnd | None = None
    ) -> AsyncGenerator[bytes, None]:
        for _ in range(0, self.size, 1 << 16):
            self.taken += 1 << 16
            yield bytes(1 << 16)


def test_a_slow_client_makes_nothing_grow(goods: Goods, server: FakeServer, tmp_path: Path) -> None:
    async def main() -> None:
        size = 64 << 20
        servers = Dripping(size)
        candidate = offer(server, goods.made)
        item = replace(candidate.narinfo.item, nar_size=size)
        vouched = vouch(replace(candidate, narinfo=replace(candidate.narinfo, item=item)))
        directory = CacheDirectory(tmp_path)
        nars = Nars(None, servers, directory, settings=STREAMING)
        reply = await nars.reply(vouched)
        assert reply is not None
        before = -1
        while servers.taken != before:
            before = servers.taken
            await asyncio.sleep(0.1)
        assert servers.taken < 8 << 20
        reply.close()
        await nars.close()
        directory.close()

    run(main())


def test_others_wait_for_their_turn(goods: Goods, server: FakeServer, tmp_path: Path) -> None:
    async def main() -> None:
        go_on = asyncio.Event()
        settings = replace(HURRIED, at_once=1, waiting=2)
        signed = vouch(offer(server, goods.made, urn=goods.urn))
        store = Watched(goods.blocks, 2, go_on.wait)
        async with proxying(tmp_path, store, settings=settings) as nars:
            replies = [await nars.reply(signed) for _ in range(2)]
            one_more = await nars.reply(signed)
            assert one_more is not None
            assert one_more.status == 503
            assert dict(one_more.headers)["Retry-After"] == "5"
            go_on.set()
            for reply in replies:
                assert await drain(reply) == goods.made.nar
            assert await take(nars, signed) == goods.made.nar

    run(main())


def test_who_takes_nothing_keeps_nobody_out(
    goods: Goods, server: FakeServer, tmp_path: Path
) -> None:
    async def main(clock: Clock) -> None:
        signed = vouch(offer(server, goods.made, urn=goods.urn))
        settings = replace(HURRIED, at_once=1)
        async with proxying(tmp_path, goods.blocks, settings=settings) as nars:
            first = await nars.reply(signed)
            assert await clock.skip_until(take(nars, signed), 1.0) == goods.made.nar
            with pytest.raises(FetchFailed, match="others wanted its turn"):
                await drain(first)

    run_on_clock(main)
