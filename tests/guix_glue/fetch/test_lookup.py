"""Many narinfos of several servers: in portions, so that there is a limit to what is held."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from guix_glue.fetch.dialogue import Have, Info
from guix_glue.fetch.http_wire import MAX_BODY
from guix_glue.fetch.lookup import Lookup
from guix_glue.fetch.narinfo_client import LARGEST_ANSWER
from guix_glue.fetch.query import QuerySession
from guix_glue.fetch.session import Policy
from guix_glue.fetch.settings import DEFAULT_SETTINGS, DEFAULT_TIMEOUTS, Timeouts
from guix_glue.fetch.traces import Messages
from guix_glue.formats.narinfo import NarUrl, format_narinfo, format_unsigned
from guix_glue.model import StoreItem
from guix_glue.servers.url import parse_server
from guix_glue.trust.acl import Acl
from guix_glue.trust.signature import sign_text
from tests.guix_glue.fetch.fakes import FakeServer, running_server, scripted_server
from tests.guix_glue.fetch.support import KEY, SAMPLES, STORE

T = TypeVar("T")

ITEMS = [StoreItem(f"{STORE}/{number:032d}-item", bytes(32), number, ()) for number in range(40)]
PATHS = [item.path for item in ITEMS]


class Asker:
    """A lookup, its messages, and what it was asked."""

    def __init__(
        self, urls: Sequence[str], portion: int, timeouts: Timeouts = DEFAULT_TIMEOUTS
    ) -> None:
        self.written = bytearray()
        self.messages = Messages(self.written.extend)
        servers = [parse_server(url) for url in urls]
        memory = portion * LARGEST_ANSWER * len(urls)
        self.lookup = Lookup(servers, self.messages, timeouts, memory=memory)

    async def find(self, paths: Sequence[str]) -> list[tuple[int, list[int]]]:
        """For each portion how many paths it has, and how long the texts are, all servers'."""
        seen = []
        inquiry = self.lookup.inquire(paths)
        for portion in inquiry.portions:
            found = await inquiry.find(portion)
            texts = [len(text) for _, texts in found for text in texts.values()]
            seen.append((len(portion), texts))
        return seen


def run(asker: Asker, ask: Callable[[Asker], Coroutine[Any, Any, T]]) -> T:
    async def asking() -> T:
        try:
            return await ask(asker)
        finally:
            asker.lookup.close()

    return asyncio.run(asking())


def fill(server: FakeServer, text: Callable[[StoreItem], bytes]) -> None:
    for item in ITEMS:
        server.files[f"/{item.hash_part}.narinfo"] = text(item)


def signed(item: StoreItem) -> bytes:
    unsigned = format_unsigned(item)
    return format_narinfo(unsigned, sign_text(KEY, unsigned, "test"), [NarUrl("nar/x", "none", 7)])


@pytest.mark.parametrize("portion", [1, 7, 40, 100])
def test_portions_have_the_room_of_the_largest_answers(portion: int) -> None:
    with running_server() as one, running_server() as two:
        for server in (one, two):
            fill(server, lambda _: bytes(MAX_BODY))
        asker = Asker([one.url, two.url], portion)
        seen = run(asker, lambda asker: asker.find(PATHS))
        assert [count for count, _ in seen] == [
            min(portion, len(PATHS) - start) for start in range(0, len(PATHS), portion)
        ]
        assert all(texts == [MAX_BODY] * 2 * count for count, texts in seen)
        # All portions are one thing to the user.
        assert asker.written.decode().count("... 100.0%\n") == 2
        assert len(one.requests) == len(two.requests) == len(PATHS)


def test_what_does_not_fit_is_asked_for_again() -> None:
    async def ask(asker: Asker) -> None:
        await asker.find(PATHS)
        assert (await asker.find(PATHS[-4:]))[0][1] == [MAX_BODY] * 4
        assert len(server.requests) == len(PATHS)
        await asker.find(PATHS[:4])
        assert server.requests[len(PATHS) :] == server.requests[:4]

    with running_server() as server:
        fill(server, lambda _: bytes(MAX_BODY))
        run(Asker([server.url], 4), ask)


def test_a_query_in_portions_is_one_answer() -> None:
    async def ask(asker: Asker) -> tuple[bytes, bytes]:
        acl = Acl.parse((SAMPLES / "keys/acl").read_bytes())
        policy = Policy(STORE, acl, eris=False, settings=DEFAULT_SETTINGS)
        session = QuerySession(policy, asker.lookup, asker.messages)
        return await session.answer(Have(tuple(PATHS))), await session.answer(Info(tuple(PATHS)))

    with running_server() as server:
        fill(server, signed)
        have, info = run(Asker([server.url], 7), ask)
        assert have == "".join(f"{path}\n" for path in PATHS).encode() + b"\n"
        assert (
            info
            == (
                "".join(f"{item.path}\n\n0\n7\n{item.nar_size}\n" for item in ITEMS) + "\n"
            ).encode()
        )
        # Small ones are kept from one to the other, whatever there would be room for.
        assert len(server.requests) == len(PATHS)


def test_a_server_has_one_time_for_all_portions() -> None:
    answers = []

    def script(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            time.sleep(0.1)
            answers.append(1)
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    with scripted_server(script) as url:
        asker = Asker([url], 1, Timeouts(answer_s=60.0, total_s=0.5))
        run(asker, lambda asker: asker.find(PATHS))
        assert "takes too long" in asker.written.decode()
    assert len(answers) < len(PATHS)
