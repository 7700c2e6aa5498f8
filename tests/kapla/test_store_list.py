"""Where the blocks of a list of stores go, and what a store that fails costs the others."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from eris.crypto import reference_of
from eris.errors import StoreFull, StoreRefused, StoreUnavailable
from eris.model import BlockSize
from kapla import store_list
from kapla.client import RemoteStore, StoreList
from kapla.coap.frame import Code, Message
from kapla.urls import StoreUrl, parse_store_url
from tests.kapla.fake_server import Peer, Script, fake_server, keep_blocks, until_lost
from tests.kapla.test_client import REFERENCE, SMALL, answering, error_in, get, run, silent


def gives_only(blocks: Sequence[bytes] = ()) -> Script:
    """A store that lets nobody put, as a listener with `get` alone."""
    behave = keep_blocks(blocks)

    def script(peer: Peer, request: Message) -> None:
        if request.code == Code.PUT:
            peer.send(Code.FORBIDDEN, request.token, payload=b"this store is read-only here")
        else:
            behave(peer, request)

    return script


def takes(code: int) -> Script:
    """A store that keeps blocks, and answers a PUT of nothing with this code."""
    behave = keep_blocks()

    def script(peer: Peer, request: Message) -> None:
        if request.code == Code.PUT and not request.payload:
            peer.send(code, request.token)
        else:
            behave(peer, request)

    return script


class Told:
    """What a list says of the store that it has chosen."""

    def __init__(self) -> None:
        self.all: list[tuple[str, list[str]]] = []

    def __call__(self, taker: StoreUrl, refusing: Sequence[StoreUrl]) -> None:
        self.all.append((str(taker), [str(url) for url in refusing]))


@pytest.mark.parametrize("code", [Code.FORBIDDEN, Code.METHOD_NOT_ALLOWED, Code.NOT_FOUND])
def test_blocks_go_past_stores_that_take_none(code: int) -> None:
    async def main() -> None:
        async with (
            fake_server(keep_blocks(), flags="?get") as flagged,
            fake_server(answering(code)) as refusing,
            fake_server(keep_blocks()) as taking,
            fake_server(keep_blocks()) as last,
        ):
            told = Told()
            urls = [flagged.url, refusing.url, taking.url, last.url]
            async with StoreList([RemoteStore(url) for url in urls], on_taker=told) as store:
                await asyncio.gather(*(store.put(REFERENCE, SMALL) for _ in range(5)))
            assert told.all == [(str(taking.url), [str(flagged.url), str(refusing.url)])]
            assert [len(request.payload) for request in taking.requests] == [0] + 5 * [1024]
            assert flagged.requests == last.requests == []

    run(main)


@pytest.mark.parametrize(
    "code",
    [Code.CREATED, Code.BAD_REQUEST, Code.NOT_ACCEPTABLE, Code.REQUEST_ENTITY_TOO_LARGE, 0x96],
)
def test_a_store_that_looks_at_the_block_takes_blocks(code: int) -> None:
    async def main() -> None:
        async with fake_server(takes(code)) as first, fake_server(keep_blocks()) as second:
            async with StoreList([RemoteStore(first.url), RemoteStore(second.url)]) as store:
                await store.put(REFERENCE, SMALL)
            assert second.requests == []

    run(main)


def test_a_store_that_is_full_is_not_gone_round() -> None:
    async def main() -> None:
        async with (
            fake_server(answering(Code.REQUEST_ENTITY_TOO_LARGE)) as first,
            fake_server(keep_blocks()) as second,
            StoreList([RemoteStore(first.url), RemoteStore(second.url)]) as store,
        ):
            assert isinstance(await error_in(store.put(REFERENCE, SMALL)), StoreFull)
            assert second.requests == []

    run(main)


def test_blocks_go_past_a_store_that_says_so_late() -> None:
    """Not when it is asked, but of the first block: of another store's then nothing is said."""

    def late(peer: Peer, request: Message) -> None:
        code = Code.FORBIDDEN if request.payload else Code.BAD_REQUEST
        peer.send(code, request.token)

    async def main() -> None:
        async with fake_server(late) as first, fake_server(keep_blocks()) as second:
            told = Told()
            stores = [RemoteStore(first.url), RemoteStore(second.url)]
            async with StoreList(stores, on_taker=told) as store:
                await asyncio.gather(*(store.put(REFERENCE, SMALL) for _ in range(5)))
                assert len(second.requests) == 5
            assert told.all[-1] == (str(second.url), [str(first.url)])
        async with fake_server(late) as first, fake_server(late) as second:
            stores = [RemoteStore(first.url), RemoteStore(second.url)]
            async with StoreList(stores) as store:
                error = await error_in(store.put(REFERENCE, SMALL))
                assert isinstance(error, StoreRefused)

    run(main)


