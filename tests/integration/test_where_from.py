"""What people are told of where blocks are, and came from, by daemons that have peers."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from eris import BlockSize, ReadCapability
from kapla.client import RemoteStore
from kapla.origins import Amount, ask_origins
from kapla.urls import parse_store_url
from tests.integration.commands import Kapla
from tests.integration.daemon import Daemon
from tests.integration.test_peers import far_and_near
from tests.kapla.cli.test_summary import on_a_terminal
from tests.kapla.test_client import run

CONTENT = random.Random(6).randbytes(1_000_000)
BLOCKS = -(-len(CONTENT) // 32768) + 1


@pytest.fixture(scope="module")
def daemons() -> Iterator[tuple[Daemon, Daemon]]:
    with far_and_near() as both:
        yield both


@pytest.fixture
def users(daemons: tuple[Daemon, Daemon], tmp_path: Path) -> tuple[Kapla, Kapla]:
    """Somebody at the far daemon, and somebody at the near one."""
    return Kapla(tmp_path, daemons[0].url), Kapla(tmp_path, daemons[1].url)


def test_what_a_peer_has_is_told_apart_from_what_is_here(users: tuple[Kapla, Kapla]) -> None:
    far, near = users
    urn = far.out("encode", "--unique", "-", stdin=CONTENT)
    told = json.loads(near.out("explain", "--json", urn))
    assert told["whole"]
    assert (told["here"]["blocks"], told["peers"]["blocks"]) == (0, BLOCKS)
    # The root was read for that, and is here now; what is missing here is elsewhere.
    assert f"{BLOCKS - 2} missing" in near("verify", "--here", urn, code=4).stdout.decode()

    [line] = on_a_terminal(near, "decode", urn, "copy")
    assert "KiB from TCP 127.0.0.1:" in line
    assert "KiB from here" in line
    (near.home / "copy").unlink()
    [line] = on_a_terminal(near, "decode", urn, "copy")
    assert line.endswith("; all from here")
    near("verify", "--here", urn)


def test_an_encoder_is_told_what_is_stored_here_not_what_peers_have(
    users: tuple[Kapla, Kapla],
) -> None:
    far, near = users
    path = far.home / "file"
    path.write_bytes(CONTENT)
    urn = far.out("encode", path)
    assert near.out("encode", path) == urn
    near("verify", "--here", urn)


def test_what_came_is_counted_for_each_connection(users: tuple[Kapla, Kapla]) -> None:
    far, near = users
    root = ReadCapability.from_urn(far.out("encode", "--unique", "-", stdin=CONTENT)).root

    async def main() -> None:
        url = parse_store_url(near.url)
        async with RemoteStore(url) as first, RemoteStore(url) as second:
            await second.connect()
            for _ in range(2):
                await first.get(root.reference, BlockSize.LARGE)
            origins = await ask_origins(first)
            assert origins is not None
            assert origins.here == Amount(1, 32768)
            assert list(origins.peers.values()) == [Amount(1, 32768)]
            origins = await ask_origins(second)
            assert origins is not None
            assert (origins.here, origins.peers) == (Amount(), {})

    run(main)
