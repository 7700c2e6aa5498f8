"""Other substitute servers, as a mirror asks them: for narinfos that are signed, and for nars.

Whatever they say is checked before it counts: a narinfo by its signature against the ACL, a nar by
the hash that the narinfo signs. So it does not matter who they are, only what they may cost: time,
size and redirects are bounded, and one that does not answer is left alone for a while. What may be
answered in a moment is asked for a few times more, when there is no other server left.

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
from guix_glue.errors import FetchFailed, NoConnection, ProtocolError, TemporaryFailure
from guix_glue.formats.narinfo import DEFAULT_NARINFO_LIMITS, Narinfo, parse_narinfo
from guix_glue.servers.encodings import decode_body, encoding_name
from guix_glue.servers.http import HttpClient, network_failure
from guix_glue.servers.limits import NARINFO_AGE_S, max_age_s
from guix_glue.servers.nar_stream import nar_pieces
from guix_glue.servers.nars import NarEnd, NarSource, nar_sources
from guix_glue.servers.patience import Patience, first_success
from guix_glue.servers.proxies import NO_PROXIES, Proxies
from guix_glue.servers.url import InvalidServer, Server
from guix_glue.trust.acl import Acl
from guix_glue.trust.signature import verify_narinfo

__all__ = ["Upstream", "UpstreamNarinfo"]

_log = logging.getLogger(__name__)

_NARINFO_TIMEOUT_S: Final = 15.0
# A client waits for it.
_WAITING_S: Final = 5.0
_TRIES: Final = 2
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

    def __init__(
        self,
        servers: Sequence[Server],
        acl: Acl,
        store_dir: str,
        proxies: Proxies = NO_PROXIES,
    ) -> None:
        self._servers = tuple(servers)
        self._acl = acl
        self._store_dir = store_dir
        self._absent_until: dict[str, float] = {}
        self._client = HttpClient(proxies=proxies)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def narinfo(self, hash_part: str) -> UpstreamNarinfo | None:
        """The first narinfo that is authorized; None if all servers say that there is none.

        Raises: FetchFailed, if there is none, but not all servers could be asked.
        """
        asking = _Asking()
        found = await first_success(
            self._servers,
            lambda server: self._try(server, hash_part, asking),
            asyncio.sleep,
            Patience(_WAITING_S, _TRIES),
        )
        for server in asking.lost:
            self._absent_until[server.url] = asyncio.get_running_loop().time() + _PAUSE_S
        if found is None and asking.failed:
            raise FetchFailed("not all upstream servers can be asked")
        return found

    async def _try(self, server: Server, hash_part: str, asking: _Asking) -> UpstreamNarinfo | None:
        """Ask one server. Raises: TemporaryFailure, if it may have the narinfo in a moment."""
        if asyncio.get_running_loop().time() < self._absent_until.get(server.url, 0.0):
            asking.failed.add(server)
            return None
        try:
            found = await self._ask(server, hash_part, asking)
        except (FetchFailed, InvalidServer) as error:
            _log.warning("%s cannot be asked: %s", server.shown, error)
            asking.failed.add(server)
            if isinstance(error, TemporaryFailure) and not isinstance(error, NoConnection):
                raise
            return None
        except ErisError as error:
            _log.info("%s from %s is not taken: %s", hash_part, server.shown, error)
            found = None
        asking.failed.discard(server)
        return found

    async def _ask(self, server: Server, hash_part: str, asking: _Asking) -> UpstreamNarinfo | None:
        asking.lost.add(server)
        try:
            async with asyncio.timeout(_NARINFO_TIMEOUT_S):
                url = f"{server.url}/{hash_part}.narinfo"
                reply = await self._client.get(url, server.authorization)
                async with reply:
                    asking.lost.discard(server)
                    text = await self._text(reply)
        except TimeoutError:
            raise FetchFailed("the server does not answer in time") from None
        except InvalidServer:
            # It is there, and may do better with another narinfo.
            asking.lost.discard(server)
            raise
        if text is None:
            return None
        narinfo = parse_narinfo(text, store_dir=self._store_dir)
        if narinfo.item.hash_part != hash_part:
            raise ProtocolError("it is the narinfo of another item")
        verify_narinfo(narinfo, self._acl)
        return UpstreamNarinfo(server, narinfo, _ttl(reply.headers.get("Cache-Control", "")))

    async def _text(self, reply: aiohttp.ClientResponse) -> bytes | None:
        """The narinfo; None if the server has none."""
        if reply.status in (404, 410):
            return None
        if reply.status == 403 and self._client.answered_by(reply) is None:
            # How some say that they have it not.
            return None
        if reply.status != 200:
            raise self._client.failure_of(reply)
        encoding = encoding_name(", ".join(reply.headers.getall("Content-Encoding", ())))
        return decode_body(encoding, await _read(reply), DEFAULT_NARINFO_LIMITS.size)

    def nar_sources(self, server: Server, narinfo: Narinfo) -> list[NarSource]:
        """Where the nars are that a narinfo of the server names, in the order to try them."""
        # What was kept of it knows no password.
        known = next((one for one in self._servers if one.url == server.url), server)
        return nar_sources(known, narinfo.urls)

    def nar(self, source: NarSource, nar_size: int, end: NarEnd) -> AsyncGenerator[bytes, None]:
        """Fetch a nar, as it is sent; one that is sent without its length ends with its size.

        Raises, when iterated: FetchFailed.
        """
        return nar_pieces(self._client, source, nar_size, end)


class _Asking:
    """Which servers could not be asked for one narinfo, and of these, which are not there."""

    def __init__(self) -> None:
        self.failed: set[Server] = set()
        self.lost: set[Server] = set()


async def _read(reply: aiohttp.ClientResponse) -> bytes:
    text = bytearray()
    try:
        async for piece in reply.content.iter_any():
            text += piece
            if len(text) > DEFAULT_NARINFO_LIMITS.size:
                raise ProtocolError(f"a narinfo of more than {DEFAULT_NARINFO_LIMITS.size} bytes")
    except (aiohttp.ClientError, OSError) as error:
        raise network_failure(error) from error
    return bytes(text)


def _ttl(cache_control: str) -> int:
    stated = max_age_s(cache_control)
    return NARINFO_AGE_S if stated is None else min(stated, _LONGEST_TTL_S)
