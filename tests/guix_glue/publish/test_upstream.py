"""Servers upstream that misbehave: none of them stops the others, nor fills the log."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from guix_glue.errors import FetchFailed
from guix_glue.servers.url import parse_server
from guix_glue.trust.authorities import Authorities
from guix_glue.upstream.servers import Upstream
from tests.clocks import Clock, run_on_clock
from tests.guix_glue.fetch.fakes import Reply, running_server, scripted_server
from tests.guix_glue.fetch.support import Made, make_item, narinfo_of, plain_url
from tests.guix_glue.publish.support import ACL
from tests.integration.daemon import GUARD_S


@pytest.fixture
def made(tmp_path: Path) -> Made:
    (tmp_path / "file").write_bytes(b"content")
    return make_item(tmp_path / "file")


@asynccontextmanager
async def asking(*urls: str) -> AsyncIterator[Upstream]:
    upstream = Upstream([parse_server(url) for url in urls], Authorities(ACL), "/gnu/store")
    try:
        yield upstream
    finally:
        await upstream.close()


def silent(connection: socket.socket) -> None:
    while connection.recv(1 << 16):
        pass


def test_one_that_is_silent_does_not_hold_up_the_next(made: Made) -> None:
    with running_server() as server, scripted_server(silent) as url:
        server.files[f"/{made.item.hash_part}.narinfo"] = narinfo_of(made, [plain_url(made)])

        async def main(clock: Clock) -> None:
            async with asking(url, server.url) as upstream:
                began = clock.time()
                found = await clock.skip_until(upstream.narinfo(made.item.hash_part), 0.5)
                assert found is not None
                assert found.server.url == server.url
                # Whoever asked the mirror waits for ten seconds.
                assert clock.time() - began < 9
                # Now both are asked at once; the guard of the test is longer than three seconds.
                assert await upstream.narinfo(made.item.hash_part) is not None
                # Whether it has something cannot be told.
                with pytest.raises(FetchFailed):
                    await clock.skip_until(upstream.narinfo("0" * 32), 1.0)

        run_on_clock(main)


def test_what_only_a_slow_server_has_is_found(made: Made) -> None:
    asked = threading.Event()
    answer = narinfo_of(made, [plain_url(made)])
    slow_answers = threading.Event()

    def slow(connection: socket.socket) -> None:
        while request := connection.recv(1 << 16):
            asked.set()
            if made.item.hash_part.encode() in request:
                assert slow_answers.wait(GUARD_S)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n"
                connection.sendall(head.encode() + answer)

    with running_server() as server, scripted_server(slow) as url:
        other = make_item(made.root, f"{'0' * 32}-other")
        server.files[f"/{other.item.hash_part}.narinfo"] = narinfo_of(other, [plain_url(other)])

        async def main(clock: Clock) -> None:
            async with asking(url, server.url) as upstream:
                assert await clock.skip_until(upstream.narinfo(other.item.hash_part), 0.5)
                # It is slow, but it is there.
                slow_answers.set()
                found = await upstream.narinfo(made.item.hash_part)
                assert found is not None
                assert found.server.url == url

        run_on_clock(main)
    assert asked.is_set()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\xff\xfe\xfd\xfc\n",
        b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 No\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
    ],
)
def test_whatever_one_says_the_next_is_asked(
    made: Made, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    def script(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(answer)

    with running_server() as server, scripted_server(script) as url:
        server.files[f"/{made.item.hash_part}.narinfo"] = narinfo_of(made, [plain_url(made)])

        async def main() -> None:
            async with asking(url, server.url) as upstream:
                for _ in range(5):
                    found = await upstream.narinfo(made.item.hash_part)
                    assert found is not None
                    assert found.server.url == server.url

        asyncio.run(main())
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


def test_a_server_that_fails_for_each_name_is_told_once(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with running_server() as server:
        for number in range(50):
            server.files[f"/{number:032d}.narinfo"] = Reply(status=500)

        async def ask(upstream: Upstream, number: int) -> None:
            with pytest.raises(FetchFailed):
                await upstream.narinfo(f"{number:032d}")

        async def main() -> None:
            async with asking(server.url) as upstream:
                await asyncio.gather(*(ask(upstream, number) for number in range(50)))
                server.files.clear()
                assert await upstream.narinfo("0" * 32) is None

        asyncio.run(main())
        assert [record.getMessage() for record in caplog.records] == [
            f"{server.url} cannot be asked: the server answers 500",
        ]


def test_a_server_that_fails_for_some_names_only_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    with running_server() as server:
        for number in range(0, 16, 2):
            server.files[f"/{number:032d}.narinfo"] = Reply(status=(500, 501)[number // 2 % 2])

        async def ask(upstream: Upstream, number: int) -> None:
            if number % 2:
                assert await upstream.narinfo(f"{number:032d}") is None
            else:
                with pytest.raises(FetchFailed):
                    await upstream.narinfo(f"{number:032d}")

        async def main() -> None:
            async with asking(server.url) as upstream:
                await asyncio.gather(*(ask(upstream, number) for number in range(16)))

        asyncio.run(main())
    assert sorted(record.getMessage() for record in caplog.records) == [
        f"{server.url} cannot be asked: the server answers {status}" for status in (500, 501)
    ]


@pytest.mark.parametrize("steps", range(0, 60, 6))
def test_cancelled_at_any_moment_it_leaves_nothing(made: Made, steps: int) -> None:
    with running_server() as server, scripted_server(silent) as url:

        async def main() -> None:
            async with asking(server.url, url) as upstream:
                before = asyncio.all_tasks()
                task = asyncio.create_task(upstream.narinfo(made.item.hash_part))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert asyncio.all_tasks() == before

        asyncio.run(main())
