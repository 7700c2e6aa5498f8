"""A daemon beside its client is told early what is wanted, however long its answers take."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from eris import BlockSize, reference_of
from kapla.client import RemoteStore
from kapla.coap.frame import Code, Message
from kapla.urls import parse_store_url
from tests.kapla.fake_server import CSM, FakeServer, Peer

# As many as a decode has under way.
WINDOW = 256


def test_what_a_decode_wants_next_is_asked_for_before_anything_comes() -> None:
    waiting: list[Message] = []

    def keep_waiting(peer: Peer, request: Message) -> None:
        if request.code == Code.GET:
            waiting.append(request)

    async def main() -> int:
        with tempfile.TemporaryDirectory(prefix="kapla-") as directory:
            path = Path(directory) / "s"
            server = FakeServer(keep_waiting, CSM)
            listening = await asyncio.get_running_loop().create_unix_server(
                lambda: Peer(server), path
            )
            async with listening, RemoteStore(parse_store_url(f"coap+unix://{path}")) as store:
                names = [reference_of(os.urandom(32)) for _ in range(WINDOW - 1)]
                gets = [asyncio.ensure_future(store.get(name, BlockSize.LARGE)) for name in names]
                async with asyncio.timeout(20):
                    await server.until(lambda: len(waiting) >= WINDOW - 1)
                for get in gets:
                    get.cancel()
                await asyncio.gather(*gets, return_exceptions=True)
                return len(waiting)

    assert asyncio.run(main()) == WINDOW - 1