def test_stores_none_of_which_takes_blocks() -> None:
    async def main() -> None:
        async with fake_server(gives_only()) as first, fake_server(gives_only()) as second:
            stores = [RemoteStore(first.url), RemoteStore(second.url)]
            async with StoreList(stores) as store:
                error = await error_in(store.put(REFERENCE, SMALL))
                assert isinstance(error, StoreRefused)
                assert "no store in the list takes blocks" in str(error)

    run(main)


def test_only_the_store_that_takes_blocks_is_asked_what_it_has() -> None:
    def finds(bits: bytes, script: Script) -> Script:
        def answer(peer: Peer, request: Message) -> None:
            if request.code == Code.FETCH:
                peer.send(Code.CONTENT, request.token, payload=bits)
            else:
                script(peer, request)

        return answer

    async def main() -> None:
        async with (
            fake_server(finds(b"\x80", gives_only())) as first,
            fake_server(finds(b"\x00", keep_blocks())) as second,
            StoreList([RemoteStore(first.url), RemoteStore(second.url)]) as store,
        ):
            assert await store.find([REFERENCE]) == [False]

    run(main)


def test_what_belongs_together_stays_together() -> None:
    """The store that took the first block takes the others, though one before it comes back."""

    async def main() -> None:
        async with (
            fake_server(answering(Code.SERVICE_UNAVAILABLE)) as first,
            fake_server(keep_blocks()) as second,
            RemoteStore(second.url) as taker,
            StoreList([RemoteStore(first.url), taker]) as store,
        ):
            await store.put(REFERENCE, SMALL)
            first.script = keep_blocks()
            await store.put(REFERENCE, SMALL)
            assert len(first.requests) == 1
            # When it is gone, those after it and before it are asked again.
            (peer,) = second.peers
            peer.transport.abort()
            await until_lost(taker)
            await store.put(REFERENCE, SMALL)
            assert len(second.peers) == 2

    run(main)


