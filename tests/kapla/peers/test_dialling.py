"""Connections kept open: on a clock that goes on by itself, to peers that are told what to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from eris.errors import StoreUnavailable
from kapla.identity.key import PeerKey
from kapla.peer_config import PeerSettings
from kapla.peers.dialling import Dialler, Dialling, State
from kapla.peers.table import Direction, PeerTable
from kapla.urls import parse_store_url
from tests.clocks import run_without_waiting

LONG_S = 40_000.0


class Link:
    """A connection; `answers`: how many pings it answers."""

    def __init__(self, answers: int = 10**9) -> None:
        self.usable = True
        self.heard_at = now()
        self.pinged: list[float] = []
        self._answers = answers
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def ping(self) -> None:
        self.pinged.append(now())
        if len(self.pinged) <= self._answers:
            asyncio.get_running_loop().call_later(0.1, self.hear)

    def hear(self) -> None:
        self.heard_at = now()

    def give_up(self, reason: str) -> None:
        self.end(reason)

    def end(self, reason: str) -> None:
        self.usable = False
        if not self._ended.done():
            self._ended.set_result(reason)

    async def wait_closed(self) -> str:
        return await asyncio.shield(self._ended)


class Net:
    """Takes dials, and does with the next what was said; by default it refuses."""

    def __init__(self) -> None:
        self.dials: list[float] = []
        self.up = False
        self.make: Callable[[], Link] = Link
        self.links: list[Link] = []
        self.connected: list[Link] = []
        # In the middle: no jitter.
        self.dialler: Dialler[Link] = Dialler(
            "desktop", self.dial, self.connected.append, chance=lambda: 0.5
        )
        self.task = asyncio.ensure_future(self.dialler.run())

    async def dial(self) -> Link:
        self.dials.append(now())
        await asyncio.sleep(0)
        if not self.up:
            raise StoreUnavailable("connection refused")
        self.links.append(self.make())
        return self.links[-1]


def now() -> float:
    return asyncio.get_running_loop().time()


def play(main: Callable[[Net], Awaitable[None]]) -> None:
    """Run to the end, with a dialler that is stopped then."""

    async def run() -> None:
        net = Net()
        try:
            await main(net)
        finally:
            net.task.cancel()
            await asyncio.wait([net.task])
        assert net.task.cancelled()

    run_without_waiting(run)


def pauses(times: list[float]) -> list[float]:
    return [round(after - before, 3) for before, after in pairwise(times)]


def test_pauses_double_from_a_second_to_five_minutes() -> None:
    async def main(net: Net) -> None:
        await asyncio.sleep(2000)
        assert pauses(net.dials)[:11] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]

    play(main)


def test_pauses_are_of_different_length_for_each() -> None:
    async def main(net: Net) -> None:
        seen = {}
        for chance in (0.0, 1.0):
            tries: list[float] = []

            async def dial(tries: list[float] = tries) -> Link:
                tries.append(now())
                raise OSError("no route")

            def given(chance: float = chance) -> float:
                return chance

            dialler: Dialler[Link] = Dialler("x", dial, net.connected.append, chance=given)
            task = asyncio.ensure_future(dialler.run())
            await asyncio.sleep(10)
            task.cancel()
            seen[chance] = pauses(tries)[:3]
        assert seen == {0.0: [0.75, 1.5, 3.0], 1.0: [1.25, 2.5, 5.0]}

    play(main)


def test_what_is_lost_is_dialled_anew_after_a_second() -> None:
    async def main(net: Net) -> None:
        net.up = True
        await asyncio.sleep(LONG_S)
        assert len(net.dials) == 1
        lost_at = now()
        net.links[0].end("reset")
        await asyncio.sleep(5)
        assert net.connected == net.links
        assert len(net.links) == 2
        assert net.dials[-1] - lost_at == pytest.approx(1)

    play(main)


def test_who_takes_connections_only_to_close_them_is_dialled_less_and_less() -> None:
    async def main(net: Net) -> None:
        def close_at_once() -> Link:
            link = Link()
            link.end("not wanted")
            return link

        net.up, net.make = True, close_at_once
        await asyncio.sleep(20)
        assert pauses(net.dials) == [1, 2, 4, 8]

    play(main)


def test_it_tells_how_it_stands() -> None:
    async def main(net: Net) -> None:
        dialler = net.dialler
        assert dialler.state is State.CONNECTING
        await asyncio.sleep(0.5)
        assert (dialler.state, dialler.why) == (State.WAITING, "connection refused")
        assert dialler.next_try_at == pytest.approx(1.0)
        net.up = True
        await asyncio.sleep(1)
        assert (dialler.state, dialler.why, dialler.next_try_at) == (State.CONNECTED, None, None)
        net.up = False
        net.links[0].end("reset")
        await asyncio.sleep(0.5)
        assert (dialler.state, dialler.why) == (State.WAITING, "reset")

    play(main)


def test_the_log_tells_of_going_and_coming_not_of_tries(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def main(net: Net) -> None:
        await asyncio.sleep(LONG_S)
        assert len(net.dials) > 100
        net.up = True
        await asyncio.sleep(400)
        net.up = False
        net.links[0].end("reset")
        await asyncio.sleep(LONG_S)

    play(main)
    told = [record.message for record in caplog.records if record.name.startswith("kapla")]
    assert told == [
        "Peer desktop cannot be reached: connection refused",
        "Peer desktop is connected",
        "Peer desktop is gone: reset",
    ]


def test_a_quiet_connection_is_pinged_each_minute_and_kept() -> None:
    async def main(net: Net) -> None:
        net.up = True
        await asyncio.sleep(600)
        [link] = net.links
        assert len(link.pinged) == 9
        assert link.usable

    play(main)


def test_a_connection_with_traffic_is_not_pinged() -> None:
    async def main(net: Net) -> None:
        net.up = True
        for _ in range(30):
            await asyncio.sleep(50)
            net.links[0].hear()
        assert net.links[0].pinged == []

    play(main)


@pytest.mark.parametrize("answers", [0, 3])
def test_an_end_that_has_vanished_is_given_up_after_two_pings(answers: int) -> None:
    async def main(net: Net) -> None:
        net.up, net.make = True, lambda: Link(answers)
        while not net.links or net.links[0].usable:  # noqa: ASYNC110 - on a clock that moves
            await asyncio.sleep(0.1)
        assert len(net.links[0].pinged) == answers + 2
        assert now() == pytest.approx(60 * (answers + 3), abs=2)
        await asyncio.sleep(0.5)
        assert net.dialler.why == "it gives no sign of life"
        await asyncio.sleep(5)
        assert len(net.links) == 2

    play(main)


def test_whatever_a_try_meets_there_is_another(caplog: pytest.LogCaptureFixture) -> None:
    async def main(net: Net) -> None:
        def fail() -> Link:
            net.make = Link
            raise RuntimeError("a fault")

        net.up, net.make = True, fail
        await asyncio.sleep(5)
        assert len(net.links) == 1
        assert net.dialler.state is State.CONNECTED

    play(main)
    assert "Dialling failed" in caplog.text


def test_it_stops_at_once_whatever_is_under_way() -> None:
    async def main() -> None:
        forever = asyncio.Event()
        link = Link()

        async def dial(place: int) -> Link:
            if place == 0:
                await forever.wait()
            if place == 1:
                raise OSError("no route")
            return link

        url = "coap+tcp://host"
        named = [PeerSettings(url=parse_store_url(f"{url}{n}")) for n in range(3)]
        named.append(PeerSettings(key=PeerKey(bytes(32))))
        table: PeerTable[Link] = PeerTable(named)
        dialling = Dialling(table, lambda peer: dial(peer.number))
        dialling.start()
        await asyncio.sleep(100)
        states = [one.state if (one := dialling.of(peer)) else None for peer in table]
        assert states == [State.CONNECTING, State.WAITING, State.CONNECTED, None]
        assert table.peers[2].links == [(link, Direction.DIALLED)]
        begin = now()
        await dialling.stop()
        assert now() == begin
        # It is not for the dialling to end what is in use.
        assert link.usable
        assert table.askable() == []

    run_without_waiting(main)
