"""Announces a publisher on the local network, as `guix publish --advertise` does.

The names are those of Guix (guix/scripts/publish.scm and guix/avahi.scm): a service of the type
`_guix_publish._tcp` called `guix-publish-` and the name of the machine, with an empty TXT record,
on all interfaces. Whoever looks for it with `guix-daemon --discover`, or with Avahi, finds it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from guix_glue.errors import reason_of
from kapla.lan.service import GUIX_PUBLISH, Service

if TYPE_CHECKING:
    from kapla.lan.neighbourhood import Neighbourhood

__all__ = ["advertised", "service_of"]

_log = logging.getLogger(__name__)

_LONGEST_NAME: Final = 63
"""Bytes of the name of a service (RFC 6763, 4.1.1)."""
_AGAIN_S: Final = 60.0
_LOOK_S: Final = 2.0
"""How often it is looked whether the machine has other addresses."""
_FAREWELL_S: Final = 3.0


def service_of(sockets: Iterable[socket.socket], host: str) -> Service | None:
    """What is announced of these sockets of a machine; None if no other machine reaches them.

    Of sockets with several ports those count that have the port of the first.
    """
    listening = [name for one in sockets if (name := _reachable(one)) is not None]
    if not listening:
        return None
    port = listening[0][1]
    addresses = [address for address, other in listening if other == port]
    everywhere = any(ip_address(address).is_unspecified for address in addresses)
    return Service(
        GUIX_PUBLISH,
        _name(host),
        port,
        addresses=() if everywhere else tuple(dict.fromkeys(addresses)),
    )


def _reachable(one: socket.socket) -> tuple[str, int] | None:
    """The address and port of a socket that others can connect to."""
    if one.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    address, port = one.getsockname()[:2]
    address = address.partition("%")[0]
    return None if ip_address(address).is_loopback else (address, port)


def _name(host: str) -> str:
    # Not the domain: zeroconf takes each dot for the end of a label, and the name is to be one.
    name = f"guix-publish-{host.partition('.')[0]}".encode()[:_LONGEST_NAME]
    return name.decode(errors="ignore")


@asynccontextmanager
async def advertised(service: Service | None) -> AsyncIterator[None]:
    """Have a service announced meanwhile, as soon as there is a network; None: nothing is."""
    if service is None:
        yield
        return
    task = asyncio.create_task(_advertise(service))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _advertise(service: Service) -> None:
    """Announce it until cancelled, and again where that failed; the server goes on in any case."""
    complained = False
    while True:
        try:
            await _announce(service)
        except Exception as error:
            _log.debug("The service is not announced", exc_info=error)
            if not complained:
                _log.warning(
                    "Not advertised on the local network: %s; trying again", reason_of(error)
                )
                complained = True
        await asyncio.sleep(_AGAIN_S)


async def _announce(service: Service) -> None:
    # It takes a tenth of a second to load.
    from kapla.lan.neighbourhood import Neighbourhood, own_addresses

    neighbourhood = Neighbourhood()
    try:
        addresses = own_addresses()
        await neighbourhood.start()
        await neighbourhood.announce(service)
        _log.info(
            "Advertising %s%s", service.name, "" if addresses else ", once there is a network"
        )
        while True:
            await asyncio.sleep(_LOOK_S)
            if (now := own_addresses()) != addresses:
                addresses = now
                await neighbourhood.look_around()
    finally:
        await _stop(neighbourhood)


async def _stop(neighbourhood: Neighbourhood) -> None:
    """Take it back, so that nobody asks for it any more."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_FAREWELL_S):
            await neighbourhood.stop()
