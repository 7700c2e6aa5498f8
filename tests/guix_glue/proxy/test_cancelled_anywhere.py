"""Clients come and go at any moment, and sources fail at any moment: nothing is left of them."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from eris.errors import BlockNotFound
from eris.model import BlockSize, Reference
from guix_glue.errors import FetchFailed
from guix_glue.proxy.nars import Nars
from tests.guix_glue.fetch.fakes import FakeServer
from tests.guix_glue.proxy.support import (
    STREAMING,
    Goods,
    drain,
    offer,
    proxying,
    run,
    take,
    vouch,
)

_CLIENTS = 12


class Moody:
    """A store that fails now and then."""

    def __init__(self, goods: Goods, choose: random.Random) -> None:
        self._blocks = goods.blocks
        self._choose = choose
        self.fails = True

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        await asyncio.sleep(0)
        if self.fails and self._choose.random() < 0.001:
            raise BlockNotFound(reference)
        return await self._blocks.get(reference, block_size)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_left(goods: Goods, server: FakeServer, tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    nar = goods.made.nar
    size = len(nar)
    vouched = [
        vouch(offer(server, goods.made, urn=goods.urn)),
        vouch(offer(server, goods.made, hint=goods.packed)),
        vouch(offer(server, goods.made, hint=goods.other_urn)),
        vouch(offer(server, goods.made)),
    ]
    # One nar on disk at a time, and two in memory.
    settings = replace(
        STREAMING,
        header_s=0.001,
        small=size if seed % 2 else 0,
        memory=2 * size,
        spool=size,
        at_once=3,
    )

    async def client(nars: Nars, turn: int) -> bytes | None:
        reply = await nars.reply(vouched[turn % len(vouched)])
        if reply is None or reply.status != 200:
            return None
        with suppress(FetchFailed):
            return await drain(reply)
        return None

    async def main() -> None:
        store = Moody(goods, choose)
        async with proxying(tmp_path, store, settings=settings) as nars:
            clients = [asyncio.create_task(client(nars, turn)) for turn in range(_CLIENTS)]
            for one in choose.sample(clients, _CLIENTS // 2):
                await asyncio.sleep(choose.choice((0, 0.001, 0.02)))
                one.cancel()
            for found in await asyncio.gather(*clients, return_exceptions=True):
                assert isinstance(found, asyncio.CancelledError) or found in (None, nar)
            # All turns are there again, and all room: there is no other way to this one.
            store.fails = False
            other = offer(server, goods.other, b"", hint=goods.other_urn)
            assert await take(nars, vouch(other)) == goods.other.nar

    run(main())
