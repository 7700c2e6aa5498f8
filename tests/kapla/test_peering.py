"""Dialling real sockets: what a try meets, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from kapla.coap.frame import Code, format_message
from kapla.coap.peers import Peers
from kapla.coap.site import AiocoapLane
from kapla.coap.turns import Turns
from kapla.config import Config
from kapla.guests import Door
from kapla.identity.pair import KeyPair
from kapla.peer_config import PeerSettings
from kapla.peering import Peering
from kapla.storage.access import BlockAccess, Rights, Statistics
from kapla.storage.batching import BatchedStorage
from kapla.urls import parse_store_url
from tests.clocks import Clock, run_on_clock
from tests.kapla.coap.harness import MemoryStorage

CSM = format_message(Code.CSM)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _report() -> dict[str, object]:
    return {}


def serve(rights: Rights) -> tuple[BlockAccess, AiocoapLane]:
    access = BlockAccess(cast(BatchedStorage, MemoryStorage()), rights, Statistics())
    return access, AiocoapLane(access, _report)


class Daemon:
    """The part of a daemon that dials one peer."""

    def __init__(self, url: str) -> None:
        peers = (PeerSettings(parse_store_url(url)),)
        config = Config(store=Path("/nowhere"), listen=(), peers=peers)
        self.peering = Peering(
            config, cast(BatchedStorage, MemoryStorage()), serve, KeyPair.generate
        )
        self.reached: list[Peers] = []
        self.idle = asyncio.Event()

    def start(self) -> None:
        self.peering.start(self._connections)

    async def stop(self) -> None:
        await self.peering.stop()
        for peers in self.reached:
            peers.abort()
        while any(map(len, self.reached)):  # noqa: ASYNC110 - nobody waits for long
            await asyncio.sleep(0)

    def _connections(self, door: Door) -> Peers:
        self.reached.append(
            Peers(door.access, door.lane, Turns().line(), 9, self.idle.set, guests=door)
        )
        return self.reached[-1]

    def told(self) -> dict[str, Any]:
        [peer] = self.peering.report()
        return peer

    async def until(self, clock: Clock, condition: Callable[[dict[str, Any]], object]) -> Any:
        async def holds() -> dict[str, Any]:
            while not condition(self.told()):  # noqa: ASYNC110 - on a clock that is moved
                await asyncio.sleep(0.01)
            return self.told()

        return await clock.skip_until(holds(), 0.5)


@asynccontextmanager
async def dialling(answer: Serve) -> AsyncIterator[Daemon]:
    """A daemon that dials somebody who answers so."""

    async def ended(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(ended, "127.0.0.1", 0)
    daemon = Daemon(f"coap+tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    daemon.start()
    try:
        yield daemon
    finally:
        await daemon.stop()
        server.close()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    pass


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(CSM + format_message(Code.ABORT, payload=b"too many connections"))
    await reader.read()


async def speak_otherwise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
    await reader.read()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (say_nothing, "it does not say what it is"),
        (close, "it has ended the connection"),
        (refuse, "aborted by the peer: too many connections"),
        (speak_otherwise, ""),
    ],
)
def test_whoever_is_no_daemon_is_waited_for_and_it_is_told_why(answer: Serve, why: str) -> None:
    async def main(clock: Clock) -> None:
        async with dialling(answer) as daemon:
            told = await daemon.until(clock, lambda peer: peer["state"] == "waiting")
            assert why in told["why"]
            assert told["why"]
            assert (told["direction"], told["connections"], told["address"]) == (None, 0, None)

    run_on_clock(main)


def test_a_peer_that_greets_is_pinged_and_connected_until_it_goes() -> None:
    gone = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CSM)
        data = b""
        while b"\xe2" not in data:
            data = await reader.read(100)
        writer.write(format_message(Code.PONG))
        await gone.wait()

    async def main(clock: Clock) -> None:
        async with dialling(answer) as daemon:
            told = await daemon.until(clock, lambda peer: peer["rtt_s"] is not None)
            assert (told["state"], told["direction"]) == ("connected", "dialled")
            assert daemon.peering.table.askable() == daemon.peering.table.peers
            gone.set()
            told = await daemon.until(clock, lambda peer: peer["state"] != "connected")
            assert told["why"] == "it has ended the connection"
            assert daemon.peering.table.askable() == []

    run_on_clock(main)


def test_a_peer_that_falls_silent_is_given_up_and_dialled_anew() -> None:
    connections = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        writer.write(CSM)
        await reader.read()

    async def main(clock: Clock) -> None:
        async with dialling(answer) as daemon:
            told = await daemon.until(clock, lambda peer: peer["why"])
            assert told["why"] == "it gives no sign of life"
            await daemon.until(clock, lambda _: len(connections) >= 2)

    run_on_clock(main)
