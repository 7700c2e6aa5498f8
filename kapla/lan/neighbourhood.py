"""Announcing services on the local network, and looking for those of others, by zeroconf.

This is the one module that knows the library. What is found is anybody's word: how much of it is
kept, and how long, is bounded here; whether it is believed is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import MappingProxyType
from typing import Final

import ifaddr
from zeroconf import (
    Error,
    IPVersion,
    ServiceStateChange,
    Zeroconf,
    current_time_millis,
)
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from kapla.lan.machine import prefixes_here
from kapla.lan.networks import IpNetwork, is_in
from kapla.lan.service import Service
from kapla.lan.throttle import Allowance, Throttled

__all__ = ["Neighbourhood", "host_name", "own_addresses"]

_log = logging.getLogger(__name__)
# It warns of each packet that it cannot send, which is usual for some addresses, or cannot read, of
# which strangers can make any number.
logging.getLogger("zeroconf").setLevel(logging.CRITICAL)

_DOMAIN: Final = "local."
_NOWHERE: Final = "127.0.0.1"
"""Where multicast goes while there is no network."""
_LONGEST_NAME: Final = 40
"""Of this machine, in what is announced: a number and more follow it, and a label has 63 bytes."""
_MOST_FOUND: Final = 256
"""Services, of all kinds together, that are looked at."""
_MOST_ADDRESSES: Final = 16
_MOST_TEXT: Final = 1300
"""Bytes of a TXT record: section 6.2 wants them to fit into a packet."""
_MOST_PAIRS: Final = 32
_ANSWER_MS: Final = 3000
_AT_ONCE: Final = 16
"""Services whose details are asked for at the same time."""
_AGAIN_S: Final = 60.0
"""How often it is looked whether a service is still there: its records last two minutes."""
_LASTS_S: Final = 120.0
_SRV: Final = 33
_IN: Final = 1
_MISSED: Final = 2
"""Times that nobody says where it is, after which it is gone."""
_ANNOUNCE_S: Final = 30.0
_GOODBYE_S: Final = 3.0

Changed = Callable[[str, Service | None], None]
"""Told the whole name of a service, and what it is now; None: it has gone."""


class _Found:
    """A service that is looked at."""

    __slots__ = ("asking", "changed", "is_stale", "missed", "service", "service_type")

    def __init__(self, service_type: str, changed: Changed) -> None:
        self.service_type = service_type
        self.changed = changed
        self.service: Service | None = None
        """What was told of it last."""
        self.asking: asyncio.Task[None] | None = None
        self.is_stale = False
        """It has changed while it was asked."""
        self.missed = 0


class Neighbourhood:
    """One program's part in multicast DNS. For the running event loop."""

    def __init__(self) -> None:
        self._zeroconf: AsyncZeroconf | None = None
        self._browsers: list[AsyncServiceBrowser] = []
        self._wanted: list[tuple[list[str], Changed]] = []
        self._where: dict[str | int, int] = {}
        """Where multicast is sent, and the number of the interface there."""
        self._announced: list[tuple[Service, AsyncServiceInfo]] = []
        self._found: dict[str, _Found] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._allowance = Allowance(time.monotonic)
        self._prefixes: tuple[IpNetwork, ...] = ()
        """Of our networks."""
        self._again: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen on all networks there are.

        Raises: OSError, where there is none or no multicast.
        """
        self._where = _interfaces()
        self._prefixes = prefixes_here()
        try:
            self._zeroconf = AsyncZeroconf(list(self._where), ip_version=_ip_version())
            await self._zeroconf.zeroconf.async_wait_for_start()
        except (RuntimeError, Error) as error:
            raise OSError(str(error)) from error
        self._throttle()
        self._again = asyncio.ensure_future(self._look_again())

    async def stop(self) -> None:
        """Take back what was announced, and look for nothing more."""
        if self._again is not None:
            self._again.cancel()
        for one in self._found.values():
            if one.asking is not None:
                one.asking.cancel()
        if self._zeroconf is None:
            return
        for browser in self._browsers:
            await browser.async_cancel()
        # The network may be gone, and nobody may listen: then nobody has to be told.
        with contextlib.suppress(OSError, Error, TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await self._zeroconf.async_unregister_all_services()
        await self._zeroconf.async_close()
        self._zeroconf = None

    async def look_around(self) -> None:
        """Networks may have come or gone: announce there, look there, with the addresses of now.

        Raises: OSError, where they cannot be seen.
        """
        if self._zeroconf is None:
            return
        # First: those who are there are asked next, and are to be heard.
        self._prefixes = prefixes_here()
        await self._go_where_networks_are(self._zeroconf)
        self._throttle()
        await self._browse_anew(self._zeroconf)
        for service, info in self._announced:
            addresses = _announced(service)
            if set(addresses) != set(info.parsed_addresses()):
                info.addresses = [ip_address(one).packed for one in addresses]
                with contextlib.suppress(OSError, Error):
                    await self._zeroconf.async_update_service(info)

    async def _go_where_networks_are(self, zeroconf: AsyncZeroconf) -> None:
        before, self._where = self._where, _interfaces()
        kept = [place for place, index in self._where.items() if before.get(place, index) == index]
        if len(kept) < len(self._where):
            # The same address on another interface: that has to be joined anew.
            await zeroconf.async_update_interfaces(kept or [_NOWHERE], _ip_version())
        await zeroconf.async_update_interfaces(list(self._where), _ip_version())

    async def _browse_anew(self, zeroconf: AsyncZeroconf) -> None:
        """Ask who is there: others announce themselves only when they come."""
        before, self._browsers = self._browsers, []
        for browser in before:
            await browser.async_cancel()
        for types, changed in self._wanted:
            self._browse(zeroconf, types, changed)

    async def announce(self, service: Service) -> None:
        """Tell others of a service. Under the same name as another it gets a number.

        Raises: OSError, if it cannot be.
        """
        assert self._zeroconf is not None
        info = AsyncServiceInfo(
            f"{service.kind}.{_DOMAIN}",
            f"{service.name}.{service.kind}.{_DOMAIN}",
            port=service.port,
            properties=dict(service.texts),
            server=service.host or f"{host_name()}.{_DOMAIN}",
            parsed_addresses=_announced(service),
        )
        # First: what we hear of ourselves is not found.
        self._announced.append((service, info))
        try:
            async with asyncio.timeout(_ANNOUNCE_S):
                # Not `strict`: Guix's kind of service has an underscore where RFC 6335 wants none.
                await self._zeroconf.async_register_service(
                    info, allow_name_change=True, strict=False
                )
        except (Error, TimeoutError) as error:
            raise OSError(str(error) or "nobody could be told in time") from error

    def look_for(self, kinds: Iterable[str], changed: Changed) -> None:
        """Have `changed` told of all services of these kinds, from now on, but for our own."""
        assert self._zeroconf is not None
        types = [f"{kind}.{_DOMAIN}" for kind in kinds]
        self._wanted.append((types, changed))
        self._browse(self._zeroconf, types, changed)

    def _browse(self, zeroconf: AsyncZeroconf, types: list[str], changed: Changed) -> None:
        def note(
            zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
        ) -> None:
            if state_change is ServiceStateChange.Removed:
                self._forget(name)
            else:
                self._note(service_type, name, changed)

        self._browsers.append(AsyncServiceBrowser(zeroconf.zeroconf, types, handlers=[note]))

    def _note(self, service_type: str, name: str, changed: Changed) -> None:
        """There is one, or it is another than it was."""
        if any(info.name == name for _, info in self._announced):
            return
        one = self._found.get(name)
        if one is None:
            if len(self._found) >= _MOST_FOUND:
                return
            one = self._found[name] = _Found(service_type, changed)
        if one.asking is not None:
            one.is_stale = True
            return
        self._ask(name, one)

    def _ask(self, name: str, one: _Found) -> None:
        one.is_stale = False
        one.asking = asyncio.ensure_future(self._look_at(name, one))
        one.asking.add_done_callback(lambda task: self._asked(name, one, task))

    def _asked(self, name: str, one: _Found, task: asyncio.Task[None]) -> None:
        one.asking = None
        if task.cancelled() or self._found.get(name) is not one:
            return
        if (error := task.exception()) is not None:
            # What others send may be anything, and the library does not like all of it.
            _log.debug("A service that was found is not used", exc_info=error)
            one.missed = _MISSED
        if one.missed >= _MISSED:
            self._forget(name)
        elif one.is_stale:
            self._ask(name, one)

    async def _look_at(self, name: str, one: _Found) -> None:
        """Ask what it is, and tell that if it is news."""
        assert self._zeroconf is not None
        info = AsyncServiceInfo(one.service_type, name)
        async with self._places:
            _drop_what_is_old(self._zeroconf.zeroconf, name)
            is_there = await info.async_request(self._zeroconf.zeroconf, _ANSWER_MS)
        if not is_there or not info.port:
            one.missed += 1
            return
        one.missed = 0
        service = _service(info)
        if service != one.service and self._found.get(name) is one:
            one.service = service
            one.changed(name, service)

    async def _look_again(self) -> None:
        """Those that went without a word are noticed, however long they said to last."""
        while True:
            await asyncio.sleep(_AGAIN_S)
            for name, one in list(self._found.items()):
                if one.asking is None:
                    self._ask(name, one)

    def _forget(self, name: str) -> None:
        one = self._found.pop(name, None)
        if one is None:
            return
        if one.asking is not None:
            one.asking.cancel()
        if one.service is not None:
            one.changed(name, None)

    def _throttle(self) -> None:
        """No socket is to take all of our time."""
        assert self._zeroconf is not None
        for reader in self._zeroconf.zeroconf.engine.readers:
            transport = reader.transport
            inner = transport.get_protocol()
            if not isinstance(inner, Throttled):
                transport.set_protocol(Throttled(inner, self._allowance, self._is_near))

    def _is_near(self, text: str) -> bool:
        return is_in(text, self._prefixes)


def _drop_what_is_old(zeroconf: Zeroconf, name: str) -> None:
    """Where a service is counts for two minutes, as section 10 wants it, whatever its record says.

    Without it the library asks again.
    """
    records = zeroconf.cache.async_all_by_details(name, _SRV, _IN)
    oldest = current_time_millis() - 1000 * _LASTS_S
    zeroconf.cache.async_remove_records([one for one in records if one.created < oldest])


def host_name() -> str:
    """A name for this machine that no other has at the same time.

    Two of the same name that start together would take each other's for their own.
    """
    own = socket.gethostname().partition(".")[0]
    kept = "".join(c for c in own if c.isascii() and (c.isalnum() or c == "-")).strip("-")
    return f"{kept[:_LONGEST_NAME] or 'kapla'}-{secrets.token_hex(3)}"


def own_addresses() -> list[str]:
    """All that others on the network can reach this machine by."""
    found = [ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    texts = [ip.ip if isinstance(ip.ip, str) else ip.ip[0] for ip in found]
    told = [text for text in texts if not ip_address(text).is_loopback]
    # IPv4 first: there are few of them.
    return sorted(dict.fromkeys(told), key=_by_use)[:_MOST_ADDRESSES]


def _announced(service: Service) -> list[str]:
    """The addresses that are told of a service."""
    given, own = set(service.addresses), own_addresses()
    if not given:
        return own
    of_families = [one for one in own if ("::" if ":" in one else "0.0.0.0") in given]
    return list(dict.fromkeys([*of_families, *(given - {"::", "0.0.0.0"})]))


def _by_use(text: str) -> tuple[int, bool]:
    address: IPv4Address | IPv6Address = ip_address(text)
    return address.version, address.is_link_local


def _service(info: AsyncServiceInfo) -> Service:
    return Service(
        info.type.removesuffix(f".{_DOMAIN}"),
        info.get_name(),
        info.port or 0,
        MappingProxyType(_texts(info)),
        tuple(info.parsed_scoped_addresses(IPVersion.All)[:_MOST_ADDRESSES]),
        info.server or "",
    )


def _texts(info: AsyncServiceInfo) -> dict[str, str]:
    if len(info.text) > _MOST_TEXT:
        return {}
    told = list(info.decoded_properties.items())[:_MOST_PAIRS]
    return {key: value for key, value in told if value is not None}


def _interfaces() -> dict[str | int, int]:
    """Where multicast is sent, IPv4 addresses and numbers of interfaces with IPv6; and on which.

    Not to this machine's own, unless there is no other: the others bring it to us as well.
    """
    found: dict[str | int, int] = {}
    for adapter in ifaddr.get_adapters():
        for one in adapter.ips:
            text = one.ip if isinstance(one.ip, str) else one.ip[0]
            index = adapter.index
            if index is not None and not ip_address(text).is_loopback:
                found[text if isinstance(one.ip, str) else index] = index
    return found or {_NOWHERE: 0}


def _ip_version() -> IPVersion:
    """What this machine's networks speak."""
    return IPVersion.All if any(":" in text for text in own_addresses()) else IPVersion.V4Only
