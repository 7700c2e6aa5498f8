"""`kapla` and `kaplad` that get blocks over HTTP: from a daemon's door, and from a gateway.

The servers that are no daemons run in a thread of their own, since commands are waited for.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eris import BlockSize, ReadCapability
from kapla.client import RemoteStore
from kapla.http.wire.cid import parse_cid
from kapla.urls import parse_store_url
from tests.integration.commands import Kapla
from tests.integration.daemon import GUARD_S, Daemon, running_daemon
from tests.integration.test_peers import connected
from tests.integration.walkthrough import free_port
from tests.kapla.http.servers import Blocks, Gateway, Resolver, serving

CONTENT = os.urandom(200_000)


def kapla_at(tmp_path: Path, *urls: str) -> Kapla:
    return Kapla(tmp_path, " ".join(urls))


def door_of(daemon: Daemon) -> str:
    """The URL of its door."""
    daemon.wait_for_log("Listening on http://")
    found = re.search(r"Listening on (http://\S+)", daemon.log)
    assert found
    return found[1]


@contextmanager
def lending(tmp_path: Path) -> Iterator[tuple[Daemon, str, str]]:
    """A daemon with a door, the URL of that, and the URN of what is lent there."""
    with running_daemon(None, "--http", "127.0.0.1:0") as daemon:
        door = door_of(daemon)
        encode = kapla_at(tmp_path, daemon.url)
        urn = encode("encode", "--lend", "-", stdin=CONTENT).stdout.decode().strip()
        yield daemon, door, urn


@contextmanager
def in_a_thread(server: Resolver | Gateway) -> Iterator[int]:
    """Serve in a thread; gives the port."""
    ready, ports, ended = threading.Event(), [], asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with serving(server) as port:
            ports.append(port)
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(GUARD_S)
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(GUARD_S)
        loop.close()


def copy_blocks(daemon: Daemon, kapla: Kapla, urn: str, server: Blocks) -> None:
    """Give a server the blocks of a content, by way of a list of their CIDs."""
    cids = kapla("info", "--cids", urn).stdout.decode().split()

    async def copy() -> None:
        async with RemoteStore(parse_store_url(daemon.url)) as store:
            for cid in cids:
                server.add(await store.get(parse_cid(cid), BlockSize.LARGE))

    asyncio.run(copy())


def test_what_is_lent_is_read_through_the_door(tmp_path: Path) -> None:
    with lending(tmp_path) as (daemon, door, urn):
        kapla, gateway = kapla_at(tmp_path, door), kapla_at(tmp_path, f"ipfs+{door}")
        assert kapla("decode", urn, "-").stdout == CONTENT
        assert b"0 missing, 0 bad" in kapla("verify", urn).stdout
        assert gateway("decode", urn, "-").stdout == CONTENT
        blocks = json.loads(kapla("info", "--json", urn).stdout)["blocks"]
        cids = gateway("info", "--cids", urn).stdout.decode().split()
        assert len(cids) == len(set(cids)) == blocks
        assert parse_cid(cids[0]) == ReadCapability.from_urn(urn).root.reference
        assert json.loads(kapla("info", "--cids", "--json", urn).stdout) == {"cids": cids}
        # Not what is not lent.
        mine = kapla_at(tmp_path, daemon.url)("encode", "-", stdin=b"mine").stdout.decode().strip()
        assert b"does not have the first block" in kapla("decode", mine, "-", code=4).stderr
        # Nor anything but reading.
        assert b"HTTP 127.0.0.1" in kapla("encode", "-", code=6, stdin=b"x").stderr
        assert b"HTTP 127.0.0.1" in kapla("list-blocks", code=6).stderr
    assert b"Connection refused" in kapla("verify", urn, code=3).stderr


def test_a_list_reads_over_http_and_puts_elsewhere(tmp_path: Path) -> None:
    with lending(tmp_path) as (_, door, urn), running_daemon() as own:
        kapla = kapla_at(tmp_path, door, own.url)
        assert kapla("decode", urn, "-").stdout == CONTENT
        mine = kapla("encode", "-", stdin=b"mine").stdout.decode().strip()
        assert kapla_at(tmp_path, own.url)("decode", mine, "-").stdout == b"mine"


def test_a_daemon_asks_a_door_and_lends_what_is_lent_there(tmp_path: Path) -> None:
    with (
        lending(tmp_path) as (far, door, urn),
        running_daemon(
            None,
            "--peer",
            door,
            "--http",
            "127.0.0.1:0",
            "--peer",
            f"http://127.0.0.1:{free_port()}",
        ) as near,
    ):
        connected(near)
        kapla = kapla_at(tmp_path, near.url)
        assert kapla("decode", urn, "-").stdout == CONTENT
        lines = kapla("peers", "--json").stdout.splitlines()
        peer, other = map(json.loads, lines)
        assert peer["state"] == "connected"
        assert peer["bytes_in"] >= len(CONTENT)
        assert peer["rights"] == []
        assert other["state"] in ("waiting", "connecting")
        far.kill()
        # It is here now, and may be given on.
        assert kapla_at(tmp_path, door_of(near))("decode", urn, "-").stdout == CONTENT
        assert "Unclosed" not in near.log


def test_a_daemon_asks_a_gateway_and_keeps_what_it_gives_to_itself(tmp_path: Path) -> None:
    gateway = Gateway()
    with lending(tmp_path) as (far, _, urn):
        copy_blocks(far, kapla_at(tmp_path, far.url), urn, gateway)
    with (
        in_a_thread(gateway) as port,
        running_daemon(
            None, "--peer", f"ipfs+http://127.0.0.1:{port}", "--http", "127.0.0.1:0"
        ) as near,
    ):
        connected(near)
        assert kapla_at(tmp_path, near.url)("decode", urn, "-").stdout == CONTENT
        kapla_at(tmp_path, door_of(near))("decode", urn, "-", code=4)
        near.stop()
        assert "Unclosed" not in near.log
        assert "rror" not in near.log


def test_a_daemon_without_such_a_peer_loads_no_http() -> None:
    with running_daemon(installed=True) as daemon:
        maps = Path(f"/proc/{daemon.pid}/maps").read_text()
        # Its parser is a library of its own.
        assert "aiohttp" not in maps
