"""TCP spreads what it sends, a Unix socket holds more: the reasons are in `kapla.coap.sockets`."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import pytest

from kapla.coap.sockets import spread_output, widen_output

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a setting of Linux")

SO_MAX_PACING_RATE = 47


async def limit_of(connection: socket.socket) -> int:
    """The limit of its rate that a socket has after `spread_output`."""
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=connection)
    spread_output(transport)
    limit = connection.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE) & 0xFFFFFFFF
    transport.close()
    return limit


def test_tcp_has_a_limit_that_limits_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = socket.create_connection(server.getsockname())
        limit = asyncio.run(limit_of(connection))
    # 2³² - 1 would be none, and nothing would be spread.
    assert 4_000_000_000 < limit < 0xFFFFFFFF


def test_a_unix_socket_is_left_alone(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(tmp_path / "s"))
        before = connection.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE) & 0xFFFFFFFF
        assert asyncio.run(limit_of(connection)) == before


async def buffers_of(left: socket.socket) -> tuple[int, int]:
    """What a socket may hold before and after `widen_output`."""
    left.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=left)
    before = left.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    widen_output(transport)
    after = left.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    transport.close()
    return before, after


def test_a_unix_socket_holds_more_and_tcp_what_it_finds_out() -> None:
    left, right = socket.socketpair(socket.AF_UNIX)
    with right:
        before, after = asyncio.run(buffers_of(left))
    assert after > before
    with socket.create_server(("127.0.0.1", 0)) as server:
        before, after = asyncio.run(buffers_of(socket.create_connection(server.getsockname())))
    assert after == before
