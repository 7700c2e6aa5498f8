"""A daemon's peers for tests: real links over socket pairs to ends that have blocks in memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import cast

from eris import reference_of
from eris.errors import ErisError
from eris.model import Reference
from kapla.coap.beyond import Found
from kapla.coap.link import Link
from kapla.coap.peers import Peers
from kapla.coap.requester import Requester
from kapla.coap.site import AiocoapLane
from kapla.coap.turns import Turns
from kapla.peer_config import PeerSettings
from kapla.peers.beyond import PeerBlocks
from kapla.peers.keeping import KeepDone
from kapla.peers.line import Line
from kapla.peers.table import Peer, PeerTable
from kapla.storage.access import BlockAccess, Rights, Statistics
from kapla.storage.batching import BatchedStorage, GetDone, Wanted, always
from kapla.storage.lending import Lent
from kapla.urls import parse_store_url
from tests.clocks import run_without_waiting
from tests.kapla.coap.harness import MemoryStorage

__all__ = ["Asker", "Far", "Near", "Store", "block", "played", "until"]


def block(number: int, size: int = 1024) -> bytes:
    """A block of its own for each number."""
    return number.to_bytes(4, "big") * (size // 4)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for this: half a minute of a clock that does not wait."""
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("waited in vain")


async def _report() -> dict[str, object]:
    return {}


class Store:
    """Where the near end keeps what peers gave."""

    def __init__(self) -> None:
        self.kept: dict[Reference, tuple[bytes, bool]] = {}
        self.waiting: list[KeepDone] = []
        self.is_slow = False
        self.failure: ErisError | None = None

    def keep(
        self, blocks: Mapping[Reference, bytes], done: KeepDone, *, lend: bool, group: object
    ) -> None:
        if self.failure is None:
            self.kept.update((name, (data, lend)) for name, data in blocks.items())
        self.waiting.append(done)
        if not self.is_slow:
            self.answer()

    def answer(self) -> None:
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            done(self.failure)


class _Storage(MemoryStorage):
    """Remembers what peers asked for, who want to know what they may give on."""

    def __init__(self, blocks: Iterable[bytes], *, hold: bool) -> None:
        super().__init__(blocks, hold=hold)
        self.asked: list[Reference] = []

    def get_many(
        self,
        references: Sequence[Reference],
        done: GetDone,
        wanted: Wanted = always,
        group: object = None,
    ) -> None:
        if isinstance(references, Lent):
            self.asked += references
        super().get_many(references, done, wanted, group)


class Far:
    """A peer: the other end of a link. With `hold` its answers wait for `storage.deliver()`."""

    def __init__(self, blocks: Iterable[bytes] = (), *, hold: bool = False) -> None:
        self.storage = _Storage(blocks, hold=hold)
        access = BlockAccess(cast(BatchedStorage, self.storage), Rights(get=True), Statistics())
        lane, line = AiocoapLane(access, _report), Turns().line()
        self._peers = Peers(access, lane, line, 8, lambda: None)

    @property
    def asked(self) -> int:
        """How many blocks it was asked for."""
        return len(self.storage.asked)

    async def connect(self, near: Link) -> None:
        loop = asyncio.get_running_loop()
        mine, theirs = socket.socketpair()
        far = self._peers.connect()
        await loop.create_unix_connection(lambda: far, sock=mine)
        await loop.create_unix_connection(lambda: near, sock=theirs)


class Asker:
    """Asks for blocks, and counts how often it is told what became of each."""

    def __init__(self, blocks: PeerBlocks, asker: object = None) -> None:
        self._blocks = blocks
        self.asker = asker or object()
        self.told: dict[Reference, list[Found | ErisError]] = {}

    def ask(self, reference: Reference, hops: int = 4) -> None:
        told = self.told.setdefault(reference, [])
        self._blocks.fetch(reference, hops, self.asker, told.append)

    def ask_all(self, blocks: Iterable[bytes], hops: int = 4) -> None:
        for one in blocks:
            self.ask(reference_of(one), hops)

    async def all_told(self) -> None:
        await until(lambda: all(self.told.values()))

    def leave(self) -> None:
        self._blocks.leave(self.asker)

    def results(self) -> list[Found | ErisError]:
        """What it was told of each, which is once."""
        assert all(len(told) == 1 for told in self.told.values())
        return [told[0] for told in self.told.values()]

    @property
    def got(self) -> list[bytes]:
        return [one.block for one in self.results() if isinstance(one, Found)]

    @property
    def lacks(self) -> list[type[ErisError]]:
        return [type(one) for one in self.results() if isinstance(one, ErisError)]


class Near:
    """The near end: a table of so many peers, and the blocks of all of them."""

    def __init__(self, count: int) -> None:
        urls = [parse_store_url(f"coap+tcp://10.0.0.{number}") for number in range(1, count + 1)]
        self.table: PeerTable[Line] = PeerTable(PeerSettings(url) for url in urls)
        self.store = Store()
        self.blocks = PeerBlocks(self.table, self.store, 7)
        self._fars: list[Far] = []

    def asker(self, asker: object = None) -> Asker:
        return Asker(self.blocks, asker)

    async def reach(self, number: int, far: Far) -> Link:
        """Connect to a peer."""
        peer: Peer[Line] = self.table.peers[number]
        link = Link(None, lambda link: Requester(link, peer.name, 4096, 60.0))
        self._fars.append(far)
        await far.connect(link)
        self.table.reached(peer, link)
        link.closed.add_done_callback(lambda _: self.table.left(link))
        return link

    def left_behind(self) -> dict[str, int]:
        """What there still is of anybody who asked."""
        blocks = self.blocks
        return {
            name: count
            for name, count in {
                "sessions": len(blocks._sessions),
                "wishes": len(blocks._wishes),
                "passed on": len(blocks._passed_on),
                "watchers": sum(len(level._watchers) for level in blocks._levels.values()),
                "hungry": sum(len(level._hungry) for level in blocks._levels.values()),
                "owed": sum(peer.standing.owed for peer in self.table),
                "outstanding": sum(peer.standing.outstanding for peer in self.table),
            }.items()
            if count
        }

    async def close(self) -> None:
        self.blocks.stop()
        for peer in self.table:
            for link, _ in peer.links:
                assert isinstance(link, Link)
                link.abort()
                await asyncio.wait([link.closed])
        for far in self._fars:
            far.storage.deliver()


def played(count: int, main: Callable[[Near], Awaitable[None]]) -> float:
    """Run with a near end of so many peers, on a clock that does not wait."""

    async def whole() -> None:
        before = asyncio.all_tasks()
        near = Near(count)
        try:
            await main(near)
        finally:
            await near.close()
            await asyncio.sleep(0.1)
        assert asyncio.all_tasks() == before

    return run_without_waiting(whole)
