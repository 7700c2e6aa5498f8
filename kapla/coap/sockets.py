"""What is asked of sockets beyond what asyncio asks of them."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from contextlib import suppress
from typing import Final

__all__ = ["is_reset", "is_unix", "notice_death", "peer_uid", "spread_output", "widen_output"]

# SO_MAX_PACING_RATE of socket(7), which the module socket does not name.
_SO_MAX_PACING_RATE: Final = 47
# In bytes a second, the highest that is a limit: what counts is that there is one.
_FASTEST: Final = struct.pack("I", 0xFFFFFFFE)
# Linux takes it twice, since it counts what it needs beside the bytes.
_UNIX_BUFFER: Final = 512 * 1024
# `struct ucred` of unix(7): pid, uid, gid.
_CREDENTIALS: Final = struct.Struct("iII")


def spread_output(transport: asyncio.BaseTransport) -> None:
    """Let TCP spread what it sends over the round trip, at the rate that it has found by itself.

    Many small requests are answered in bursts. A burst that leaves all at once, after a pause in
    which the window has stayed open, is more than the queue of a slow router holds; what is lost is
    its end, and with nothing behind it TCP notices only by time-out. Linux spreads its packets when
    a socket has a limit of its rate. Elsewhere, and on Unix sockets, nothing happens.
    """
    connection = transport.get_extra_info("socket")
    if sys.platform == "linux" and connection is not None and connection.family != socket.AF_UNIX:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, _FASTEST)


def widen_output(transport: asyncio.BaseTransport) -> None:
    """Let a Unix socket hold as much as its other end reads at once.

    Else each end waits for the other three times as often. The system may allow less; TCP finds out
    by itself what is of use.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family == socket.AF_UNIX:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNIX_BUFFER)


def is_reset(transport: asyncio.BaseTransport) -> bool:
    """Whether the other end has broken the connection off. Asks the kernel, and reads nothing."""
    connection = transport.get_extra_info("socket")
    if connection is None:
        return False
    try:
        return bool(connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
    except OSError:
        return True


def notice_death(transport: asyncio.BaseTransport, idle_s: int, tries: int) -> None:
    """Have the kernel ask a silent TCP peer whether it is there, each time after `idle_s`.

    After so many tries without an answer the connection is lost.
    """
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family == socket.AF_UNIX:
        return
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, idle_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, tries)


def is_unix(transport: asyncio.BaseTransport) -> bool:
    """Whether the other end is on this machine, by a Unix socket."""
    connection = transport.get_extra_info("socket")
    return connection is not None and connection.family == socket.AF_UNIX


def peer_uid(transport: asyncio.BaseTransport) -> int | None:
    """Who connected to a Unix socket, as the kernel knows it; None on TCP."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family != socket.AF_UNIX:
        return None
    try:
        credentials = connection.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
    except OSError:
        return None
    uid: int = _CREDENTIALS.unpack(credentials)[1]
    return uid
