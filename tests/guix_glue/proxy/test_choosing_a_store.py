"""Which store a proxy is for stays so: it is not left to whoever answers first."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from tests.guix_glue.fetch.fakes import scripted_server
from tests.guix_glue.proxy.running import inside
from tests.guix_glue.proxy.support import run
from tests.integration.daemon import GUARD_S, wait_until


def telling(store_dir: str, when: threading.Event) -> Callable[[socket.socket], None]:
    """A server that says which store it is for when it is time."""
    body = f"StoreDir: {store_dir}\n"
    reply = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    def script(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            when.wait(GUARD_S)
            connection.sendall(reply)

    return script


def test_a_slow_server_comes_before_those_behind_it(tmp_path: Path) -> None:
    now, later = threading.Event(), threading.Event()
    now.set()

    def is_known() -> bool:
        return any((tmp_path / "cache/v1/cache-info").glob("*"))

    async def main(slow: str, quick: str) -> None:
        async with inside(tmp_path, [slow, quick], store_dir=None) as proxy:
            await asyncio.to_thread(wait_until, is_known, "the quick one to have told")
            told = asyncio.create_task(proxy.text("/nix-cache-info"))
            asyncio.get_running_loop().call_soon(later.set)
            assert "StoreDir: /nix/store\n" in await told
            assert [other.server.url for other in proxy.left_out] == [quick]
        # What is known from before will do, whoever is silent now.
        later.clear()
        async with inside(tmp_path, [f"{slow}/x", quick], store_dir=None) as proxy:
            assert "StoreDir: /other\n" in await proxy.text("/nix-cache-info")
        later.set()

    with (
        scripted_server(telling("/nix/store", later)) as slow,
        scripted_server(telling("/other", now)) as quick,
    ):
        run(main(slow, quick))
