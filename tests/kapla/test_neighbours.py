"""The daemon's side of the local network, where that does not work at once."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from kapla.config import load_config
from kapla.lan import watching
from kapla.lan.networks import Kind, Network
from kapla.lan.watching import NetworkWatch
from kapla.neighbours import Neighbours
from tests.clocks import run_without_waiting
from tests.kapla.peers.test_found import Scene

if TYPE_CHECKING:
    from kapla.lan.neighbourhood import Neighbourhood

CABLE = Network("eth0", 2, Kind.WIRED)


class Held:
    """Multicast, of whose port another program lets go after some tries."""

    def __init__(self, tries: int) -> None:
        self.left = tries

    async def start(self) -> None:
        self.left -= 1
        if self.left:
            raise OSError("the port is taken")


def test_where_another_program_has_the_port_it_is_tried_again_each_minute(tmp_path: Path) -> None:
    config = load_config(store=str(tmp_path / "store"), environment={"KAPLA_CONFIG": "/dev/null"})
    held = Held(5)

    async def main() -> None:
        neighbours = Neighbours(config, Scene().found, None, frozenset())
        begin = asyncio.get_running_loop().time()
        await neighbours._until_there_is_multicast(cast("Neighbourhood", held))
        assert asyncio.get_running_loop().time() - begin == pytest.approx(240)

    run_without_waiting(main)
    assert held.left == 0


def test_the_answer_of_a_gateway_is_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, teller = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    seen = [CABLE]
    monkeypatch.setattr(watching, "open_netlink", lambda groups: kernel)
    monkeypatch.setattr(watching, "look_at_networks", lambda: tuple(seen))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        watch = NetworkWatch(changed.set)
        watch.start()
        # The gateway that was asked for has answered: some hundredths of a second are for more.
        seen[0] = replace(CABLE, name="eth1")
        begin = loop.time()
        teller.send(b"news")
        await changed.wait()
        assert loop.time() - begin < 0.1
        # What comes then may be strangers' doing, and is looked at more slowly.
        changed.clear()
        seen[0] = CABLE
        begin = loop.time()
        teller.send(b"news")
        await changed.wait()
        assert loop.time() - begin > 0.2
        await watch.stop()

    with teller:
        run_without_waiting(main)
