"""The server whose narinfo came first need not have the nar: then all others are asked, too."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from guix_glue.errors import FetchFailed
from guix_glue.proxy.routes import nar_url
from guix_glue.sources.vouching import Vouched
from tests.guix_glue.fetch.fakes import FakeServer, Reply, running_server, scripted_server
from tests.guix_glue.fetch.support import narinfo_of, plain_url
from tests.guix_glue.proxy.running import inside
from tests.guix_glue.proxy.support import (
    HURRIED,
    STREAMING,
    Goods,
    drain,
    flipped,
    offer,
    proxying,
    run,
    status_of,
    take,
    vouch,
)
from tests.integration.daemon import GUARD_S

WHOLE = replace(STREAMING, small=1 << 24)
"""All is made whole before anything goes out."""


class Telling:
    """Tells who has an item, and counts how often it was asked."""

    def __init__(self, *told: Vouched) -> None:
        self.asked = 0
        self._told = told

    async def __call__(self) -> Vouched | None:
        self.asked += 1
        return self._told[0] if self._told else None


def fail(server: FakeServer, goods: Goods, how: str) -> None:
    """Have a server that offers an item fail to bring it."""
    path = f"/nar/{goods.made.item.base_name}"
    answers: dict[str, bytes | Reply] = {
        "gone": Reply(b"", 404),
        "busy": Reply(b"", 503, {"Retry-After": "3600"}),
        "wrong": flipped(goods.made.nar, len(goods.made.nar) - 200),
        "odd": b"no nar",
    }
    server.files[path] = answers[how]


@pytest.mark.parametrize("how", ["gone", "busy", "wrong", "odd"])
def test_a_nar_that_the_first_server_has_not(
    how: str, goods: Goods, server: FakeServer, second: FakeServer, tmp_path: Path
) -> None:
    both = vouch(offer(server, goods.made), offer(second, goods.made))
    fail(server, goods, how)

    async def main() -> None:
        async with proxying(tmp_path, settings=WHOLE) as nars:
            for _ in range(2):
                telling = Telling(both)
                reply = await nars.reply(vouch(both.candidates[0]), ask_anew=telling)
                assert await drain(reply) == goods.made.nar
                assert telling.asked == 1

    run(main())


def test_it_is_asked_for_when_the_header_is_out_too(
    goods: Goods, server: FakeServer, second: FakeServer, tmp_path: Path
) -> None:
    both = vouch(offer(server, goods.made), offer(second, goods.made))
    fail(server, goods, "gone")

    async def main() -> None:
        async with proxying(tmp_path, settings=HURRIED) as nars:
            reply = await nars.reply(vouch(both.candidates[0]), ask_anew=Telling(both))
            assert await drain(reply) == goods.made.nar

    run(main())


def test_one_that_is_known_to_be_wrong_comes_after_them(
    goods: Goods, server: FakeServer, second: FakeServer, tmp_path: Path
) -> None:
    both = vouch(offer(server, goods.made), offer(second, goods.made))
    fail(server, goods, "wrong")

    async def main() -> None:
        async with proxying(tmp_path, settings=HURRIED) as nars:
            with pytest.raises(FetchFailed, match="no source"):
                await take(nars, vouch(both.candidates[0]))
            telling = Telling(both)
            reply = await nars.reply(vouch(both.candidates[0]), ask_anew=telling)
            assert await drain(reply) == goods.made.nar

    run(main())


def test_nobody_else_has_it(goods: Goods, server: FakeServer, tmp_path: Path) -> None:
    alone = vouch(offer(server, goods.made))
    fail(server, goods, "gone")

    async def main() -> None:
        async with proxying(tmp_path, settings=WHOLE) as nars:
            for telling in (Telling(), Telling(alone)):
                assert await nars.reply(alone, ask_anew=telling) is None
                assert telling.asked == 1
            assert await status_of(nars, alone) == 404

    run(main())


def test_all_servers_are_waited_for(goods: Goods, tmp_path: Path) -> None:
    """Whoever is fast and has copied a narinfo does not hide who has the nar."""
    made, gate = goods.made, threading.Event()
    text = narinfo_of(made, [plain_url(made)])

    def slow(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            gate.wait(GUARD_S)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n"
            connection.sendall(head.encode() + text)

    async def main(fast: FakeServer, slow_url: str) -> None:
        fast.files[f"/{made.item.hash_part}.narinfo"] = text
        async with inside(tmp_path, [fast.url, slow_url]) as proxy:
            await proxy.text(f"/{made.item.hash_part}.narinfo")
            proxy.nars.missing = True
            proxy.nars.when_asked = gate.set
            assert (await proxy.get(f"/{nar_url(made.item)}")).status == 404
            first, anew = proxy.nars.asked
            assert [one.server.url for one in first.candidates] == [fast.url]
            assert {one.server.url for one in anew.candidates} == {fast.url, slow_url}
            # And that is kept.
            await proxy.get(f"/{nar_url(made.item)}")
            assert proxy.nars.asked[2] == anew

    with running_server() as fast, scripted_server(slow) as slow_url:
        run(main(fast, slow_url))


def test_who_had_one_wrong_nar_comes_last_for_others_too(
    goods: Goods, server: FakeServer, second: FakeServer, tmp_path: Path
) -> None:
    """Half of a large nar is gone before it shows: one build is spoiled by that, and not each."""
    both = vouch(offer(server, goods.made), offer(second, goods.made))
    fail(server, goods, "wrong")
    others = vouch(offer(server, goods.other), offer(second, goods.other))

    async def main() -> None:
        async with proxying(tmp_path, settings=HURRIED) as nars:
            assert await take(nars, both) == goods.made.nar
            server.requests.clear()
            for vouched in (others, vouch(others.candidates[0])):
                reply = await nars.reply(vouched, ask_anew=Telling(others))
                assert await drain(reply) == goods.other.nar
            assert server.requests == []
            # Better than nothing.
            assert await take(nars, vouch(others.candidates[0])) == goods.other.nar

    run(main())
