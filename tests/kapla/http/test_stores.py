"""Stores over HTTP: what is asked of servers, and what servers may do without harm."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eris import (
    BlockNotFound,
    BlockSize,
    CorruptBlock,
    MemoryStore,
    Reference,
    StoreRefused,
    StoreUnavailable,
    get_content,
    put_content,
    reference_of,
)
from kapla.client import open_store
from kapla.errors import CannotConnect, WrongBlock
from kapla.http.asking.store import HttpStore
from kapla.urls import StoreUrl, parse_store_url
from tests.kapla.http.raw import Asked, Reply, answering, plain, proxying
from tests.kapla.http.servers import Gateway, Resolver, serving

GUARD_S = 60
SMALL, LARGE = os.urandom(1024), os.urandom(32768)
NAME, LARGE_NAME = reference_of(SMALL), reference_of(LARGE)
OTHER = Reference(os.urandom(32))
NO_BATCH = plain(404)


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S):
            await main()

    asyncio.run(guarded())


def url_of(port: int, scheme: str = "http") -> StoreUrl:
    return parse_store_url(f"{scheme}://127.0.0.1:{port}")


def store_at(url: StoreUrl, *, timeout_s: float = GUARD_S, **more: Any) -> HttpStore:
    return HttpStore(url, timeout_s=timeout_s, connect_timeout_s=GUARD_S, **more)


@asynccontextmanager
async def asking(reply: Reply, **more: Any) -> AsyncIterator[HttpStore]:
    """A store at a server that answers so."""
    async with answering(reply) as port, store_at(url_of(port), **more) as store:
        yield store


def always(answer: bytes, batch: bytes = NO_BATCH) -> Reply:
    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(batch if asked.method == "POST" else answer)

    return reply


# --- what is asked ----------------------------------------------------------------------------


def test_gets_of_one_moment_are_one_post() -> None:
    async def main() -> None:
        blocks = [os.urandom(1024) for _ in range(300)]
        server = Resolver(blocks)
        async with serving(server) as port, store_at(url_of(port)) as store:
            names = [reference_of(block) for block in blocks]
            got = await asyncio.gather(*(store.get(name, BlockSize.SMALL) for name in names))
            assert got == blocks
            assert sum(server.batches) == 300
            assert server.batches[0] == 256
            # What two want at once is asked for once.
            before = len(server.batches)
            await asyncio.gather(*(store.get(names[0], BlockSize.SMALL) for _ in range(9)))
            assert server.batches[before:] == [1]
            assert {one.split()[0] for one in server.asked} == {"POST"}
            assert (store.blocks, store.bytes) == (309, 309 * 1024)

    run(main)


def test_a_server_without_batches_is_asked_for_one_once() -> None:
    async def main() -> None:
        server = Resolver([SMALL], has_batch=False)
        async with serving(server) as port, store_at(url_of(port)) as store:
            for _ in range(3):
                assert await store.get(NAME, BlockSize.SMALL) == SMALL
            with pytest.raises(BlockNotFound):
                await store.get(OTHER, BlockSize.SMALL)
            assert [one.split()[0] for one in server.asked].count("POST") == 1

    run(main)


@pytest.mark.parametrize("status", [400, 404, 405, 501])
def test_whatever_says_that_there_is_no_batch(status: int) -> None:
    async def main() -> None:
        async with asking(always(plain(200, SMALL), plain(status))) as store:
            assert await store.get(NAME, BlockSize.SMALL) == SMALL

    run(main)


def test_a_page_for_everything_is_no_batch_and_no_block() -> None:
    async def main() -> None:
        page = plain(200, b"<html>", Content_Type="text/html; charset=utf-8")
        async with asking(always(page, page)) as store:
            with pytest.raises(StoreUnavailable, match="a text, not with a block"):
                await store.get(NAME, BlockSize.SMALL)

    run(main)


def test_a_prefix_is_before_every_path_and_in_no_message() -> None:
    async def main() -> None:
        server = Resolver()
        async with serving(server) as port:
            url = parse_store_url(f"http://127.0.0.1:{port}/se%20cret/")
            async with store_at(url) as store:
                with pytest.raises(BlockNotFound):
                    await store.get(OTHER, BlockSize.SMALL)
                await store.connect()
            assert server.asked == ["POST /se cret/kapla/blocks", "HEAD /se cret/uri-res/N2R"]
            assert "cret" not in f"{url!r} {url} {store!r}"

    run(main)


def test_large_blocks_are_asked_about_without_fetching_them() -> None:
    async def main() -> None:
        blocks = [os.urandom(32768) for _ in range(40)]
        server = Resolver(blocks)
        async with serving(server) as port, store_at(url_of(port)) as store:
            names = [reference_of(block) for block in blocks]
            assert await store.find([*names, OTHER]) == [True] * 40 + [False]
            assert sum(server.batches) < 10
            assert sum(one.startswith("HEAD") for one in server.asked) > 30

    run(main)


def test_small_ones_are_asked_about_by_batches() -> None:
    async def main() -> None:
        blocks = [os.urandom(1024) for _ in range(400)]
        server = Resolver(blocks)
        async with serving(server) as port, store_at(url_of(port)) as store:
            assert all(await store.find([reference_of(block) for block in blocks]))
            assert not any(one.startswith("HEAD") for one in server.asked)

    run(main)


def test_a_gateway_is_asked_as_its_specification_says() -> None:
    seen: list[Asked] = []

    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        seen.append(asked)
        writer.write(plain(200, SMALL))

    async def main() -> None:
        async with answering(reply) as port, store_at(url_of(port, "ipfs+http")) as store:
            assert await store.get(NAME, BlockSize.SMALL) == SMALL
        [asked] = seen
        assert asked.method == "GET"
        assert asked.target.startswith("/ipfs/bafk2bz")
        assert asked.target.endswith("?format=raw")
        assert asked.headers["accept"] == "application/vnd.ipld.raw"
        assert asked.headers["accept-encoding"] == "identity"

    run(main)


def test_it_is_read_only() -> None:
    async def main() -> None:
        async with serving(Resolver()) as port, store_at(url_of(port)) as store:
            with pytest.raises(StoreRefused, match="read-only"):
                await store.put(NAME, SMALL)
            with pytest.raises(StoreRefused, match="read-only"):
                await store.taker()
            with pytest.raises(StoreRefused, match="does not tell"):
                await store.stat()

    run(main)


# --- what servers may do ----------------------------------------------------------------------

CHUNKED = b"HTTP/1.1 200 So\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (plain(200, b""), WrongBlock, "0 bytes"),
        (plain(200, SMALL[:-1]), WrongBlock, "1023 bytes"),
        (plain(200, SMALL * 2), WrongBlock, "2048 bytes"),
        (plain(200, LARGE + b"x"), WrongBlock, "32769 bytes"),
        (plain(200, os.urandom(1024)), WrongBlock, "HTTP 127.0.0.1:.* does not hash"),
        (plain(200, os.urandom(32768)), WrongBlock, "does not hash"),
        (b"HTTP/1.1 200 So\r\nContent-Length: 99999999999999\r\n\r\n", WrongBlock, "bytes instead"),
        (b"HTTP/1.1 200 So\r\nContent-Length: -5\r\n\r\n", StoreUnavailable, "as it should"),
        (CHUNKED + b"ffffffffffffffffff\r\n", StoreUnavailable, "connection|as it should"),
        (CHUNKED + b"not a number\r\n", StoreUnavailable, "connection|as it should"),
        (CHUNKED + b"400\r\n" + SMALL + b"\r\n1\r\nx\r\n0\r\n\r\n", WrongBlock, "1025"),
        (plain(200, gzip.compress(bytes(2**20)), Content_Encoding="gzip"), StoreUnavailable, "enc"),
        (plain(200, SMALL, Content_Encoding="br"), StoreUnavailable, "encoding"),
        (plain(500), StoreUnavailable, "answers 500"),
        (plain(403), StoreUnavailable, r"answers 403 \(Forbidden\)"),
        (plain(999), StoreUnavailable, "answers 999"),
        (plain(204), StoreUnavailable, "answers 204"),
        (plain(206, SMALL), StoreUnavailable, "answers 206"),
        (plain(503, Retry_After="100000"), StoreUnavailable, "left alone for 100000 s"),
        (plain(429, Retry_After="Fri, 31 Dec 2100 23:59:59 GMT"), StoreUnavailable, "left alone"),
        (plain(429, Retry_After="soon"), StoreUnavailable, "answers 429"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", StoreUnavailable, "as it should"),
        (b"HTTP/1.1 200 So\r\nA: " + b"x" * 100_000, StoreUnavailable, "as it should"),
        (
            plain(503, Retry_After="Mon, 1 Jan " + "9" * 30 + " 0:0:0"),
            StoreUnavailable,
            "swers 503",
        ),
        (plain(503, Retry_After="Mon, 1 Jan 1 0:0:0 +2359"), StoreUnavailable, "alone for 0 s"),
        (plain(301), StoreUnavailable, "not followed"),
        (plain(302, Location="http://a|b\\c/"), StoreUnavailable, "no host can have"),
        (plain(302, Location="http://a..b/"), StoreUnavailable, "no host can have"),
        (plain(302, Location="http://xn--a/"), StoreUnavailable, "no host can have"),
        (plain(302, Location=f"http://{'a' * 64}.b/"), StoreUnavailable, "no host can have"),
        (plain(302, Location="ftp://127.0.0.1/"), StoreUnavailable, "not followed"),
        (plain(302, Location="file:///etc/passwd"), StoreUnavailable, "not followed"),
        (plain(302, Location="http://a:b@127.0.0.1/"), StoreUnavailable, "not followed"),
        (plain(302, Location="http://[::1"), StoreUnavailable, "not followed"),
        (plain(302, Location="/uri-res/N2R?in-circles"), StoreUnavailable, "more than 3 times"),
        (plain(404), BlockNotFound, "not in the store"),
        (plain(410), BlockNotFound, "not in the store"),
    ],
)
def test_whatever_a_server_answers_is_one_clear_error(
    answer: bytes, error: type[Exception], reason: str
) -> None:
    async def main() -> None:
        async with asking(always(answer)) as store:
            with pytest.raises(error, match=reason) as caught:
                await store.get(NAME, BlockSize.SMALL)
            assert "\n" not in str(caught.value)

    run(main)


def test_a_body_without_an_end_is_cut_off() -> None:
    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.method == "POST":
            writer.write(NO_BATCH)
            return
        writer.write(CHUNKED)
        while True:
            writer.write(b"8000\r\n" + LARGE + b"\r\n")
            await writer.drain()

    async def main() -> None:
        async with asking(reply) as store:
            with pytest.raises(CorruptBlock):
                await store.get(LARGE_NAME, BlockSize.LARGE)

    run(main)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 So\r\n", plain(200, SMALL)[:-1]])
def test_silence_is_cut_off(head: bytes) -> None:
    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.method == "POST":
            writer.write(NO_BATCH)
            return
        writer.write(head)
        await asyncio.Event().wait()

    async def main() -> None:
        async with asking(reply, timeout_s=0.2) as store:
            with pytest.raises(StoreUnavailable, match="did not answer"):
                await store.get(NAME, BlockSize.SMALL)

    run(main)


def test_a_connection_that_ends_as_it_is_used_is_made_again() -> None:
    seen: list[str] = []

    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        seen.append(asked.method)
        if len(seen) == 2:
            writer.close()
            return
        writer.write(plain(200, b"\x01" + SMALL))

    async def main() -> None:
        async with asking(reply) as store:
            for _ in range(2):
                assert await store.get(NAME, BlockSize.SMALL) == SMALL
        assert seen == ["POST"] * 3

    run(main)


def test_an_answer_that_is_cut_off_gives_what_it_had_and_goes_on() -> None:
    asked_for: list[int] = []

    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        asked_for.append(len(asked.body) // 32)
        body = b"\x01" + SMALL + b"\x00"
        if asked.body.startswith(NAME):
            writer.write(plain(200, body + b"\x01" + LARGE)[:-9])
            writer.close()
        else:
            writer.write(plain(200, b"\x01" + LARGE))

    async def main() -> None:
        async with asking(reply) as store:
            names = [(NAME, 1024), (OTHER, 1024), (LARGE_NAME, 32768)]
            got = await asyncio.gather(
                *(store.get(name, BlockSize(size)) for name, size in names), return_exceptions=True
            )
            assert got[0] == SMALL
            assert isinstance(got[1], BlockNotFound)
            assert got[2] == LARGE
        assert asked_for == [3, 1]

    run(main)


def test_a_wrong_block_in_a_batch_costs_the_others_nothing() -> None:
    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.body.startswith(OTHER):
            writer.write(plain(200, b"\x01" + os.urandom(32768) + b"\x01" + SMALL))
        else:
            writer.write(plain(200, b"\x01" + SMALL))

    async def main() -> None:
        async with asking(reply) as store:
            wrong, right = await asyncio.gather(
                *(store.get(name, BlockSize.SMALL) for name in (OTHER, NAME)),
                return_exceptions=True,
            )
            assert isinstance(wrong, WrongBlock)
            assert "HTTP 127.0.0.1" in str(wrong)
            assert right == SMALL

    run(main)


@pytest.mark.parametrize("rest", [b"\x07", b"", b"\x01" + SMALL[:500]])
def test_a_batch_that_never_gives_the_rest_ends(rest: bytes) -> None:
    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        first = b"\x01" + SMALL if asked.body.startswith(NAME) else b""
        writer.write(plain(200, first + rest))

    async def main() -> None:
        async with asking(reply) as store:
            got = await asyncio.gather(
                *(store.get(name, BlockSize.SMALL) for name in (NAME, OTHER)),
                return_exceptions=True,
            )
            assert got[0] == SMALL
            assert isinstance(got[1], StoreUnavailable)

    run(main)


def test_a_post_is_not_redirected_to_another_host() -> None:
    seen: list[str] = []

    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        seen.append(f"{asked.method} {asked.headers['host'].partition(':')[0]}")
        port = writer.get_extra_info("sockname")[1]
        writer.write(plain(307, Location=f"http://localhost:{port}/admin"))

    async def main() -> None:
        async with asking(reply) as store:
            with pytest.raises(StoreUnavailable, match="another host"):
                await store.get(NAME, BlockSize.SMALL)
        assert seen == ["POST 127.0.0.1"]

    run(main)


def test_redirects_are_followed() -> None:
    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.method == "POST":
            moved = asked.target == "/kapla/blocks"
            writer.write(
                plain(301, Location="/b/kapla/blocks") if moved else plain(200, b"\x01" + SMALL)
            )
        else:
            writer.write(plain(302, Location="/b") if asked.target != "/b" else plain(200, SMALL))

    async def main() -> None:
        async with asking(reply) as store:
            assert await store.get(NAME, BlockSize.SMALL) == SMALL
        async with answering(reply) as port, store_at(url_of(port, "ipfs+http")) as store:
            assert await store.get(NAME, BlockSize.SMALL) == SMALL

    run(main)


def test_who_asks_for_patience_gets_some() -> None:
    answers = [plain(503, Retry_After="0"), plain(429, Retry_After="0"), plain(200, b"\x00")]

    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.pop(0))

    async def main() -> None:
        async with asking(reply) as store:
            with pytest.raises(BlockNotFound):
                await store.get(NAME, BlockSize.SMALL)
        assert not answers

    run(main)


def test_who_asks_for_it_again_and_again_does_not() -> None:
    async def main() -> None:
        busy = plain(503, Retry_After="0")
        async with asking(always(busy, busy)) as store:
            with pytest.raises(StoreUnavailable, match="left alone"):
                await store.get(NAME, BlockSize.SMALL)

    run(main)


def test_a_server_that_is_not_there_is_named() -> None:
    async def main() -> None:
        async with serving(Resolver()) as port:
            url = url_of(port)
        for store in (store_at(url), store_at(parse_store_url(f"https://127.0.0.1:{port}"))):
            async with store:
                with pytest.raises(CannotConnect, match=r"HTTPS? .*: Connection refused"):
                    await store.connect()
                assert not store.connected

    run(main)


def test_a_name_that_no_host_can_have_is_said() -> None:
    async def main() -> None:
        async with store_at(parse_store_url("http://xn--a")) as store:
            with pytest.raises(StoreUnavailable, match=r"HTTP xn--a:80 cannot be asked"):
                await store.get(NAME, BlockSize.SMALL)

    run(main)


def test_a_server_that_was_there_is_waited_for() -> None:
    async def main() -> None:
        lost = asyncio.Event()
        server = Resolver([SMALL])
        told: list[float] = []

        def on_lost(_: StoreUrl, for_s: float) -> None:
            told.append(for_s)
            lost.set()

        async with serving(server) as port:
            store = store_at(url_of(port), reconnect_s=GUARD_S, on_lost=on_lost)
            assert await store.get(NAME, BlockSize.SMALL) == SMALL
        async with store:
            waiting = asyncio.ensure_future(store.get(NAME, BlockSize.SMALL))
            await lost.wait()
            async with serving(server, port):
                assert await waiting == SMALL
        assert told == [GUARD_S]

    run(main)


def test_where_there_are_others_nobody_waits_for_one() -> None:
    async def main() -> None:
        busy = plain(503, Retry_After="20")
        async with asking(always(busy, busy), has_others=True) as store:
            for _ in range(2):
                # The second time it is not even asked.
                with pytest.raises(StoreUnavailable, match=r"left alone for (20|19) s"):
                    await store.get(NAME, BlockSize.SMALL)

    run(main)


def test_a_server_that_is_waited_for_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kapla.http.asking.store._SAID_AFTER_S", 0.01)

    async def main() -> None:
        said = asyncio.Event()
        answered = asyncio.Event()
        named: list[StoreUrl] = []

        async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
            await answered.wait()
            writer.write(plain(200, b"\x01" + SMALL))

        def on_wait(url: StoreUrl) -> None:
            named.append(url)
            said.set()

        async with asking(reply, on_wait=on_wait) as store:
            waiting = asyncio.ensure_future(store.get(NAME, BlockSize.SMALL))
            await said.wait()
            answered.set()
            assert await waiting == SMALL
            assert named == [store.url]

    run(main)


def test_what_is_not_wanted_any_more_is_not_asked_for() -> None:
    hung = asyncio.Event()
    gone = asyncio.Event()

    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        hung.set()
        assert await asked.reader.read() == b""
        gone.set()

    async def main() -> None:
        async with asking(reply) as store:
            gets = (store.get(name, BlockSize.SMALL) for name in (NAME, OTHER))
            asked = [asyncio.ensure_future(one) for one in gets]
            await hung.wait()
            for one in asked:
                one.cancel()
            # The connection is given up with the last that was wanted on it.
            await gone.wait()

    run(main)


@pytest.mark.parametrize("scheme", ["http", "ipfs+http"])
def test_closing_ends_what_waits(scheme: str) -> None:
    async def main() -> None:
        came = asyncio.Event()

        async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
            came.set()
            await asyncio.Event().wait()

        async with answering(reply) as port, store_at(url_of(port, scheme)) as store:
            waiting = asyncio.ensure_future(store.get(NAME, BlockSize.SMALL))
            await came.wait()
            await store.close()
            with pytest.raises(StoreUnavailable, match="was closed"):
                await waiting
            with pytest.raises(StoreUnavailable, match="was closed"):
                await store.get(NAME, BlockSize.SMALL)

    run(main)


# --- proxies ----------------------------------------------------------------------------------


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("no_proxies")
def test_a_proxy_is_asked_for_names_that_only_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        asked: list[Asked] = []
        async with serving(Resolver([SMALL])) as port, proxying(port, asked) as proxy:
            monkeypatch.setenv("http_proxy", f"http://me:pass%20word@127.0.0.1:{proxy}")
            async with store_at(parse_store_url("http://nowhere.invalid")) as store:
                assert await store.get(NAME, BlockSize.SMALL) == SMALL
        assert asked[0].target == "http://nowhere.invalid/kapla/blocks"
        assert asked[0].headers["proxy-authorization"] == "Basic bWU6cGFzcyB3b3Jk"
        assert "authorization" not in asked[0].headers

    run(main)


@pytest.mark.usefixtures("no_proxies")
def test_a_proxy_makes_a_tunnel_for_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        asked: list[Asked] = []
        async with serving(Resolver([SMALL])) as port, proxying(port, asked) as proxy:
            monkeypatch.setenv("https_proxy", f"127.0.0.1:{proxy}")
            async with store_at(parse_store_url("https://nowhere.invalid")) as store:
                with pytest.raises(StoreUnavailable, match="does not speak TLS"):
                    await store.get(NAME, BlockSize.SMALL)
        assert (asked[0].method, asked[0].target) == ("CONNECT", "nowhere.invalid:443")

    run(main)


@pytest.mark.usefixtures("no_proxies")
def test_no_proxy_goes_around_it_and_a_wrong_one_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serving(Resolver([SMALL])) as port, store_at(url_of(port)) as store:
            monkeypatch.setenv("http_proxy", "ftp://sec:ret@127.0.0.1")
            with pytest.raises(StoreUnavailable, match="no URL of http") as caught:
                await store.get(NAME, BlockSize.SMALL)
            assert "ret@" not in str(caught.value)
            monkeypatch.setenv("http_proxy", "http://sec:ret@a..b")
            with pytest.raises(StoreUnavailable, match=r"its proxy, or .* no host can have"):
                await store.get(NAME, BlockSize.SMALL)
            async with serving(Resolver()) as closed:
                pass
            monkeypatch.setenv("http_proxy", f"http://sec:ret@127.0.0.1:{closed}")
            with pytest.raises(
                CannotConnect, match=r"to the proxy for HTTP .*: Connection refused"
            ):
                await store.get(NAME, BlockSize.SMALL)
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            assert await store.get(NAME, BlockSize.SMALL) == SMALL

    run(main)


# --- in lists ---------------------------------------------------------------------------------


def test_a_list_reads_from_servers_and_needs_no_place_to_put() -> None:
    async def main() -> None:
        content = os.urandom(400_000)
        memory = MemoryStore()
        capability = await put_content(memory, content)
        blocks = list(memory._blocks.values())
        first, second = Resolver(blocks[::2]), Gateway(blocks[1::2])
        async with serving(first) as one, serving(second) as two, serving(Resolver()) as three:
            urls = [url_of(three), url_of(one), url_of(two, "ipfs+http")]
            async with open_store(urls) as store:
                assert await get_content(store, capability) == content
                with pytest.raises(StoreRefused, match="read-only"):
                    await store.put(NAME, SMALL)

    run(main)


def test_a_list_leaves_a_server_that_lies() -> None:
    async def lie(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(200, b"\x01" + os.urandom(32768)))

    async def main() -> None:
        async with (
            answering(lie) as bad,
            serving(Resolver([SMALL])) as good,
            open_store([url_of(bad), url_of(good)]) as store,
        ):
            assert await store.get(NAME, BlockSize.SMALL) == SMALL

    run(main)
