"""Where the blocks of a connection came from: what the daemon counts, and a client makes of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from eris import reference_of
from eris.model import BlockSize
from kapla.client import RemoteStore
from kapla.coap.beyond import SEEDS, Found
from kapla.coap.blocks import ORIGIN_PATH
from kapla.coap.frame import Code, Message, Option
from kapla.coap.origin import Origins
from kapla.origins import Amount, ask_origins, bytes_by_place
from kapla.storage.access import Rights
from tests.contract.stores import STORES
from tests.kapla.coap.harness import ALL_RIGHTS, LARGE, SMALL, MemoryStorage, Server, request_bytes
from tests.kapla.coap.test_further import USER, Others, ask, get, run
from tests.kapla.fake_server import Peer, fake_server
from tests.kapla.test_client import run as run_client

PATH: list[Option] = [(11, part.encode()) for part in ORIGIN_PATH]
NOTHING = {"blocks": 0, "bytes": 0}


async def told(server: Server, options: list[Option] | None = None) -> dict[str, Any]:
    [answer] = await ask(server, request_bytes(Code.GET, options or PATH))
    assert answer.code == Code.CONTENT
    found: dict[str, Any] = json.loads(answer.payload)
    return found


@pytest.mark.parametrize("slow", [False, True])
def test_it_tells_what_came_from_here_and_what_from_others(slow: bool) -> None:
    more: list[Option] = [(23, b"\x06")] if slow else []

    async def test() -> None:
        others = Others()
        storage = MemoryStorage()
        storage.blocks[reference_of(LARGE)] = LARGE
        server = Server(storage, rights=ALL_RIGHTS, uid=USER, beyond=others)
        assert await told(server) == {
            "here": NOTHING,
            "seeds": NOTHING,
            "peers": {},
            "put": NOTHING,
        }
        await ask(server, get(reference_of(LARGE), 0, *more))
        await ask(server, get(reference_of(SMALL), 0, *more))
        others.waiting[0][1](Found(SMALL, False, "desktop"))
        await server.settle()
        await ask(server, get(reference_of(b"x" * 1024), 0, *more))
        assert await told(server) == {
            "here": {"blocks": 1, "bytes": 32768},
            "seeds": NOTHING,
            "peers": {"desktop": {"blocks": 1, "bytes": 1024}},
            "put": NOTHING,
        }

    run(test)


def test_who_the_peers_are_is_not_for_everybody() -> None:
    async def test() -> None:
        others = Others()
        server = Server(MemoryStorage(), rights=Rights(get=True), uid=USER, beyond=others)
        await ask(server, get(reference_of(SMALL)))
        others.waiting[0][1](Found(SMALL, False, "desktop"))
        await server.settle()
        assert (await told(server))["peers"] == {"others": {"blocks": 1, "bytes": 1024}}

    run(test)


def test_very_many_names_are_told_together() -> None:
    origins = Origins()
    for number in range(150):
        origins.came(f"peer {number}", 10)
    told: Any = origins.told(names=True)
    assert len(told["peers"]) == 101
    assert told["peers"]["others"] == {"blocks": 50, "bytes": 500}


def test_what_others_gave_and_is_being_kept_is_here() -> None:
    origins = Origins()
    origins.came("here", 10)
    assert (origins.here.blocks, origins.here.bytes, origins.peers) == (1, 10, {})


def test_what_seeds_gave_is_theirs() -> None:
    origins = Origins()
    origins.came(SEEDS, 10)
    assert (origins.seeds.blocks, origins.seeds.bytes) == (1, 10)
    assert (origins.here.blocks, origins.peers) == (0, {})


def test_another_format_is_not_acceptable() -> None:
    async def test() -> None:
        server = Server(MemoryStorage(), rights=ALL_RIGHTS)
        [answer] = await ask(server, request_bytes(Code.GET, [*PATH, (17, b"\x3c")]))
        assert answer.code == Code.NOT_ACCEPTABLE

    run(test)


def test_a_client_learns_what_came_over_its_own_connection() -> None:
    async def main() -> None:
        async with STORES["unix"]() as store:
            assert await ask_origins(store) is None  # type: ignore[arg-type]
            for block in (SMALL, LARGE):
                await store.put(reference_of(block), block)
            await asyncio.gather(
                store.get(reference_of(LARGE), BlockSize.LARGE),
                store.get(reference_of(SMALL), BlockSize.SMALL),
            )
            origins = await ask_origins(store)  # type: ignore[arg-type]
            assert origins is not None
            assert (origins.here, origins.put) == (Amount(2, 33792), Amount(2, 33792))
            assert not origins.peers
            assert await bytes_by_place([store]) == {"here": 33792}  # type: ignore[list-item]

    run_client(main)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"here": {"blocks": -1, "bytes": 0}, "peers": {}, "put": {"blocks": 0, "bytes": 0}}',
        b'{"here": {"blocks": 1, "bytes": true}, "peers": {}, "put": {"blocks": 0, "bytes": 0}}',
        b'{"here": {"blocks": 1, "bytes": 1e400}, "peers": {}, "put": {"blocks": 0, "bytes": 0}}',
        b'{"here": {"blocks": 1, "bytes": 1}, "peers": [], "put": {"blocks": 0, "bytes": 0}}',
        b"[" * 100_000,
        None,
    ],
)
def test_a_store_that_tells_nothing_or_nonsense_is_nothing_unusual(payload: bytes | None) -> None:
    def script(peer: Peer, request: Message) -> None:
        if payload is None:
            peer.send(Code.NOT_FOUND, request.token)
        else:
            peer.send(Code.CONTENT, request.token, payload=payload)

    async def main() -> None:
        async with fake_server(script) as server, RemoteStore(server.url) as store:
            await store.connect()
            assert await ask_origins(store) is None

    run_client(main)
