from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eris import reference_of
from eris.base32 import format_base32
from eris.errors import (
    BlockNotFound,
    CorruptBlock,
    ErisError,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)
from eris.model import BlockSize
from eris.store import BlockWriter
from kapla.client import RemoteStore, StoreList, default_store_urls, open_store
from kapla.coap.blocks import code_of_error, diagnostic, error_of_code
from kapla.coap.frame import Code, Message, format_frame, format_message
from kapla.errors import InvalidUrl
from kapla.urls import parse_store_url
from tests.examples import examples
from tests.kapla.fake_server import FakeServer, Peer, fake_server, keep_blocks

SMALL = bytes(range(256)) * 4
LARGE = bytes(reversed(range(256))) * 128
REFERENCE, LARGE_REFERENCE = reference_of(SMALL), reference_of(LARGE)
GUARD_S = 30.0


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test, but not for ever."""

    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S):
            await main()

    asyncio.run(guarded())


async def error_in(awaitable: Awaitable[object]) -> ErisError:
    """The error that something must end with."""
    with pytest.raises(ErisError) as caught:
        await awaitable
    return caught.value


def get(store: BlockWriter) -> Awaitable[bytes]:
    return store.get(REFERENCE, BlockSize.SMALL)


def silent(peer: Peer, request: Message) -> None:
    """A script that never answers."""


# --- requests ---------------------------------------------------------------------------------


def test_what_is_sent() -> None:
    async def main() -> None:
        async with fake_server(keep_blocks()) as server, RemoteStore(server.url) as store:
            await store.put(REFERENCE, SMALL)
            assert await get(store) == SMALL
            await store.put(LARGE_REFERENCE, LARGE)
            assert await store.get(LARGE_REFERENCE, BlockSize.LARGE) == LARGE
            first, second, _, fourth = server.requests
            path = ((11, b".well-known"), (11, b"eris"), (11, b"blocks"))
            assert first[2:] == (path, SMALL)
            text = format_base32(REFERENCE).encode()
            assert second[2:] == ((*path, (15, text), (60, b"\x04\x00")), b"")
            assert fourth.options[-1] == (60, b"\x80\x00")
            assert len(server.peers) == 1

    run(main)


def test_the_path_of_a_store() -> None:
    async def main() -> None:
        async with fake_server(keep_blocks(), path="/stores/mine") as server:
            async with RemoteStore(server.url) as store:
                await store.put(REFERENCE, SMALL)
                await get(store)
            for request in server.requests:
                assert request.values(11) == [b"stores", b"mine", b"blocks"]

    run(main)


def test_a_missing_block() -> None:
    async def main() -> None:
        async with fake_server(keep_blocks()) as server, RemoteStore(server.url) as store:
            error = await error_in(get(store))
            assert isinstance(error, BlockNotFound)
            assert error.reference == REFERENCE

    run(main)


def test_no_more_than_a_window_is_on_the_wire() -> None:
    async def main() -> None:
        async with fake_server(silent) as server, RemoteStore(server.url, window=5) as store:
            await store.connect()
            tasks = [asyncio.ensure_future(get(store)) for _ in range(12)]
            await server.until_requests(5)
            tasks[7].cancel()  # while it waits: it is never sent
            (peer,) = server.peers
            for answered in range(11):
                sent = min(11, answered + 5)
                await server.until_requests(sent)
                assert len(server.requests) == sent
                peer.send(Code.CONTENT, server.requests[answered].token, payload=SMALL)
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert len(server.requests) == 11
            assert isinstance(results.pop(7), asyncio.CancelledError)
            assert set(results) == {SMALL}

    run(main)


def test_requests_made_together_go_out_together() -> None:
    async def main() -> None:
        reads: list[int] = []

        def script(peer: Peer, request: Message) -> None:
            reads.append(len(peer.requests))
            keep_blocks([SMALL])(peer, request)

        async with fake_server(script) as server, RemoteStore(server.url) as store:
            await store.connect()
            assert await asyncio.gather(*(get(store) for _ in range(50))) == [SMALL] * 50
            assert len(server.requests) == 50
            assert len({request.token for request in server.requests}) == 50

    run(main)


# --- answers ----------------------------------------------------------------------------------


@settings(max_examples=examples(40))
@given(st.permutations(range(12)), st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)))
def test_answers_in_any_order_and_requests_that_nobody_waits_for(
    order: list[int], cancelled: set[int], cancelled_late: set[int]
) -> None:
    blocks = [bytes([index]) * 1024 for index in range(12)]
    references = [reference_of(block) for block in blocks]

    async def main() -> None:
        answer = keep_blocks(blocks)
        late = list(cancelled_late)
        waiting: list[Message] = []

        def answer_one(peer: Peer) -> None:
            request = min(waiting, key=lambda one: order[peer.requests.index(one)])
            waiting.remove(request)
            peer.send(Code.CONTENT, b"unknown", payload=bytes(1024))
            answer(peer, request)

        def script(peer: Peer, request: Message) -> None:
            waiting.append(request)
            if late:
                tasks[late.pop()].cancel()
            # After whatever else has arrived with it, so that there is something to choose from.
            asyncio.get_running_loop().call_soon(answer_one, peer)

        async with fake_server(script) as server, RemoteStore(server.url, window=6) as store:
            tasks = [
                asyncio.ensure_future(store.get(reference, BlockSize.SMALL))
                for reference in references
            ]
            for index in cancelled:
                tasks[index].cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for index, result in enumerate(results):
                if index not in cancelled | cancelled_late:
                    assert result == blocks[index]
                else:
                    assert result == blocks[index] or isinstance(result, asyncio.CancelledError)
            # And it goes on.
            server.script = answer
            assert await store.get(references[0], BlockSize.SMALL) == blocks[0]
            assert len(server.peers) == 1

    run(main)


def test_answers_to_nothing_are_ignored() -> None:
    async def main() -> None:
        def script(peer: Peer, request: Message) -> None:
            for token in (b"", b"x", request.token + b"\0", request.token[1:], b"12345678"):
                peer.send(Code.CONTENT, token, payload=bytes(1024))
                peer.send(Code.FORBIDDEN, token)
            peer.send(Code.CONTENT, request.token, payload=SMALL)
            peer.send(Code.CONTENT, request.token, payload=bytes(1024))  # and once more

        async with fake_server(script) as server, RemoteStore(server.url) as store:
            assert await asyncio.gather(*(get(store) for _ in range(5))) == [SMALL] * 5

    run(main)


def test_a_server_may_ask_its_clients() -> None:
    async def main() -> None:
        def script(peer: Peer, request: Message) -> None:
            peer.send(Code.GET, b"ask", [(11, b"blocks"), (15, REFERENCE)])
            peer.send(Code.PUT, b"take", [(11, b"blocks")], SMALL)
            peer.send(Code.EMPTY)
            peer.send(Code.PING, b"ping")
            peer.send(Code.CONTENT, request.token, payload=SMALL)

        async with fake_server(script) as server, RemoteStore(server.url) as store:
            assert await get(store) == SMALL
            (peer,) = server.peers
            await server.until(lambda: len(peer.others) >= 4)
            assert sorted((message.code, message.token) for message in peer.others) == [
                (Code.NOT_FOUND, b"ask"),
                (Code.NOT_FOUND, b"take"),
                (Code.CSM, b""),
                (Code.PONG, b"ping"),
            ]

    run(main)


def test_a_server_that_asks_and_does_not_listen_is_left() -> None:
    async def main() -> None:
        def script(peer: Peer, request: Message) -> None:
            peer.transport.pause_reading()
            peer.transport.write(format_frame(Code.GET, b"12345678", bytes(34)) * 1_500_000)

        async with fake_server(script) as server, RemoteStore(server.url) as store:
            error = await error_in(get(store))
            assert isinstance(error, StoreUnavailable)
            assert "does not listen" in str(error)

    run(main)


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"", CorruptBlock, "0 bytes instead of 1024"),
        (b"\xff" + SMALL[:-1], CorruptBlock, "1023 bytes instead of 1024"),
        (b"\xff" + SMALL + b"x", CorruptBlock, "1025 bytes"),
        (b"\xff" + LARGE, CorruptBlock, "32768 bytes instead of 1024"),
        (b"\xd1\x0a\x0e\xff" + SMALL[:1024], StoreUnavailable, "in pieces"),
        (b"\xf0", StoreUnavailable, "malformed"),
        (b"\xff", StoreUnavailable, "malformed"),
        (b"\xd9" + SMALL[:3], StoreUnavailable, "malformed"),
    ],
)
def test_answers_that_are_no_block(body: bytes, kind: type[ErisError], words: str) -> None:
    async def main() -> None:
        def script(peer: Peer, request: Message) -> None:
            if len(peer.requests) > 1:
                keep_blocks([SMALL])(peer, request)
            else:
                peer.transport.write(format_frame(Code.CONTENT, request.token, body))

        async with fake_server(script) as server, RemoteStore(server.url) as store:
            error = await error_in(get(store))
            assert type(error) is kind
            assert words in str(error)
            # The connection is none the worse for it.
            assert await get(store) == SMALL
            assert len(server.peers) == 1

    run(main)


def test_options_beside_a_block_are_tolerated() -> None:
    async def main() -> None:
        def script(peer: Peer, request: Message) -> None:
            options = [(4, b"etag"), (12, b"\x2a"), (14, b"\x3c"), (252, b"echo")]
            peer.send(Code.CONTENT, request.token, options, SMALL)

        async with fake_server(script) as server, RemoteStore(server.url) as store:
            assert await get(store) == SMALL

    run(main)


@pytest.mark.parametrize(
    ("code", "for_get", "for_put"),
    [
        (Code.CREATED, StoreUnavailable, None),
        (Code.CHANGED, StoreUnavailable, None),
        (Code.DELETED, StoreUnavailable, StoreUnavailable),
        (Code.VALID, StoreUnavailable, StoreUnavailable),
        (Code.CONTINUE, StoreUnavailable, StoreUnavailable),
        (0x60, StoreUnavailable, StoreUnavailable),
        (Code.BAD_REQUEST, StoreRefused, StoreRefused),
        (Code.BAD_OPTION, StoreRefused, StoreRefused),
        (Code.FORBIDDEN, StoreRefused, StoreRefused),
        (Code.NOT_FOUND, BlockNotFound, StoreRefused),
        (Code.METHOD_NOT_ALLOWED, StoreRefused, StoreRefused),
        (Code.REQUEST_ENTITY_TOO_LARGE, StoreFull, StoreFull),
        (Code.INTERNAL_SERVER_ERROR, StoreUnavailable, StoreUnavailable),
        (Code.SERVICE_UNAVAILABLE, StoreUnavailable, StoreUnavailable),
        (Code.PROXYING_NOT_SUPPORTED, StoreUnavailable, StoreUnavailable),
        (0xDF, StoreUnavailable, StoreUnavailable),
    ],
)
def test_codes(code: int, for_get: type[ErisError], for_put: type[ErisError] | None) -> None:
    async def main() -> None:
        def script(peer: Peer, request: Message) -> None:
            peer.send(code, request.token)

        async with fake_server(script) as server, RemoteStore(server.url) as store:
            assert isinstance(await error_in(get(store)), for_get)
            if for_put is None:
                await store.put(REFERENCE, SMALL)
            else:
                assert isinstance(await error_in(store.put(REFERENCE, SMALL)), for_put)

    run(main)


@pytest.mark.parametrize(
    "error",
    [
        BlockNotFound(REFERENCE),
        StoreRefused("read-only"),
        StoreFull("it has reached max-size"),
        StoreUnavailable("the disk is full"),
    ],
)
def test_an_error_crosses_the_wire_unchanged(error: ErisError) -> None:
    again = error_of_code(code_of_error(error), REFERENCE, diagnostic(error))
    assert isinstance(again, type(error))
    if isinstance(error, StoreError):
        assert str(error) in str(again)


def test_only_refusals_and_outages_say_why() -> None:
    assert diagnostic(BlockNotFound(REFERENCE)) == b""
    assert code_of_error(CorruptBlock(REFERENCE)) == Code.BAD_REQUEST
    assert diagnostic(CorruptBlock(REFERENCE)) == b""
    assert code_of_error(ErisError()) == Code.INTERNAL_SERVER_ERROR


@given(st.integers(0, 255), st.binary(max_size=400))
def test_what_a_store_says_is_one_printable_line(code: int, payload: bytes) -> None:
    text = str(error_of_code(code, REFERENCE, payload))
    assert text.isprintable()
    assert len(text) < 300


# --- connections ------------------------------------------------------------------------------


def test_a_connection_lost_midway_fails_what_waits_and_is_made_anew() -> None:
    async def main() -> None:
        def script(peer: Peer, request: Message) -> None:
            if len(server.peers) == 1 and len(peer.requests) == 4:
                peer.transport.abort()
            elif len(server.peers) > 1 or len(peer.requests) < 4:
                keep_blocks([SMALL])(peer, request)

        async with fake_server(script) as server, RemoteStore(server.url, window=8) as store:
            await store.connect()
            results = await asyncio.gather(*(get(store) for _ in range(20)), return_exceptions=True)
            lost = [result for result in results if isinstance(result, StoreUnavailable)]
            assert len(lost) >= 17
            assert all(result == SMALL for result in results if result not in lost)
            assert len({id(error) for error in lost}) == len(lost)
            assert await get(store) == SMALL
            assert len(server.peers) == 2

    run(main)


def test_after_a_release_the_answers_that_are_owed_still_come() -> None:
    async def main() -> None:
        def script(peer: Peer, request: Message) -> None:
            if request.token == b"\0\0\0\0":
                return
            # Announced first, then answered, both of them, then closed.
            peer.transport.write(b"\x00\xe4")
            for token in (b"\0\0\0\0", request.token):
                peer.transport.write(format_message(Code.CONTENT, token, payload=SMALL))
            peer.transport.close()

        async with fake_server(script) as server, RemoteStore(server.url, window=2) as store:
            await store.connect()
            results = await asyncio.gather(*(get(store) for _ in range(4)), return_exceptions=True)
            assert results[:2] == [SMALL, SMALL]
            # The others were not sent yet.
            assert all(isinstance(result, StoreUnavailable) for result in results[2:])

    run(main)


@pytest.mark.parametrize(
    ("farewell", "words"),
    [
        (b"\x40\xe5\xffbye", "aborted by the peer: bye"),
        (b"\x0f\x45", "token"),
        (b"\xf0\xff\xff\xff\xff\x45", "longer than"),
    ],
)
def test_a_server_that_ends_the_connection(farewell: bytes, words: str) -> None:
    async def main() -> None:
        def script(peer: Peer, request: Message) -> None:
            peer.transport.write(farewell)

        async with fake_server(script) as server, RemoteStore(server.url) as store:
            error = await error_in(get(store))
            assert isinstance(error, StoreUnavailable)
            assert words in str(error)
            server.script = keep_blocks([SMALL])
            assert await get(store) == SMALL

    run(main)


def test_a_server_that_does_not_greet() -> None:
    async def main() -> None:
        greeting = b"SSH-2.0-OpenSSH\r\n"
        async with (
            fake_server(silent, greeting=greeting) as server,
            RemoteStore(server.url) as store,
        ):
            assert isinstance(await error_in(get(store)), StoreUnavailable)

    run(main)


def test_a_silent_server() -> None:
    async def main() -> None:
        async with (
            fake_server(silent) as server,
            RemoteStore(server.url, timeout_s=0.05, window=2) as store,
        ):
            errors = await asyncio.gather(*(get(store) for _ in range(5)), return_exceptions=True)
            for error in errors:
                assert isinstance(error, StoreUnavailable)
                assert "did not answer" in str(error)
            # The next request connects anew.
            (peer,) = server.peers
            assert isinstance(await error_in(get(store)), StoreUnavailable)
            assert len(server.peers) == 2
            await peer.gone

    run(main)


def test_silence_counts_only_while_an_answer_is_owed() -> None:
    async def main() -> None:
        async with (
            fake_server(silent) as server,
            RemoteStore(server.url, timeout_s=0.01) as store,
        ):
            await store.connect()
            loop = asyncio.get_running_loop()
            idle = loop.create_future()
            loop.call_later(0.05, idle.set_result, None)
            await idle
            (peer,) = server.peers
            assert not peer.gone.done()

    run(main)


def test_nobody_listens() -> None:
    async def main() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = parse_store_url(f"coap+tcp://127.0.0.1:{unused.getsockname()[1]}")
            async with RemoteStore(url) as store:
                for attempt in (store.connect(), get(store), store.put(REFERENCE, SMALL)):
                    error = await error_in(attempt)
                    assert isinstance(error, StoreUnavailable)
                    assert "cannot connect to TCP 127.0.0.1" in str(error)

    run(main)


@pytest.mark.parametrize("kind", ["nothing", "file", "stale"])
def test_no_socket(kind: str) -> None:
    directory = tempfile.TemporaryDirectory(prefix="kapla-")
    path = Path(directory.name) / "s"
    if kind == "file":
        path.write_bytes(b"")
    elif kind == "stale":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))

    async def main() -> None:
        error = await error_in(RemoteStore(parse_store_url(f"coap+unix://{path}")).connect())
        assert isinstance(error, StoreUnavailable)
        assert f"cannot connect to Unix socket {path}: " in str(error)

    with directory:
        run(main)


def test_a_name_that_does_not_resolve() -> None:
    async def main() -> None:
        error = await error_in(RemoteStore(parse_store_url("coap+tcp://a.invalid")).connect())
        assert isinstance(error, StoreUnavailable)

    run(main)


def test_many_tasks_share_one_connection() -> None:
    async def main() -> None:
        async with fake_server(keep_blocks([SMALL])) as server, RemoteStore(server.url) as store:
            tasks = [asyncio.ensure_future(get(store)) for _ in range(10)]
            tasks[0].cancel()  # whoever asked first does not take the connection away
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert results[1:] == [SMALL] * 9
            assert len(server.peers) == 1

    run(main)


# --- closing ----------------------------------------------------------------------------------


def test_close_releases_the_connection() -> None:
    async def main() -> None:
        async with fake_server(keep_blocks([SMALL])) as server:
            async with RemoteStore(server.url) as store:
                await get(store)
            (peer,) = server.peers
            await peer.gone
            assert [message.code for message in peer.others] == [Code.CSM, Code.RELEASE]
            await store.close()
            # It may be used again.
            assert await get(store) == SMALL
            await store.close()

    run(main)


def test_close_fails_what_waits() -> None:
    async def main() -> None:
        async with fake_server(silent) as server:
            store = RemoteStore(server.url, window=2)
            tasks = [asyncio.ensure_future(get(store)) for _ in range(4)]
            await server.until_requests(2)
            await store.close()
            for task in tasks:
                assert isinstance(await error_in(task), StoreUnavailable)

    run(main)


def test_close_while_connecting_fails_what_waits() -> None:
    async def main() -> None:
        async with fake_server(silent) as server:
            store = RemoteStore(server.url)
            tasks = [asyncio.ensure_future(get(store)) for _ in range(2)]
            await asyncio.sleep(0)
            await store.close()
            for task in tasks:
                assert isinstance(await error_in(task), StoreUnavailable)

    run(main)


def test_close_does_not_wait_for_a_server_that_does_not_read() -> None:
    async def main() -> None:
        async with fake_server(silent) as server:
            store = RemoteStore(server.url, window=1000)
            await store.connect()
            await server.until(lambda: bool(server.peers))
            server.peers[0].transport.pause_reading()
            tasks = [asyncio.ensure_future(store.put(LARGE_REFERENCE, LARGE)) for _ in range(800)]
            await asyncio.sleep(0)
            await store.close()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(result) for result in results} == {StoreUnavailable}

    run(main)


# --- flags, reports, what is shown ------------------------------------------------------------


def test_the_flags_of_a_url_are_obeyed() -> None:
    async def main() -> None:
        script = keep_blocks([SMALL])
        async with fake_server(script, flags="?get") as server, RemoteStore(server.url) as store:
            assert await get(store) == SMALL
            error = await error_in(store.put(REFERENCE, SMALL))
            assert isinstance(error, StoreRefused)
            assert "put" in str(error)
        async with fake_server(script, flags="?put") as server, RemoteStore(server.url) as store:
            await store.put(REFERENCE, SMALL)
            assert isinstance(await error_in(get(store)), StoreRefused)
            assert isinstance(await error_in(store.find([REFERENCE])), StoreRefused)
            assert [request.code for request in server.requests] == [Code.PUT]

    run(main)


def test_find() -> None:
    async def main() -> None:
        def script(peer: Peer, request: Message) -> None:
            assert request.code == Code.FETCH
            assert request.values(11) == [b"mine", b"blocks"]
            assert request.payload == REFERENCE + LARGE_REFERENCE
            peer.send(Code.CONTENT, request.token, payload=b"\x40")

        async with (
            fake_server(script, path="/mine", flags="?get") as server,
            RemoteStore(server.url) as store,
        ):
            assert await store.find([REFERENCE, LARGE_REFERENCE]) == [False, True]

    run(main)


@pytest.mark.parametrize(
    ("code", "payload", "kind"),
    [
        (Code.CONTENT, b"", StoreRefused),
        (Code.CONTENT, b"\0\0", StoreRefused),
        (Code.CREATED, b"", StoreRefused),
        (Code.NOT_FOUND, b"", StoreRefused),
        (Code.METHOD_NOT_ALLOWED, b"", StoreRefused),
        (Code.SERVICE_UNAVAILABLE, b"", StoreUnavailable),
    ],
)
def test_stores_that_cannot_find(code: int, payload: bytes, kind: type[ErisError]) -> None:
    async def main() -> None:
        def script(peer: Peer, request: Message) -> None:
            peer.send(code, request.token, payload=payload)

        async with fake_server(script) as server, RemoteStore(server.url) as store:
            assert isinstance(await error_in(store.find([REFERENCE])), kind)

    run(main)


def test_stat() -> None:
    async def main() -> None:
        def script(peer: Peer, request: Message) -> None:
            assert request.values(11) == [b"kapla", b"stat"]
            peer.send(Code.CONTENT, request.token, [(12, b"\x32")], json.dumps({"a": 1}).encode())

        async with fake_server(script) as server, RemoteStore(server.url) as store:
            assert await store.stat() == {"a": 1}

    run(main)


@pytest.mark.parametrize(
    ("code", "payload", "kind"),
    [
        (Code.CONTENT, b"", StoreUnavailable),
        (Code.CONTENT, b"{", StoreUnavailable),
        (Code.CONTENT, b"[1]", StoreUnavailable),
        (Code.CONTENT, b"\xff", StoreUnavailable),
        (Code.CONTENT, b"[" * 100_000, StoreUnavailable),
        (Code.CREATED, b"", StoreUnavailable),
        (Code.FORBIDDEN, b"not for you", StoreRefused),
        (Code.METHOD_NOT_ALLOWED, b"", StoreRefused),
    ],
)
def test_reports_that_make_no_sense(code: int, payload: bytes, kind: type[ErisError]) -> None:
    async def main() -> None:
        def script(peer: Peer, request: Message) -> None:
            peer.send(code, request.token, payload=payload)

        async with fake_server(script) as server, RemoteStore(server.url) as store:
            assert isinstance(await error_in(store.stat()), kind)

    run(main)


def test_the_path_of_a_store_is_not_shown() -> None:
    async def main() -> None:
        async with fake_server(silent, path="/hidden") as server:
            store = RemoteStore(server.url, timeout_s=0.01)
            error = await error_in(get(store))
            await store.close()
        shown = [repr(store), str(store), repr(StoreList([store])), str(error), repr(error)]
        shown.append(str(await error_in(get(store))))
        for text in shown:
            assert "hidden" not in text

    run(main)


# --- several stores ---------------------------------------------------------------------------


def answering(code: int) -> Callable[[Peer, Message], None]:
    def script(peer: Peer, request: Message) -> None:
        peer.send(code, request.token)

    return script


async def unreachable() -> RemoteStore:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return RemoteStore(parse_store_url(f"coap+tcp://127.0.0.1:{unused.getsockname()[1]}"))


def stores_of(*servers: FakeServer) -> list[RemoteStore]:
    return [RemoteStore(server.url) for server in servers]


def gets(server: FakeServer) -> int:
    """How many blocks it was asked for."""
    return sum(request.code == Code.GET for request in server.requests)


def test_get_asks_one_after_the_other_until_one_has_it() -> None:
    async def main() -> None:
        async with (
            fake_server(keep_blocks()) as first,
            fake_server(answering(Code.FORBIDDEN)) as second,
            fake_server(keep_blocks([SMALL])) as third,
            fake_server(keep_blocks([SMALL])) as fourth,
        ):
            stores = [await unreachable(), *stores_of(first, second, third, fourth)]
            async with StoreList(stores) as store:
                assert await get(store) == SMALL
                assert [gets(server) for server in (first, second, third, fourth)] == [1, 1, 1, 0]

    run(main)


def test_a_store_with_a_wrong_block_is_passed_over() -> None:
    async def main() -> None:
        def wrong(peer: Peer, request: Message) -> None:
            peer.send(Code.CONTENT, request.token, payload=b"wrong")

        async with (
            fake_server(wrong) as first,
            fake_server(keep_blocks([SMALL])) as second,
            StoreList(stores_of(first, second)) as store,
        ):
            assert await get(store) == SMALL

    run(main)


def test_a_store_that_says_nothing_is_waited_for_once() -> None:
    async def main() -> None:
        async with fake_server(silent) as first, fake_server(keep_blocks([SMALL])) as second:
            mute = RemoteStore(first.url, timeout_s=0.05)
            async with StoreList([mute, RemoteStore(second.url)]) as store:
                for _ in range(5):
                    assert list(await asyncio.gather(get(store), get(store))) == [SMALL, SMALL]
            # What two want is asked for once.
            assert gets(first) == 1
            assert gets(second) == 5

    run(main)


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        ([Code.NOT_FOUND, Code.NOT_FOUND], BlockNotFound),
        ([Code.SERVICE_UNAVAILABLE, Code.NOT_FOUND], StoreUnavailable),
        ([Code.NOT_FOUND, Code.SERVICE_UNAVAILABLE], StoreUnavailable),
        ([Code.NOT_FOUND, Code.FORBIDDEN, Code.NOT_FOUND], StoreRefused),
    ],
)
def test_a_block_that_nobody_has(codes: list[int], kind: type[ErisError]) -> None:
    async def main() -> None:
        # When one could not be asked, it may be the one that has it.
        async with (
            fake_server(answering(codes[0])) as first,
            fake_server(answering(codes[1])) as second,
            fake_server(answering(codes[-1])) as third,
            StoreList(stores_of(first, second, third)) as store,
        ):
            assert isinstance(await error_in(get(store)), kind)

    run(main)


def test_put_goes_to_the_first_store_that_can_be_reached() -> None:
    async def main() -> None:
        async with (
            fake_server(keep_blocks(), flags="?get") as only_get,
            fake_server(keep_blocks()) as first,
            fake_server(keep_blocks()) as second,
        ):
            stores = [*stores_of(only_get), await unreachable(), *stores_of(first, second)]
            async with StoreList(stores) as store:
                await store.put(REFERENCE, SMALL)
                asked = [len(server.requests) for server in (only_get, first, second)]
                # It was asked first whether it takes blocks.
                assert asked == [0, 2, 0]

    run(main)


def test_connecting_to_several_stores() -> None:
    async def main() -> None:
        async with (
            fake_server(keep_blocks()) as first,
            fake_server(keep_blocks([SMALL])) as second,
        ):
            near, far = stores_of(first, second)
            async with StoreList([await unreachable(), near, far]) as store:
                await store.connect()
                assert near.connected
                assert far.connected
                assert await get(store) == SMALL
        async with StoreList([await unreachable(), await unreachable()]) as store:
            assert isinstance(await error_in(store.connect()), StoreUnavailable)

    run(main)


def test_put_with_nowhere_to_go() -> None:
    async def main() -> None:
        async with StoreList([await unreachable(), await unreachable()]) as store:
            assert isinstance(await error_in(store.put(REFERENCE, SMALL)), StoreUnavailable)
            assert isinstance(await error_in(store.stat()), StoreUnavailable)
        read_only = RemoteStore(parse_store_url("coap+tcp://127.0.0.1?get"))
        error = await error_in(StoreList([read_only]).put(REFERENCE, SMALL))
        assert isinstance(error, StoreRefused)

    run(main)


def test_a_store_that_lies_does_not_hide_one_that_has_the_block() -> None:
    def lie(peer: Peer, request: Message) -> None:
        peer.send(Code.CONTENT, request.token, payload=bytes(1024))

    async def main() -> None:
        async with (
            fake_server(lie) as first,
            fake_server(keep_blocks([SMALL])) as second,
            StoreList(stores_of(first, second)) as store,
        ):
            assert await get(store) == SMALL
        async with fake_server(lie) as only, StoreList(stores_of(only)) as store:
            assert isinstance(await error_in(get(store)), CorruptBlock)

    run(main)


def test_a_store_that_only_makes_signs_of_life_is_left() -> None:
    async def main() -> None:
        def script(peer: Peer, request: Message) -> None:
            def again() -> None:
                if not peer.transport.is_closing():
                    peer.transport.write(bytes(2))
                    asyncio.get_running_loop().call_later(0.02, again)

            again()

        async with fake_server(script) as server, RemoteStore(server.url, timeout_s=0.2) as store:
            assert isinstance(await error_in(get(store)), StoreUnavailable)

    run(main)


def test_a_list_has_a_store() -> None:
    with pytest.raises(ValueError, match="no store"):
        StoreList([])


# --- which stores -----------------------------------------------------------------------------


def test_one_url_is_one_store_and_several_are_a_list() -> None:
    one, two = (parse_store_url(f"coap+tcp://{name}") for name in "ab")
    assert isinstance(open_store([one]), RemoteStore)
    assert isinstance(open_store([one, two]), StoreList)


def test_urls_may_be_text() -> None:
    one, two = "coap+unix:///run/x.sock", "coap+tcp://b"
    read_one, read_two = parse_store_url(one), parse_store_url(two)
    assert RemoteStore(one).url == RemoteStore(read_one).url == read_one
    of_one: list[Any] = [one, [one], read_one, iter([one])]
    assert [open_store(urls).urls for urls in of_one] == [[read_one]] * len(of_one)
    of_both: list[Any] = [[one, two], f"{one} {two}", (one, read_two)]
    assert [open_store(urls).urls for urls in of_both] == [[read_one, read_two]] * len(of_both)


@pytest.mark.parametrize("url", [None, b"coap+tcp://a", Path("/run/x.sock"), 7, {"a": 1}.items()])
def test_what_is_no_text_is_said_at_once(url: Any) -> None:
    for make in (RemoteStore, open_store):
        with pytest.raises(TypeError, match=r"text, as \"coap\+unix:"):
            make(url)
    with pytest.raises(TypeError, match="text"):
        open_store([url])


def test_what_is_no_url_is_said_at_once() -> None:
    for make in (RemoteStore, open_store):
        with pytest.raises(ValueError, match="this is a path"):
            make("/run/x.sock")
        with pytest.raises(ValueError, match="empty"):
            make("")
    with pytest.raises(ValueError, match="store URL 2: a store URL begins with"):
        open_store("coap+tcp://a b")
    with pytest.raises(ValueError, match="empty"):
        open_store([])
    with pytest.raises(ValueError, match="2 are given"):
        RemoteStore("coap+tcp://a coap+tcp://b")
    with pytest.raises(ValueError, match="open_store"):
        RemoteStore("http://a")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user, not root, whose sockets would lie in the result."""
    monkeypatch.delenv("ERIS_STORE_URL", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nonexistent-runtime")
    monkeypatch.setattr("kapla.local_socket.is_root", lambda: False)
    monkeypatch.setattr("kapla.default_stores.SYSTEM_SOCKET", tmp_path / "system.sock")
    return tmp_path


def shown(text: str | None = None) -> list[str]:
    return [str(url) for url in default_store_urls(text)]


def test_urls_that_are_given(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERIS_STORE_URL", "  coap+tcp://a   coap+unix:///b?get ")
    assert shown() == ["TCP a:5683", "Unix socket /b"]
    assert shown("coap+tcp://c") == ["TCP c:5683"]
    assert shown("") == ["TCP a:5683", "Unix socket /b"]


def test_a_daemon_of_ours_that_is_starting_counts_as_there(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (environment / "system.sock").touch()
    starting: list[Path] = []
    monkeypatch.setattr("kapla.soon.is_starting", lambda path: path in starting)
    assert shown() == [f"Unix socket {environment}/system.sock"]
    starting.append(Path("/nonexistent-runtime/eris.sock"))
    assert shown() == ["Unix socket /nonexistent-runtime/eris.sock"]


def test_the_place_of_a_wrong_url_is_named(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERIS_STORE_URL", "coap+tcp://a ftp://hidden/path")
    with pytest.raises(InvalidUrl, match="store URL 2") as caught:
        default_store_urls()
    assert "hidden" not in str(caught.value)
    with pytest.raises(InvalidUrl, match="empty"):
        default_store_urls(" ")


def test_without_any_the_local_sockets_are_tried(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Neither is there: the user's, since its path is what an error should name.
    assert shown() == ["Unix socket /nonexistent-runtime/eris.sock"]
    system = environment / "system.sock"
    system.touch()
    assert shown() == [f"Unix socket {system}"]
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(environment))
    (environment / "eris.sock").touch()
    assert shown() == [f"Unix socket {environment / 'eris.sock'}"]
