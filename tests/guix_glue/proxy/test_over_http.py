"""The proxy's nars over HTTP: parts of them, heads, and connections that end in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from guix_glue.proxy.nars import Nars
from guix_glue.proxy.settings import NarSettings
from guix_glue.serving.http_server import HttpServer
from guix_glue.serving.listening import bind_sockets
from guix_glue.serving.reply import TEXT_TYPE, Reply, Request
from guix_glue.sources.vouching import Vouched
from kapla.http.serving.connections import ConnectionLimits
from tests.guix_glue.fetch.fakes import FakeServer
from tests.guix_glue.proxy.support import (
    PATIENT,
    STREAMING,
    Goods,
    Watched,
    offer,
    proxying,
    run,
    unreachable,
    vouch,
)


class OneNar:
    """A site of one nar, whatever is asked for."""

    def __init__(self, nars: Nars, vouched: Vouched) -> None:
        self._nars = nars
        self._vouched = vouched

    async def answer(self, request: Request) -> Reply:
        only_head = request.method == "HEAD"
        reply = await self._nars.reply(self._vouched, only_head=only_head)
        return reply or Reply(404, TEXT_TYPE, b"not here")

    def expect(self, paths: Sequence[str]) -> None:
        pass


@asynccontextmanager
async def asking(nars: Nars, vouched: Vouched) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of that site, of one connection that is kept."""
    (listening,) = bind_sockets("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    server = HttpServer(OneNar(nars, vouched), ConnectionLimits(connections=1))
    await server.start([listening])
    connector = aiohttp.TCPConnector(limit=1)
    try:
        async with aiohttp.ClientSession(url, connector=connector) as session:
            yield session
    finally:
        await server.stop()


@pytest.mark.parametrize("settings", [PATIENT, STREAMING])
@pytest.mark.parametrize("way", ["signed", "hint", "nar"])
def test_all_of_it_and_parts(
    goods: Goods, server: FakeServer, tmp_path: Path, way: str, settings: NarSettings
) -> None:
    nar = goods.made.nar
    urn = goods.urn if way == "signed" else None
    hint = goods.urn if way == "hint" else None
    vouched = vouch(offer(server, goods.made, urn=urn, hint=hint))

    async def main() -> None:
        async with (
            proxying(tmp_path, goods.blocks, settings=settings) as nars,
            asking(nars, vouched) as client,
        ):
            async with client.get("/nar/1") as reply:
                assert reply.status == 200
                assert reply.headers["Content-Length"] == str(len(nar))
                assert reply.headers["Accept-Ranges"] == "bytes"
                assert await reply.read() == nar
                tag = reply.headers["ETag"]
            last = len(nar) - 1
            for wanted, start, end in (
                ("3000000-", 3_000_000, last),
                ("1-2500000", 1, 2_500_000),
                (f"{last}-", last, last),
                ("-70000", len(nar) - 70_000, last),
            ):
                headers = {"Range": f"bytes={wanted}", "If-Range": tag}
                async with client.get("/nar/1", headers=headers) as reply:
                    assert reply.status == 206
                    assert reply.headers["Content-Range"] == f"bytes {start}-{end}/{len(nar)}"
                    assert await reply.read() == nar[start : end + 1]
            async with client.get("/nar/1", headers={"If-None-Match": tag}) as reply:
                assert reply.status == 304
            async with client.get("/nar/1", headers={"Range": f"bytes={last + 1}-"}) as reply:
                assert reply.status == 416

    run(main())


def test_a_head_makes_nothing(goods: Goods, server: FakeServer, tmp_path: Path) -> None:
    async def main() -> None:
        store = Watched(goods.blocks)
        vouched = vouch(offer(server, goods.made, urn=goods.urn))
        async with proxying(tmp_path, store) as nars, asking(nars, vouched) as client:
            async with client.head("/nar/1") as reply:
                assert reply.status == 200
                assert reply.headers["Content-Length"] == str(len(goods.made.nar))
                tag = reply.headers["ETag"]
            assert store.asked == 0
            async with client.get("/nar/1") as reply:
                assert reply.headers["ETag"] == tag
                assert await reply.read() == goods.made.nar
        assert server.requests == []

    run(main())


def test_what_is_wrong_is_never_whole(goods: Goods, server: FakeServer, tmp_path: Path) -> None:
    async def main() -> None:
        vouched = vouch(offer(server, goods.made, urn=goods.other_urn))
        async with proxying(tmp_path, goods.blocks) as nars, asking(nars, vouched) as client:
            found = bytearray()
            with pytest.raises(aiohttp.ClientPayloadError):
                async with client.get("/nar/1") as reply:
                    assert reply.status == 200
                    async for piece in reply.content.iter_any():
                        found += piece
            assert len(found) <= len(goods.made.nar) - (64 << 10)
            async with client.get("/nar/1") as reply:
                assert await reply.read() == goods.made.nar

    run(main())


def test_a_client_that_goes_away_ends_it(goods: Goods, server: FakeServer, tmp_path: Path) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def hang() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        vouched = vouch(offer(server, goods.made, urn=goods.urn))
        store = Watched(goods.blocks, 120, hang)
        async with proxying(tmp_path, store) as nars, asking(nars, vouched) as client:
            async with client.get("/nar/1") as reply:
                assert await reply.content.readany()
                assert not ended.is_set()
                reply.close()
            await ended.wait()
            async with client.head("/nar/1") as reply:
                assert reply.status == 200

    run(main())


def test_what_nobody_has_is_told(goods: Goods, server: FakeServer, tmp_path: Path) -> None:
    async def main() -> None:
        vouched = vouch(offer(server, goods.made))
        server.files.clear()
        for asked, status in ((vouched, 404), (unreachable(goods), 503)):
            async with (
                proxying(tmp_path) as nars,
                asking(nars, asked) as client,
                client.get("/nar/1") as reply,
            ):
                assert reply.status == status

    run(main())
