"""What a URL says of TLS, over real sockets: who is met, and what is shown."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kapla import tls
from kapla.errors import ConfigError
from kapla.identity.contexts import peer_key, server_context
from kapla.identity.failures import WrongKey
from kapla.identity.key import PeerKey
from kapla.identity.pair import KeyPair, load_or_make
from kapla.urls import parse_store_url

SERVER = KeyPair.generate()


async def seen_by_server(url: str, pair: KeyPair | None = None) -> PeerKey | None:
    """Whom a server sees that is asked by this URL; `PORT` is its port."""
    loop = asyncio.get_running_loop()
    seen: asyncio.Future[PeerKey | None] = loop.create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set_result(peer_key(writer.transport))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context(SERVER, None))
    port = server.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(30):
            parsed = parse_store_url(url.replace("PORT", str(port)))
            await tls.connect(parsed, asyncio.Protocol, pair=pair)
            return await seen
    finally:
        server.close()


def test_nothing_is_shown_unless_told() -> None:
    url = f"coaps+tcp://127.0.0.1:PORT#{SERVER.public}"
    assert asyncio.run(seen_by_server(url)) is None


def test_who_we_are_may_be_told_by_the_program_or_by_the_url(tmp_path: Path) -> None:
    pair, file = KeyPair.generate(), tmp_path / "me.pem"
    url = f"coaps+tcp://127.0.0.1:PORT#{SERVER.public}"
    assert asyncio.run(seen_by_server(url, pair)) == pair.public
    named = load_or_make(file).public
    url = f"coaps+tcp://127.0.0.1:PORT?key={file}#{SERVER.public}"
    assert asyncio.run(seen_by_server(url)) == named
    assert asyncio.run(seen_by_server(url, pair)) == named


def test_a_key_pair_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    url = f"coaps+tcp://127.0.0.1:PORT?key={tmp_path}/none#{SERVER.public}"
    with pytest.raises(ConfigError, match="cannot use the key pair"):
        asyncio.run(seen_by_server(url))
    assert list(tmp_path.iterdir()) == []


def test_somebody_else_is_not_met() -> None:
    other = KeyPair.generate().public
    with pytest.raises(WrongKey, match=str(SERVER.public)):
        asyncio.run(seen_by_server(f"coaps+tcp://127.0.0.1:PORT#{other}", SERVER))
