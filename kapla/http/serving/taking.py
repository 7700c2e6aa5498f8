"""What a client takes of what it is sent: the measure of who may stay.

A write that succeeds says nothing, as the kernel takes in for a client what that does not read.
What counts is what the client's side has acknowledged. Time counts against a client only while
there is something that it has not taken: whoever takes all there is begins anew, and is never slow
because we are.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios
from typing import Final

__all__ = ["Taking", "acknowledged", "is_owed"]

_BYTES_ACKED: Final = slice(120, 128)
"""Where `tcpi_bytes_acked` is in `struct tcp_info` of <linux/tcp.h>; since Linux 4.1."""
_INT: Final = struct.Struct("i")

_SHORTEST_S: Final = 5.0
"""A rate over less time says nothing."""


def acknowledged(connection: socket.socket) -> int | None:
    """How many bytes a TCP client has acknowledged so far; None for what cannot tell."""
    if connection.family == socket.AF_UNIX:
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.stop)
    except OSError:
        return None
    if len(info) < _BYTES_ACKED.stop:
        return None
    return int.from_bytes(info[_BYTES_ACKED], sys.byteorder)


def is_owed(connection: socket.socket) -> bool:
    """Whether the kernel keeps something that the client has not taken."""
    try:
        queued: int = _INT.unpack(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(_INT.size)))[0]
    except (OSError, ValueError):
        return False
    return queued > 0


class Taking:
    """How well one client takes; times in seconds, by the clock of whoever looks."""

    __slots__ = ("_before", "_since", "_taken", "owes", "quiet_since")

    def __init__(self, now: float) -> None:
        self._since = now
        self._before = 0
        self._taken = 0
        self.quiet_since = now
        """When it was last seen to have taken something, or to have nothing to take."""
        self.owes = False
        """Whether there was something to take at the last look."""

    def look(self, now: float, taken: int, *, owes: bool) -> None:
        """`taken` are the bytes since the connection began; `owes` says if there are more."""
        if taken > self._taken or not owes:
            self._taken, self.quiet_since = taken, now
        if not owes or not self.owes:
            self._since, self._before = now, taken
        self.owes = owes

    def rate(self, now: float) -> float:
        """Bytes a second since it began to have something to take, or since `is_enough`."""
        return (self._taken - self._before) / max(now - self._since, _SHORTEST_S)

    def is_fresh(self, now: float) -> bool:
        """Whether it is too early to tell a rate."""
        return now - self._since < _SHORTEST_S

    def is_enough(self, now: float, window_s: float, least_rate: float) -> bool:
        """Whether it took enough; asked at the end of each window, after which another begins."""
        if not self.owes or now - self._since < window_s:
            return True
        enough = self._taken - self._before >= least_rate * (now - self._since)
        self._since, self._before = now, self._taken
        return enough
