"""A listener's handshakes: bounded in number and time, and out of the daemon's sight.

Whoever connects has shown nothing yet. So a connection counts among those of the listener only when
its handshake is done; before that it has a place among few, for some seconds. When these are all
taken somebody loses his: of those who have come from where the most are from, whoever has had it
longest. An honest peer needs a place for a few round trips, and strangers who do nothing with
theirs, or come again and again, cannot keep it out, unless they come from as many addresses.

A handshake takes the event loop as long as many blocks do, and is in nobody's turn. So a listener
pauses before it accepts more, as long as its handshakes took and as long again for what is about
them: others have half of the time.

`asyncio.Server` does neither: its handshakes have no bound, and each may take a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from kapla.identity.contexts import HANDSHAKE_TIMEOUT_S, SHUTDOWN_TIMEOUT_S, alert_of, handshakes_s

__all__ = ["MOST_HANDSHAKES", "TlsServer"]

_log = logging.getLogger(__name__)

MOST_HANDSHAKES: Final = 64
"""So many may be under way on one listener."""
# Accepted at once.
_AT_ONCE: Final = MOST_HANDSHAKES // 8
# Of these at most somebody loses his place: those have at least begun, and can be ended.
_BEGUN: Final = MOST_HANDSHAKES - 2 * _AT_ONCE
# Of an IPv6 address, in bytes: who has one has all that begin so.
_NETWORK: Final = 8
_MAPPED: Final = bytes(10) + b"\xff\xff"
# What handshakes may take before there is a pause, and how long it is in terms of what they took.
_SLICE_S: Final = 0.005
_REST: Final = 2
# What accepting fails for, as where no more files may be open, takes a while to pass.
_PAUSE_S: Final = 1.0
# How long whoever is refused may take to read why.
_FAREWELL_S: Final = 1.0


class TlsServer:
    """Accepts on sockets that listen; `connect` makes a protocol for each connection.

    Its `connection_made` is called when the handshake is done, and nothing if it never is.
    """

    def __init__(
        self,
        listening: Sequence[socket.socket],
        context: ssl.SSLContext,
        connect: Callable[[], asyncio.Protocol],
    ) -> None:
        self._listening = list(listening)
        self._context = context
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        # Where each has come from. Whoever has been here longest is first.
        self._handshakes: dict[asyncio.Task[None], bytes] = {}
        self._pause: asyncio.TimerHandle | None = None
        self._paused_for_s = 0.0
        for one in self._listening:
            one.setblocking(False)
        self._go_on()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """Those that listen, as of `asyncio.Server`."""
        return tuple(self._listening)

    def close(self) -> None:
        """Take no more connections; handshakes that are under way come to nothing."""
        self._stop_reading()
        if self._pause is not None:
            self._pause.cancel()
        for one in self._listening:
            one.close()
        self._listening.clear()
        for handshake in self._handshakes:
            handshake.cancel()

    def _go_on(self) -> None:
        self._pause = None
        for one in self._listening:
            self._loop.add_reader(one, self._accept, one)

    def _stop_reading(self) -> None:
        for one in self._listening:
            self._loop.remove_reader(one)

    def _accept(self, listening: socket.socket) -> None:
        if (took := handshakes_s(self._context) - self._paused_for_s) > _SLICE_S:
            self._paused_for_s += took
            self._rest(_REST * took)
            return
        for _ in range(_AT_ONCE):
            try:
                accepted, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.debug("Cannot accept connections: %s", error.strerror)
                self._rest(_PAUSE_S)
                return
            self._begin(accepted, _origin(address[0]))

    def _rest(self, pause_s: float) -> None:
        self._stop_reading()
        self._pause = self._loop.call_later(pause_s, self._go_on)

    def _begin(self, accepted: socket.socket, origin: bytes) -> None:
        if len(self._handshakes) >= MOST_HANDSHAKES:
            self._end_one()
        handshake = self._loop.create_task(self._shake_hands(accepted))
        self._handshakes[handshake] = origin
        handshake.add_done_callback(lambda done: self._handshakes.pop(done, None))

    def _end_one(self) -> None:
        counts = Counter(self._handshakes.values())
        # The first of those that are equal.
        one = max(islice(self._handshakes, _BEGUN), key=lambda task: counts[self._handshakes[task]])
        del self._handshakes[one]
        one.cancel()

    async def _shake_hands(self, accepted: socket.socket) -> None:
        try:
            kept = accepted.dup()
        except OSError as error:
            accepted.close()
            _log.debug("Cannot accept a connection: %s", error.strerror)
            return
        with kept:
            try:
                await self._loop.connect_accepted_socket(
                    self._connect,
                    accepted,
                    ssl=self._context,
                    ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                    ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S,
                )
            except OSError as error:
                # Not at a level that is on by default: strangers would write our log.
                _log.debug("A handshake failed: %s", error)
                await self._say_why(kept, alert_of(error))

    async def _say_why(self, kept: socket.socket, alert: bytes) -> None:
        """Tell the other end what was wrong, and let it read that before it is cut off."""
        if not alert:
            return
        with contextlib.suppress(OSError):
            async with asyncio.timeout(_FAREWELL_S):
                await self._loop.sock_sendall(kept, alert)
                kept.shutdown(socket.SHUT_WR)
                while await self._loop.sock_recv(kept, 4096):
                    pass


def _origin(host: str) -> bytes:
    """What is the same for all addresses that somebody has who has this one."""
    if ":" not in host:
        return socket.inet_pton(socket.AF_INET, host)
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    # On a socket for both families, as a service manager may open it, IPv4 looks so.
    return packed[12:] if packed.startswith(_MAPPED) else packed[:_NETWORK]
