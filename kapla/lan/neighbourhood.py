"""Announcing services on the local network, and looking for those of others, by zeroconf.

This is the one module that knows the library. What is found is anybody's word: how much of it is
kept is bounded here, whether it is believed is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from types import MappingProxyType
from typing import Final

import ifaddr
from zeroconf import InterfaceChoice, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from kapla.lan.service import Service

__all__ = ["Neighbourhood"]

_log = logging.getLogger(__name__)

_DOMAIN: Final = "local."
_MOST_FOUND: Final = 256
"""Services of each kind that are looked at."""
_MOST_ADDRESSES: Final = 8
_MOST_TEXT: Final = 1300
"""Bytes of a TXT record: section 6.2 wants them to fit into a packet."""
_ANSWER_MS: Final = 3000
_AT_ONCE: Final = 8
"""Services whose details are asked for at the same time."""

Changed = Callable[[str, Service | None], None]
"""Told the whole name of a service, and what it is now; None: it has gone."""


class Neighbourhood:
    """One program's part in multicast DNS. For the running event loop."""

    def __init__(self) -> None:
        self._zeroconf: AsyncZeroconf | None = None
        self._browsers: list[AsyncServiceBrowser] = []
        self._announced: list[AsyncServiceInfo] = []
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._found: set[str] = set()
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def start(self) -> None:
        """Listen on all networks there are.

        Raises: OSError, where there is none or no multicast.
        """
        self._zeroconf = AsyncZeroconf(interfaces=InterfaceChoice.All, ip_version=_ip_version())

    async def stop(self) -> None:
        """Take back what was announced, and look for nothing more."""
        for task in self._asking.values():
            task.cancel()
        if self._zeroconf is None:
            return
        for browser in self._browsers:
            await browser.async_cancel()
        with contextlib.suppress(OSError):
            await self._zeroconf.async_unregister_all_services()
        await self._zeroconf.async_close()
        self._zeroconf = None

    async def look_around(self) -> None:
        """Networks may have come or gone."""
        if self._zeroconf is not None:
            await self._zeroconf.async_update_interfaces(InterfaceChoice.All)

    async def announce(self, service: Service) -> None:
        """Tell others of a service. Under the same name as another it gets a number."""
        assert self._zeroconf is not None
        host = service.host or f"{socket.gethostname().partition('.')[0]}.{_DOMAIN}"
        info = AsyncServiceInfo(
            f"{service.kind}.{_DOMAIN}",
            f"{service.name}.{service.kind}.{_DOMAIN}",
            port=service.port,
            properties=dict(service.texts),
            server=host,
            parsed_addresses=list(service.addresses or _own_addresses()),
        )
        await self._zeroconf.async_register_service(info, allow_name_change=True)
        self._announced.append(info)

    def look_for(self, kinds: Iterable[str], changed: Changed) -> None:
        """Have `changed` told of all services of these kinds, from now on."""
        assert self._zeroconf is not None

        def note(
            zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
        ) -> None:
            self._note(zeroconf, service_type, name, state_change, changed)

        types = [f"{kind}.{_DOMAIN}" for kind in kinds]
        self._browsers.append(AsyncServiceBrowser(self._zeroconf.zeroconf, types, handlers=[note]))

    def _note(
        self,
        zeroconf: Zeroconf,
        service_type: str,
        name: str,
        change: ServiceStateChange,
        changed: Changed,
    ) -> None:
        if change is ServiceStateChange.Removed:
            if (asking := self._asking.pop(name, None)) is not None:
                asking.cancel()
            self._found.discard(name)
            changed(name, None)
            return
        if name in self._asking or (name not in self._found and len(self._found) >= _MOST_FOUND):
            return
        self._found.add(name)
        task = asyncio.ensure_future(self._ask(zeroconf, service_type, name, changed))
        self._asking[name] = task
        task.add_done_callback(lambda done: self._asked(name, done))

    def _asked(self, name: str, task: asyncio.Task[None]) -> None:
        if self._asking.get(name) is task:
            del self._asking[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("A service that was found is not used", exc_info=error)

    async def _ask(
        self, zeroconf: Zeroconf, service_type: str, name: str, changed: Changed
    ) -> None:
        info = AsyncServiceInfo(service_type, name)
        async with self._places:
            if await info.async_request(zeroconf, _ANSWER_MS) and info.port:
                changed(name, _service(info))


def _service(info: AsyncServiceInfo) -> Service:
    texts = {}
    if len(info.text) <= _MOST_TEXT:
        for key, value in info.decoded_properties.items():
            if value is not None:
                texts[key] = value
    return Service(
        info.type.removesuffix(f".{_DOMAIN}"),
        info.get_name(),
        info.port or 0,
        MappingProxyType(texts),
        tuple(info.parsed_scoped_addresses(IPVersion.All)[:_MOST_ADDRESSES]),
        info.server or "",
    )


def _own_addresses() -> list[str]:
    """All that others can reach this machine by."""
    found = [ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    texts = [ip.ip if isinstance(ip.ip, str) else ip.ip[0] for ip in found]
    return [text for text in texts if not ip_address(text).is_loopback]


def _ip_version() -> IPVersion:
    """What this machine's networks speak."""
    return IPVersion.All if any(":" in text for text in _own_addresses()) else IPVersion.V4Only