@pytest.mark.parametrize("what", ["get", "put", "find", "stat"])
def test_a_store_that_is_stopped_does_not_hide_the_next(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process: the system takes the connection, and nobody ever says anything."""
    monkeypatch.setattr(store_list, "_TRY_AGAIN_S", 1e6)

    def script(peer: Peer, request: Message) -> None:
        if request.code == Code.FETCH:
            peer.send(Code.CONTENT, request.token, payload=b"\x80")
        elif request.code == Code.GET and not request.values(15):
            peer.send(Code.CONTENT, request.token, payload=b"{}")
        else:
            keep_blocks([SMALL])(peer, request)

    async def main() -> None:
        async with fake_server(silent, greeting=b"") as first, fake_server(script) as second:
            stopped = RemoteStore(first.url, connect_timeout_s=0.05)
            async with StoreList([stopped, RemoteStore(second.url)]) as store:
                for _ in range(3):
                    results: dict[str, object] = {
                        "get": SMALL,
                        "put": None,
                        "find": [True],
                        "stat": {},
                    }
                    asked = {
                        "get": lambda: get(store),
                        "put": lambda: store.put(REFERENCE, SMALL),
                        "find": lambda: store.find([REFERENCE]),
                        "stat": store.stat,
                    }[what]
                    assert await asked() == results[what]
            # It was waited for once.
            assert len(first.peers) == 1

    run(main)


def test_a_store_on_this_machine_is_asked_alone_for_what_it_has(tmp_path: Path) -> None:
    other = b"other".ljust(1024)

    async def main() -> None:
        async with (
            fake_server(keep_blocks([SMALL, other])) as far,
            fake_server(keep_blocks([SMALL]), socket=tmp_path / "s") as near,
            StoreList([RemoteStore(far.url), RemoteStore(near.url)]) as store,
        ):
            assert await get(store) == SMALL
            assert far.peers == []
            assert await store.get(reference_of(other), BlockSize.SMALL) == other
            assert len(near.requests) == 2

    run(main)


@pytest.mark.parametrize("fault", ["silent", "lying", "failing"])
def test_blocks_come_from_several_stores_though_one_is_no_good(fault: str) -> None:
    blocks = [bytes([number]) * 1024 for number in range(100)]
    faults = {
        "silent": silent,
        "lying": lambda peer, request: peer.send(
            Code.CONTENT, request.token, payload=b"lie".ljust(1024)
        ),
        "failing": answering(Code.SERVICE_UNAVAILABLE),
    }

    async def main() -> None:
        async with (
            fake_server(faults[fault]) as bad,
            fake_server(keep_blocks(blocks)) as first,
            fake_server(keep_blocks(blocks)) as second,
            StoreList([RemoteStore(one.url) for one in (bad, first, second)]) as store,
        ):
            wanted = (store.get(reference_of(block), BlockSize.SMALL) for block in blocks)
            assert list(await asyncio.gather(*wanted)) == blocks
            # It was asked for its share of what was wanted at once, and for no more.
            gets = [
                sum(request.code == Code.GET for request in one.requests)
                for one in (bad, first, second)
            ]
            assert gets[0] < sum(gets[1:])

    run(main)


def test_a_store_is_named_when_it_keeps_us_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kapla.coap.requester.SAID_AFTER_S", 0.01)
    monkeypatch.setattr("kapla.coap.requester._STEP_S", 0.01)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        told: asyncio.Future[str] = loop.create_future()

        def on_wait(url: StoreUrl) -> None:
            told.set_result(str(url))  # once: a second time would raise

        async with (
            fake_server(silent) as server,
            RemoteStore(server.url, on_wait=on_wait) as store,
        ):
            asking = asyncio.ensure_future(get(store))
            assert await told == str(server.url)
            asking.cancel()

    run(main)


def test_a_host_that_takes_no_connection_is_named_and_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kapla.remote_store.SAID_AFTER_S", 0.01)

    async def main() -> None:
        async def never(*_: object, **__: object) -> None:
            await asyncio.get_running_loop().create_future()

        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", never)
        told: list[str] = []
        async with fake_server(silent) as server:
            store = RemoteStore(
                server.url, connect_timeout_s=0.1, on_wait=lambda url: told.append(str(url))
            )
            error = await error_in(store.connect())
            assert isinstance(error, StoreUnavailable)
            assert "within 0.1 s" in str(error)
            assert told == [str(server.url)]

    run(main)


def test_an_address_that_swallows_everything_does_not_hide_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        with socket.socket() as full, contextlib.ExitStack() as stack:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for _ in range(4):
                # They fill what the system takes without asking the program: the next one waits.
                filling = stack.enter_context(socket.socket())
                filling.setblocking(False)
                filling.connect_ex(full.getsockname())

            async def resolve(*_: object, **__: object) -> list[object]:
                kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
                addresses = full.getsockname(), ("127.0.0.1", server.port)
                return [(*kind, address) for address in addresses]

            async with fake_server(keep_blocks([SMALL])) as server:
                monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
                url = parse_store_url("coap+tcp://two.example")
                async with RemoteStore(url, connect_timeout_s=20) as store:
                    assert await get(store) == SMALL

    run(main)
