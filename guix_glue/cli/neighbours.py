"""Servers of the local network, for `kapla substitute`: found by Guix, or by ourselves.

The Guix daemon hands on that it looks for them (`--discover`), and its `guix discover` notes them
in a file. Where there is none of that, `--discover` of ours looks around by itself. A query waits
for it, so that it is for a moment only; what comes later, until the search ends, is for the next
process, as all that was found.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Final

from eris.threads import in_thread, settle
from guix_glue.errors import GuixError, reason_of
from guix_glue.fetch.nearby import NotedServers, choose, discovered_by_guix, nearby_server
from guix_glue.local.environment import GuixEnvironment

if TYPE_CHECKING:
    from guix_glue.fetch.options import DaemonOptions
    from guix_glue.fetch.traces import Messages
    from guix_glue.servers.url import Server
    from kapla.lan.networks import IpNetwork
    from kapla.lan.service import Service

__all__ = ["with_nearby_servers"]

_log = logging.getLogger(__name__)

_FIRST_S: Final = 0.3
"""How long a query waits at most, once the network was asked."""
_ASKED_S: Final = 1.0
"""How long it waits at most for that: on a busy machine it is no matter of a moment."""
_OTHERS_S: Final = 0.15
"""How long for others when one was found: answers come at random within 120 ms (RFC 6762, 6)."""
_SEARCH_S: Final = 3.0


async def with_nearby_servers(
    named: list[Server],
    options: DaemonOptions,
    *,
    search: bool,
    cache: str | None,
    messages: Messages,
    stack: AsyncExitStack,
) -> list[Server]:
    """Servers that were found, and after them those that somebody named; never an error, nor long.

    `search` tells whether to look around where the daemon has nothing to hand on. What that finds
    is noted in the directory `cache`, if there is one; `stack` ends it.
    """
    found = _handed_on(messages) if options.discover else None
    if found is None and search:
        found = await _found_here(cache, messages, stack)
    return choose(found or (), named) + named


def _handed_on(messages: Messages) -> list[Server] | None:
    """What the daemon's `guix discover` has found; None if it has not begun."""
    try:
        return discovered_by_guix(GuixEnvironment.from_environ(os.environ).state_dir)
    except OSError as error:
        reason = error.strerror
    except GuixError as error:
        reason = str(error)
    messages.warn(f"what guix discover has found cannot be read: {reason}")
    return None


async def _found_here(cache: str | None, messages: Messages, stack: AsyncExitStack) -> list[Server]:
    noted = None if cache is None else NotedServers(cache)
    known = None if noted is None else await in_thread(noted.read)
    if known is not None and known.is_fresh:
        return list(known.servers)
    search = _Search(noted, messages.warn)
    stack.push_async_callback(search.end)
    return await search.first() if known is None else list(known.servers)


class _Search:
    """A look around the local network, in the background. What is found is noted in `noted`."""

    def __init__(self, noted: NotedServers | None, warn: Callable[[str], None]) -> None:
        self._noted = noted
        self._warn = warn
        self._found: dict[str, Server] = {}
        self._prefixes: tuple[IpNetwork, ...] = ()
        """Of this machine's networks."""
        self._asked = asyncio.Event()
        self._something = asyncio.Event()
        self._looking = asyncio.create_task(self._look())
        self._written: list[Server] | None = None
        self._writing: asyncio.Future[None] | None = None

    async def first(self) -> list[Server]:
        """What is found in a moment."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ASKED_S):
                await self._asked.wait()
            async with asyncio.timeout(_FIRST_S):
                await self._something.wait()
                await asyncio.sleep(_OTHERS_S)
        self._note()
        return list(self._found.values())

    async def end(self) -> None:
        """Look no more."""
        self._looking.cancel()
        await settle(self._looking)
        if self._writing is not None:
            await settle(self._writing)

    async def _look(self) -> None:
        try:
            await self._look_around()
        except Exception as error:
            # Whatever it is, there are the servers that somebody named.
            _log.debug("The local network was not looked at", exc_info=error)
            self._warn(f"servers of the local network are not found: {reason_of(error)}")
        finally:
            self._asked.set()
            self._something.set()

    async def _look_around(self) -> None:
        # It takes a tenth of a second to load, and nobody else needs it.
        await in_thread(_load)
        from kapla.lan.machine import prefixes_here
        from kapla.lan.neighbourhood import Neighbourhood
        from kapla.lan.service import GUIX_PUBLISH

        self._prefixes = prefixes_here()
        neighbourhood = Neighbourhood()
        try:
            await neighbourhood.start()
            neighbourhood.look_for([GUIX_PUBLISH], self._changed)
            self._asked.set()
            await asyncio.sleep(_FIRST_S)
            # At once, too: the daemon ends us without a word.
            self._note()
            await asyncio.sleep(_SEARCH_S - _FIRST_S)
            self._note()
        finally:
            await neighbourhood.stop()

    def _note(self) -> None:
        """Write what is found, if it is news; what is being written is done in a moment."""
        found = list(self._found.values())
        if self._noted is None or found == self._written:
            return
        if self._writing is None or self._writing.done():
            self._written = found
            self._writing = asyncio.ensure_future(in_thread(self._noted.write, choose(found, ())))

    def _changed(self, name: str, service: Service | None) -> None:
        self._found.pop(name, None)
        server = None if service is None else _server(service, self._prefixes)
        if server is not None:
            self._found[name] = server
            self._something.set()


def _load() -> None:
    import kapla.lan.neighbourhood  # noqa: F401


def _server(service: Service, prefixes: Sequence[IpNetwork]) -> Server | None:
    """The server that a service is, by the first of its addresses that can be: IPv4, as in Guix.

    It is on a network of ours: nobody can have root here ask whom he likes.
    """
    from kapla.lan.networks import is_in

    near = [address for address in service.addresses if is_in(address, prefixes)]
    for address in sorted(near, key=lambda one: ":" in one):
        if (server := nearby_server(address, service.port)) is not None:
            return server
    return None
