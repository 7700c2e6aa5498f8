"""Tells when the networks of this machine change, and has the kernel find out who the gateway is.

The kernel tells of each change by netlink; what comes close together is looked at once. It knows
the link-layer address of a gateway when it has something to send there: so an empty datagram goes
to the discard port of one that it does not know, and now and then of one that it has known for
long, which may be another by now.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from kapla.lan.machine import look_at_networks, open_netlink
from kapla.lan.networks import Kind, Network

__all__ = ["NetworkWatch"]

_log = logging.getLogger(__name__)

# RTMGRP_ of LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE.
_GROUPS: Final = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400
_TOGETHER_S: Final = 0.05
"""A cable that is plugged in is told by a dozen messages."""
_BETWEEN_S: Final = 0.25
"""Strangers on the network can cause messages about neighbours as fast as they like."""
_MOMENT_S: Final = 0.1
_SWEEP_S: Final = 10.0
_LOOK_AGAIN: Final = 3
"""Sweeps until gateways that are known are asked too."""
_DISCARD: Final = 9
_MOST_AT_ONCE: Final = 64
"""Messages that are read in one turn; the rest comes in the next."""
_MOST_GATEWAYS: Final = 16


class NetworkWatch:
    """The networks, as they are. For the running event loop."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """`changed` is called when `networks` is another."""
        self.networks: tuple[Network, ...] = ()
        self._changed = changed
        self._kernel: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._looked_at = 0.0
        self._is_blind = False

    def start(self) -> None:
        """Look, and go on looking.

        Raises: OSError, where networks cannot be seen.
        """
        loop = asyncio.get_running_loop()
        # First: what changes while we look is told then.
        self._kernel = open_netlink(_GROUPS)
        self._kernel.setblocking(False)
        loop.add_reader(self._kernel.fileno(), self._read)
        self.networks = look_at_networks()
        # Gateways answer in a moment, and that is not to wait for the next look but one.
        self._looked_at = loop.time() - _BETWEEN_S
        self._ask_gateways(also_known=False)
        self._sweeping = asyncio.ensure_future(self._sweep())

    async def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sweeping is not None:
            self._sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeping
        if self._kernel is not None:
            asyncio.get_running_loop().remove_reader(self._kernel.fileno())
            self._kernel.close()
            self._kernel = None

    def look_now(self) -> None:
        """See to it that `networks` is of this moment."""
        if asyncio.get_running_loop().time() - self._looked_at >= _MOMENT_S:
            self._look()

    def _look(self) -> None:
        """None are there, where they cannot be seen."""
        before = self.networks
        try:
            self.networks = look_at_networks()
        except OSError as error:
            level = logging.DEBUG if self._is_blind else logging.WARNING
            _log.log(level, "This machine's networks cannot be seen: %s", error.strerror or error)
            self.networks = ()
            self._is_blind = True
        else:
            self._is_blind = False
        self._looked_at = asyncio.get_running_loop().time()
        if self.networks != before:
            self._ask_gateways(also_known=False)
            self._changed()

    def _read(self) -> None:
        """Something has changed: what, is seen by looking."""
        assert self._kernel is not None
        # OSError: there was more than fits, which is a change too; or nothing is left.
        with suppress(OSError):
            for _ in range(_MOST_AT_ONCE):
                self._kernel.recv(1 << 16)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            when = max(loop.time() + _TOGETHER_S, self._looked_at + _BETWEEN_S)
            self._timer = loop.call_at(when, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self._look()

    async def _sweep(self) -> None:
        count = 0
        while True:
            await asyncio.sleep(_SWEEP_S)
            count += 1
            self._look()
            self._ask_gateways(also_known=count % _LOOK_AGAIN == 0)

    def _ask_gateways(self, *, also_known: bool) -> None:
        """Give the kernel something to send to them."""
        asked = [
            (gateway.address, network.index)
            for network in self.networks
            if network.is_up and network.kind is not Kind.TUNNEL
            for gateway in network.gateways
            if also_known or gateway.mac is None
        ]
        for address, index in asked[:_MOST_GATEWAYS]:
            with suppress(OSError):
                _send_nothing(str(address), index)


def _send_nothing(address: str, index: int) -> None:
    """An empty datagram. Raises: OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sending:
        place = (address, _DISCARD, 0, index) if ":" in address else (address, _DISCARD)
        sending.sendto(b"", place)
