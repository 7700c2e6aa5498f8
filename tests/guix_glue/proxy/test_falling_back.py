"""Nars whose source fails in the middle, and that others go on with."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import socket
from dataclasses import replace
from pathlib import Path

import pytest

import eris_fs
from eris.errors import BlockNotFound, StoreUnavailable
from eris.model import BlockSize, Reference
from guix_glue.errors import FetchFailed
from guix_glue.formats.narinfo import NarUrl
from guix_glue.servers.url import parse_server
from guix_glue.sources.vouching import Candidate
from kapla.client import open_store
from tests.clocks import Clock, run_on_clock
from tests.guix_glue.fetch.fakes import FakeServer, scripted_server
from tests.guix_glue.fetch.fakes import Reply as Answer
from tests.guix_glue.fetch.support import make_item
from tests.guix_glue.proxy.support import (
    HURRIED,
    PATIENT,
    STREAMING,
    Goods,
    Watched,
    flipped,
    offer,
    proxying,
    run,
    status_of,
    take,
    unreachable,
    vouch,
)
from tests.integration.daemon import GUARD_S, Daemon, running_daemon


def test_blocks_that_fail_half_way(goods: Goods, server: FakeServer, tmp_path: Path) -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def fail() -> None:
            await go_on.wait()
            raise BlockNotFound(bytes(32))

        async def going_on() -> None:
            assert server.requests == []
            go_on.set()

        store = Watched(goods.blocks, 120, fail)
        for compressed in (False, True):
            go_on.clear()
            urls = [NarUrl("nar.gz", "gzip")] if compressed else None
            server.files["/nar.gz"] = gzip.compress(goods.made.nar, 1)
            server.requests.clear()
            signed = vouch(offer(server, goods.made, urn=goods.urn, urls=urls))
            async with proxying(tmp_path / str(compressed), store) as nars:
                assert await take(nars, signed, going_on) == goods.made.nar
            assert len(server.requests) == 1
            store = Watched(goods.blocks, 120, fail)

    (tmp_path / "False").mkdir()
    (tmp_path / "True").mkdir()
    run(main())


def test_a_wrong_block(goods: Goods, server: FakeServer, tmp_path: Path) -> None:
    class Corrupting:
        asked = 0

        async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
            self.asked += 1
            block = await goods.blocks.get(reference, block_size)
            return flipped(block, 100) if self.asked == 150 else block

    async def main() -> None:
        signed = vouch(offer(server, goods.made, urn=goods.urn))
        async with proxying(tmp_path, Corrupting()) as nars:
            assert await take(nars, signed) == goods.made.nar
            assert len(server.requests) == 1
            # The content is what it is: other blocks will do.
            assert await take(nars, signed) == goods.made.nar
            assert len(server.requests) == 1

    run(main())


def test_a_daemon_that_is_killed_in_the_middle(server: FakeServer, tmp_path: Path) -> None:
    root = tmp_path / "item"
    root.mkdir()
    (root / "file").write_bytes(hashlib.shake_128(b"file").digest(28_000_000))
    made = make_item(root)

    async def main(daemon: Daemon) -> None:
        async with open_store(f"{daemon.url}?get&put") as store:
            urn = (await eris_fs.put_packed_tree(store, root, level=1)).to_urn()
            signed = vouch(offer(server, made, urn=urn))

            async def kill() -> None:
                assert server.requests == []
                await asyncio.to_thread(daemon.kill)

            async with proxying(tmp_path / "cache", store) as nars:
                assert await take(nars, signed, kill) == made.nar
                assert len(server.requests) == 1

    with running_daemon() as daemon:
        run(main(daemon))


def test_a_dead_store_is_left_alone(goods: Goods, server: FakeServer, tmp_path: Path) -> None:
    async def main() -> None:
        async def fail() -> None:
            raise StoreUnavailable("it is dead")

        store = Watched(goods.blocks, 0, fail)
        signed = vouch(offer(server, goods.made, urn=goods.urn, hint=goods.packed))
        async with proxying(tmp_path, store) as nars:
            assert await take(nars, signed) == goods.made.nar
            asked = store.asked
            assert asked > 0
            assert await take(nars, signed) == goods.made.nar
            assert store.asked == asked

    run(main())


# --- servers that fail --------------------------------------------------------------------------


def test_a_wrong_end_is_mended_by_another_server(
    goods: Goods, server: FakeServer, second: FakeServer, tmp_path: Path
) -> None:
    async def main() -> None:
        nar = goods.made.nar
        both = vouch(
            offer(server, goods.made, flipped(nar, len(nar) - 1)), offer(second, goods.made)
        )
        async with proxying(tmp_path) as nars:
            assert await take(nars, both) == nar
            assert (len(server.requests), len(second.requests)) == (1, 1)
            # And that one is asked first now.
            assert await take(nars, both) == nar
            assert (len(server.requests), len(second.requests)) == (1, 2)

    run(main())


def test_a_nar_that_is_wrong_after_a_right_beginning(
    goods: Goods, server: FakeServer, second: FakeServer, tmp_path: Path
) -> None:
    async def main() -> None:
        nar = goods.made.nar
        both = vouch(offer(server, goods.made, flipped(nar, 3_000_000)), offer(second, goods.made))
        async with proxying(tmp_path) as nars:
            with pytest.raises(FetchFailed):
                await take(nars, both)
            # Whoever was cut off, and asks again, gets it.
            assert await take(nars, both) == nar
            assert len(server.requests) == 1

    run(main())


def test_a_server_with_another_beginning_is_passed_over(
    goods: Goods, server: FakeServer, second: FakeServer, tmp_path: Path
) -> None:
    async def main() -> None:
        nar = goods.made.nar
        go_on = asyncio.Event()

        async def fail() -> None:
            await go_on.wait()
            raise BlockNotFound(bytes(32))

        async def going_on() -> None:
            go_on.set()

        signed = vouch(
            offer(server, goods.made, flipped(nar, 10), urn=goods.urn), offer(second, goods.made)
        )
        async with proxying(tmp_path, Watched(goods.blocks, 120, fail)) as nars:
            assert await take(nars, signed, going_on) == nar
            assert (len(server.requests), len(second.requests)) == (1, 1)
            # It is the one that was wrong.
            assert await take(nars, signed) == nar
            assert (len(server.requests), len(second.requests)) == (1, 2)

    run(main())


def test_nobody_can_do_away_with_a_right_urn(
    goods: Goods, server: FakeServer, tmp_path: Path
) -> None:
    """Blocks that fail half-way, and a server with another nar: who is wrong shows later."""

    async def main() -> None:
        nar = goods.made.nar
        go_on = asyncio.Event()

        async def fail() -> None:
            await go_on.wait()
            raise BlockNotFound(bytes(32))

        async def going_on() -> None:
            go_on.set()

        signed = vouch(offer(server, goods.made, flipped(nar, 10), urn=goods.urn))
        async with proxying(tmp_path, Watched(goods.blocks, 120, fail)) as nars:
            with pytest.raises(FetchFailed):
                await take(nars, signed, going_on)
        # It goes out as it comes no more: there is no room for anything else here.
        store = Watched(goods.blocks)
        async with proxying(tmp_path, store, settings=replace(STREAMING, spool=0)) as nars:
            with pytest.raises(FetchFailed):
                await take(nars, signed)
        assert store.asked == 0
        async with proxying(tmp_path, store) as nars:
            assert await take(nars, signed) == nar
        async with proxying(tmp_path, store, settings=replace(STREAMING, spool=0)) as nars:
            assert await take(nars, signed) == nar

    run(main())


@pytest.mark.parametrize("sent", [0, 3_000_000])
def test_a_server_that_falls_silent(
    goods: Goods, server: FakeServer, tmp_path: Path, sent: int
) -> None:
    nar = goods.made.nar

    def script(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(nar)}\r\n\r\n"
        connection.sendall(head.encode() + nar[:sent])
        connection.recv(1 << 16)

    async def main(clock: Clock) -> None:
        async with proxying(tmp_path, settings=replace(STREAMING, header_s=0.5)) as nars:
            good = offer(server, goods.made)
            silent = replace(good, server=parse_server(url))
            both = vouch(silent, good)
            assert await clock.skip_until(take(nars, both), 1.0) == nar
            # The next item does not wait for it.
            assert await take(nars, both) == nar
            assert len(server.requests) == 2

    with scripted_server(script) as url:
        run_on_clock(main)


def test_a_server_that_is_busy_is_asked_again(goods: Goods, tmp_path: Path) -> None:
    """Once the client was told that the nar comes."""
    nar = goods.made.nar
    asked: list[bytes] = []

    def script(connection: socket.socket) -> None:
        asked.append(connection.recv(1 << 16))
        if len(asked) == 1:
            connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        else:
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(nar)}\r\n\r\n"
            connection.sendall(head.encode() + nar)
            connection.recv(1 << 16)

    async def main(clock: Clock) -> None:
        go_on = asyncio.Event()

        async def fail() -> None:
            await go_on.wait()
            raise BlockNotFound(bytes(32))

        async def going_on() -> None:
            go_on.set()

        candidate = replace(
            unreachable(goods, urn=goods.urn).candidates[0], server=parse_server(url)
        )
        async with proxying(tmp_path, Watched(goods.blocks, 120, fail)) as nars:
            taking = take(nars, vouch(candidate), going_on)
            assert await clock.skip_until(taking, 0.25) == nar
        assert len(asked) == 2

    with scripted_server(script) as url:
        run_on_clock(main)


def test_what_nobody_has(goods: Goods, server: FakeServer, tmp_path: Path) -> None:
    async def main() -> None:
        offered = vouch(offer(server, goods.made))
        server.files.clear()
        for settings in (PATIENT, STREAMING):
            async with proxying(tmp_path, settings=settings) as nars:
                assert await status_of(nars, offered) == 404
                assert await status_of(nars, unreachable(goods)) == 503
                server.files[f"/nar/{goods.made.item.base_name}"] = Answer(b"", 503)
                assert await status_of(nars, offered) == 503
                server.files.clear()
                nothing = Candidate(parse_server(server.url), offer(server, goods.made).narinfo)
                none = replace(nothing, narinfo=replace(nothing.narinfo, urls=()))
                assert await status_of(nars, vouch(none)) == 404
                server.files.clear()

    run(main())


def test_a_size_that_nobody_signed(goods: Goods, server: FakeServer, tmp_path: Path) -> None:
    async def main() -> None:
        candidate = offer(server, goods.made)
        narinfo = replace(candidate.narinfo, signed_fields=frozenset({"StorePath", "NarHash"}))
        unsigned = vouch(replace(candidate, narinfo=narinfo))
        size = len(goods.made.nar)
        for limit, expected in ((size, 200), (size - 1, 404)):
            settings = replace(STREAMING, max_unsigned_size=limit)
            async with proxying(tmp_path, settings=settings) as nars:
                assert await status_of(nars, unsigned) == expected
        # One that lies makes no nar whole.
        for wrong in (size - 1, size + 1):
            lying = replace(narinfo, item=replace(narinfo.item, nar_size=wrong))
            async with proxying(tmp_path) as nars:
                with pytest.raises(FetchFailed):
                    await take(nars, vouch(replace(candidate, narinfo=lying)))

    run(main())


@pytest.mark.parametrize("alone", [True, False])
def test_a_server_that_hangs_is_not_waited_for_twice(
    alone: bool, goods: Goods, second: FakeServer, tmp_path: Path
) -> None:
    """What is to be made whole first and is not in time: others come before it is tried again."""
    made, connections = goods.made, list[int]()

    def hanging(connection: socket.socket) -> None:
        connections.append(connection.fileno())
        connection.recv(1 << 16)
        if len(connections) > 1 and alone:
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(made.nar)}\r\n\r\n"
            connection.sendall(head.encode() + made.nar)
        connection.recv(1 << 16)

    async def main(url: str) -> None:
        good = offer(second, made)
        candidates = [Candidate(parse_server(url), good.narinfo), good]
        settings = replace(
            HURRIED, small=1 << 24, spool_s=0.05, nar_stall_s=10 * GUARD_S, min_rate=0
        )
        async with proxying(tmp_path, settings=settings) as nars:
            vouched = vouch(*candidates[: 1 if alone else 2])
            assert await take(nars, vouched) == made.nar
        assert len(connections) == 1 + alone

    with scripted_server(hanging) as url:
        run(main(url))
