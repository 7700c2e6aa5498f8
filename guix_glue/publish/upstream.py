"""Other substitute servers, as a mirror asks them: for narinfos that are signed, and for nars.

Whatever they say is checked before it counts: a narinfo by its signature against the ACL, a nar by
the hash that the narinfo signs. So it does not matter who they are, only what they may cost: time,
size and redirects are bounded, and one that does not answer is left alone for a while.

A URL may hold a user name and a password: that very server is sent them, and nobody else sees them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from eris.errors import ErisError
from guix_glue.errors import FetchFailed
from guix_glue.formats.narinfo import DEFAULT_NARINFO_LIMITS, Narinfo, parse_narinfo
from guix_glue.servers.http import get, nar_pieces, open_session, reason_of
from guix_glue.servers.limits import NAR_STALL_S, NARINFO_AGE_S, max_age_s
from guix_glue.servers.nars import NarSource, nar_sources
from guix_glue.servers.url import InvalidServer, Server
from guix_glue.trust.acl import Acl
from guix_glue.trust.signature import verify_narinfo

__all__ = ["Upstream", "UpstreamNarinfo"]

_log = logging.getLogger(__name__)

_NARINFO_TIMEOUT_S: Final = 15.0
_LONGEST_S: Final = 6 * 3600.0
"""No server may keep a worker busy for longer, however slowly it sends."""
_PAUSE_S: Final = 60.0
_LONGEST_TTL_S: Final = 30 * 86_400


@dataclass(frozen=True, slots=True)
class UpstreamNarinfo:
    """A narinfo that is authorized, and the server it is from; `ttl_s` is how long it is good."""

    server: Server
    narinfo: Narinfo
    ttl_s: int


class Upstream:
    """Servers in order of preference. `close()` it."""

    def __init__(self, servers: Sequence[Server], acl: Acl, store_dir: str) -> None:
        self._servers = tuple(servers)
        self._acl = acl
        self._store_dir = store_dir
        self._absent_until: dict[str, float] = {}
        self._session = open_session(silence_s=NAR_STALL_S, total_s=_LONGEST_S)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def narinfo(self, hash_part: str) -> UpstreamNarinfo | None:
        """The first narinfo that is authorized; None if all servers say that there is none.

        Raises: FetchFailed, if there is none, but not all servers could be asked.
        """
        failed = False
        loop = asyncio.get_running_loop()
        for server in self._servers:
            if loop.time() < self._absent_until.get(server.url, 0.0):
                failed = True
                continue
            try:
                found = await self._ask(server, hash_part)
            except InvalidServer as error:
                _log.warning("%s cannot be asked for %s: %s", server.shown, hash_part, error)
                failed = True
                continue
            except ErisError as error:
                _log.info("%s from %s is not taken: %s", hash_part, server.shown, error)
                continue
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                _log.warning("%s cannot be asked: %s", server.shown, reason_of(error))
                failed = True
                if not isinstance(error, aiohttp.ClientResponseError):
                    self._absent_until[server.url] = loop.time() + _PAUSE_S
                continue
            if found is not None:
                return found
        if failed:
            raise FetchFailed("not all upstream servers can be asked")
        return None

    async def _ask(self, server: Server, hash_part: str) -> UpstreamNarinfo | None:
        url = f"{server.url}/{hash_part}.narinfo"
        async with (
            asyncio.timeout(_NARINFO_TIMEOUT_S),
            await get(self._session, url, server.authorization) as reply,
        ):
            if reply.status in (403, 404, 410):
                return None
            reply.raise_for_status()
            text = await _read(reply, DEFAULT_NARINFO_LIMITS.size)
        narinfo = parse_narinfo(text, store_dir=self._store_dir)
        if narinfo.item.hash_part != hash_part:
            raise FetchFailed("it is the narinfo of another item")
        verify_narinfo(narinfo, self._acl)
        return UpstreamNarinfo(server, narinfo, _ttl(reply.headers.get("Cache-Control", "")))

    def nar_sources(self, server: Server, narinfo: Narinfo) -> list[NarSource]:
        """Where the nars are that a narinfo of the server names, in the order to try them."""
        # What was kept of it knows no password.
        known = next((one for one in self._servers if one.url == server.url), server)
        return nar_sources(known, narinfo.urls)

    def nar(self, source: NarSource, nar_size: int) -> AsyncGenerator[bytes, None]:
        """Fetch a nar, as it is sent; one that is sent without its length ends with its size.

        Raises, when iterated: FetchFailed.
        """
        return nar_pieces(self._session, source, nar_size)


async def _read(reply: aiohttp.ClientResponse, limit: int) -> bytes:
    text = bytearray()
    async for piece in reply.content.iter_any():
        text += piece
        if len(text) > limit:
            raise FetchFailed(f"a narinfo of more than {limit} bytes")
    return bytes(text)


def _ttl(cache_control: str) -> int:
    stated = max_age_s(cache_control)
    return NARINFO_AGE_S if stated is None else min(stated, _LONGEST_TTL_S)
