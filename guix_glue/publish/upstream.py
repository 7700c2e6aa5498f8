"""Other substitute servers, as a mirror asks them: for narinfos that are signed, and for nars.

Whatever they say is checked before it counts: a narinfo by its signature against the ACL, a nar by
the hash that the narinfo signs. So it does not matter who they are, only what they may cost: time,
size and redirects are bounded, and one that does not answer is left alone for a while.

A URL may hold a user name and a password: that very server is sent them, and nobody else sees them.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
import yarl

from eris.errors import ErisError
from guix_glue.errors import FetchFailed
from guix_glue.formats.narinfo import Narinfo, parse_narinfo
from guix_glue.servers.limits import CONNECT_TIMEOUT_S, NAR_STALL_S
from guix_glue.servers.url import InvalidServer, Server
from guix_glue.trust.acl import Acl
from guix_glue.trust.signature import verify_narinfo

__all__ = ["Upstream", "UpstreamNarinfo"]

_log = logging.getLogger(__name__)

_NARINFO_TIMEOUT_S: Final = 15.0
_LONGEST_S: Final = 6 * 3600.0
"""No server may keep a worker busy for longer, however slowly it sends."""
_PAUSE_S: Final = 60.0
_LARGEST_NARINFO: Final = 1024 * 1024
_REDIRECTS: Final = 5
_PIECE: Final = 256 * 1024
_DEFAULT_TTL_S: Final = 36 * 3600
"""What the stock client takes when a server does not say."""
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
        timeout = aiohttp.ClientTimeout(
            total=_LONGEST_S, sock_connect=CONNECT_TIMEOUT_S, sock_read=NAR_STALL_S
        )
        # Nars are hashed as they are sent: nothing is to be unpacked on the way.
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "Kapla", "Accept-Encoding": "identity"},
        )

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
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                _log.warning("%s cannot be asked: %s", server.shown, _reason(error))
                failed = True
                if not isinstance(error, aiohttp.ClientResponseError):
                    self._absent_until[server.url] = loop.time() + _PAUSE_S
                continue
            except ErisError as error:
                _log.info("%s from %s is not taken: %s", hash_part, server.shown, error)
                continue
            if found is not None:
                return found
        if failed:
            raise FetchFailed("not all upstream servers can be asked")
        return None

    async def _ask(self, server: Server, hash_part: str) -> UpstreamNarinfo | None:
        async with (
            asyncio.timeout(_NARINFO_TIMEOUT_S),
            self._get(server, f"{server.url}/{hash_part}.narinfo") as reply,
        ):
            if reply.status in (403, 404, 410):
                return None
            reply.raise_for_status()
            text = await _read(reply, _LARGEST_NARINFO)
        narinfo = parse_narinfo(text, store_dir=self._store_dir)
        if narinfo.item.hash_part != hash_part:
            raise FetchFailed("it is the narinfo of another item")
        verify_narinfo(narinfo, self._acl)
        return UpstreamNarinfo(server, narinfo, _ttl(reply.headers.get("Cache-Control", "")))

    @asynccontextmanager
    async def nar(
        self, server: Server, url: str
    ) -> AsyncGenerator[AsyncGenerator[bytes, None], None]:
        """Fetch a nar, as it is sent; `url` is as in a narinfo of the server.

        Raises: FetchFailed, InvalidServer.
        """
        try:
            async with self._get(server, server.locate(url)) as reply:
                if reply.status != 200:
                    raise FetchFailed(f"{server.shown}: status {reply.status}")
                yield reply.content.iter_chunked(_PIECE)  # type: ignore[misc]
        except InvalidServer:
            raise
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise FetchFailed(f"{server.shown}: {_reason(error)}") from error

    def _get(self, server: Server, url: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Ask for a full URL; aiohttp sends no password on to where another server redirects."""
        headers = {}
        for one in self._servers:
            if one.url == server.url and one.authorization is not None and one.owns(url):
                headers["Authorization"] = one.authorization
        return self._session.get(
            yarl.URL(url, encoded=True), headers=headers, max_redirects=_REDIRECTS
        )


def _reason(error: Exception) -> str:
    """What may be told of an error: in words of aiohttp's own there may be whole URLs."""
    if isinstance(error, aiohttp.ClientResponseError) and error.status:
        return f"status {error.status}"
    system = getattr(error, "os_error", error)
    return getattr(system, "strerror", None) or type(error).__name__


async def _read(reply: aiohttp.ClientResponse, limit: int) -> bytes:
    text = bytearray()
    async for piece in reply.content.iter_chunked(_PIECE):
        text += piece
        if len(text) > limit:
            raise FetchFailed(f"a narinfo of more than {limit} bytes")
    return bytes(text)


def _ttl(cache_control: str) -> int:
    match = re.search(r"\bmax-age=([0-9]{1,12})", cache_control)
    return min(int(match[1]), _LONGEST_TTL_S) if match else _DEFAULT_TTL_S
