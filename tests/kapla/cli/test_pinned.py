"""Storing under a pin that the store gives up on the way."""

from __future__ import annotations

import pytest

from eris import BlockSize, Encoder, ReadCapability
from eris.model import NULL_CONVERGENCE_SECRET, EncodedBlock
from kapla.cli.pinned import Pinning, Room, pinned
from kapla.cli.store import Store
from kapla.client import RemoteStore
from kapla.errors import PinLost
from kapla.pinning import PinNotWhole
from tests.kapla.fake_server import fake_server, until_lost
from tests.kapla.pin_server import PinServer
from tests.kapla.test_client import run


def encoded() -> tuple[ReadCapability, list[EncodedBlock]]:
    encoder = Encoder(BlockSize.SMALL, NULL_CONVERGENCE_SECRET)
    blocks = [*encoder.feed(bytes(range(256)) * 40), *encoder.finish()]
    return encoder.read_capability, blocks


class Work:
    """Puts blocks; the first time the store is restarted behind it, and loses one of them."""

    def __init__(self, pins: PinServer, *, restarts: bool = True) -> None:
        self.capability, self.blocks = encoded()
        self.lost = self.blocks[3][0]
        self.times = 0
        self._pins = pins
        self._restarts = restarts

    async def __call__(self, store: Store | Room) -> ReadCapability:
        assert isinstance(store, RemoteStore)
        for reference, block in self.blocks:
            if self.times == 0 or reference == self.lost:
                await store.put(reference, block)
        self.times += 1
        if self.times == 1:
            del self._pins.blocks[self.lost]
            if self._restarts:
                self._pins.open.clear()
                for peer in self._pins.by_peer:
                    peer.transport.abort()
                await until_lost(store)
            else:
                for held in self._pins.open.values():
                    held.lacking.add(self.lost)
                    held.there.discard(self.lost)
        return self.capability


@pytest.mark.parametrize("may_repeat", [True, False])
def test_what_a_restarted_store_lost_is_sent_again_or_told(may_repeat: bool) -> None:
    async def main() -> None:
        pins = PinServer()
        work = Work(pins)
        async with fake_server(pins) as server, RemoteStore(server.url) as store:

            async def encode() -> ReadCapability:
                return await pinned(
                    store, work, Pinning(), size=lambda room: None, may_repeat=may_repeat
                )

            if not may_repeat:
                with pytest.raises(PinLost, match="1 blocks are missing; run this again"):
                    await encode()
                assert not pins.pins
                return
            assert await encode() == work.capability
            assert work.times == 2
            (pin,) = pins.pins.values()
            assert pin.there == {reference for reference, _ in work.blocks}

    run(main)


def test_what_is_lacking_without_a_restart_is_an_error() -> None:
    async def main() -> None:
        pins = PinServer()
        work = Work(pins, restarts=False)
        async with fake_server(pins) as server, RemoteStore(server.url) as store:
            with pytest.raises(PinNotWhole):
                await pinned(store, work, Pinning(), size=lambda room: None, may_repeat=True)
            assert work.times == 1

    run(main)
