"""Other substitute servers, as a mirror asks them: for narinfos that are signed, and for nars.

Whatever they say is checked before it counts: a narinfo by its signature against the ACL, a nar by
the hash that the narinfo signs. So it does not matter who they are, only what they may cost: time,
size and redirects are bounded, and one that does not answer is left alone for a while.

A URL may hold a user name and a password: that very server is sent them, and nobody else sees them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from eris.errors import ErisError
from eris.threads import settle
from guix_glue.errors import FetchFailed
from guix_glue.formats.narinfo import DEFAULT_NARINFO_LIMITS, Narinfo, parse_narinfo
from guix_glue.publish.complaints import Complaints
from guix_glue.publish.outage import Outage
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
_PATIENCE_S: Final = 3.0
"""Until the next server is asked, too: clients wait for ten seconds."""
_COMPLAINTS: Final = 1000
_LONGEST_TTL_S: Final = 30 * 86_400


@dataclass(frozen=True, slots=True)
class UpstreamNarinfo:
    """A narinfo that is authorized, and the server it is from; `ttl_s` is how long it is good."""

    server: Server
    narinfo: Narinfo
    ttl_s: int


class Upstream:
    """Servers in order of preference. `close()` it.

    `age_s` is how long a narinfo is good when its server does not say.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        acl: Acl,
        store_dir: str,
        *,
        age_s: int = NARINFO_AGE_S,
    ) -> None:
        self._age_s = min(age_s, _LONGEST_TTL_S)
        self._servers = tuple(servers)
        self._acl = acl
        self._store_dir = store_dir
        self._outages = {server: Outage(_PAUSE_S) for server in self._servers}
        self._slow = {server: Outage(_PAUSE_S) for server in self._servers}
        self._complaints = Complaints(_log, length=_COMPLAINTS)
        # Nars take connections for long: look-ups do not wait for those.
        self._session = open_session()
        self._nars = open_session(silence_s=NAR_STALL_S, total_s=_LONGEST_S)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
        await self._nars.close()

    async def narinfo(self, hash_part: str) -> UpstreamNarinfo | None:
        """The first narinfo that is authorized; None if all servers say that there is none.

        Servers are asked in order, and the next one too when one takes its time.
        Raises: FetchFailed, if there is none, but not all servers could be asked.
        """
        waiting = [server for server in self._servers if not self._outages[server].left_s]
        failed = len(waiting) < len(self._servers)
        asking: dict[asyncio.Task[UpstreamNarinfo | None], Server] = {}
        try:
            while waiting or asking:
                if waiting:
                    server = waiting.pop(0)
                    asking[asyncio.create_task(self._try(server, hash_part))] = server
                    patience_s = 0.0 if self._slow[server].left_s else _PATIENCE_S
                done, _ = await asyncio.wait(
                    asking,
                    timeout=patience_s if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    del asking[task]
                    if isinstance(task.exception(), FetchFailed):
                        failed = True
                    elif (found := task.result()) is not None:
                        self._note_slow(asking.values())
                        return found
        finally:
            for task in asking:
                task.cancel()
            await settle(*asking)
        if failed:
            raise FetchFailed("not all upstream servers can be asked")
        return None

    def _note_slow(self, servers: Iterable[Server]) -> None:
        """Others were faster than these, by far: for a while nobody waits before asking those."""
        for server in servers:
            if not self._slow[server].left_s and self._slow[server].begin("slow"):
                _log.info("%s takes its time: the next server is asked, too", server.shown)

    async def _try(self, server: Server, hash_part: str) -> UpstreamNarinfo | None:
        """Ask one server; None if it has nothing that is authorized.

        Raises: FetchFailed, if it cannot be asked: that says nothing of the others.
        """
        key = f"{hash_part} {server.url}"
        try:
            found = await self._ask(server, hash_part)
        except InvalidServer as error:
            text = f"{server.shown} cannot be asked for {hash_part}: {error}"
            self._complaints.say(key, text)
            raise FetchFailed(text) from error
        except ErisError as error:
            text = f"{hash_part} from {server.shown} is not taken: {error}"
            self._complaints.say(key, text)
            return None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            # An answer, if a useless one, says that it is there.
            self._note_failure(
                server, reason_of(error), pause=not isinstance(error, aiohttp.ClientResponseError)
            )
            raise FetchFailed(f"{server.shown} cannot be asked") from error
        except Exception as error:
            _log.debug("A server cannot be asked", exc_info=True)
            self._note_failure(server, f"an answer that is not understood: {type(error).__name__}")
            raise FetchFailed(f"{server.shown} cannot be asked") from error
        if self._outages[server].end():
            _log.info("%s can be asked again", server.shown)
        return found

    def _note_failure(self, server: Server, reason: str, *, pause: bool = True) -> None:
        """Leave a server alone for a while, and say why: once, and again when it changes."""
        if self._outages[server].begin(reason, pause=pause):
            _log.warning("%s cannot be asked: %s", server.shown, reason)

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
        return UpstreamNarinfo(server, narinfo, self._ttl(reply.headers.get("Cache-Control", "")))

    def _ttl(self, cache_control: str) -> int:
        stated = max_age_s(cache_control)
        return self._age_s if stated is None else min(stated, _LONGEST_TTL_S)

    def nar_sources(self, server: Server, narinfo: Narinfo) -> list[NarSource]:
        """Where the nars are that a narinfo of the server names, in the order to try them."""
        # What was kept of it knows no password.
        known = next((one for one in self._servers if one.url == server.url), server)
        return nar_sources(known, narinfo.urls)

    def nar(self, source: NarSource, nar_size: int) -> AsyncGenerator[bytes, None]:
        """Fetch a nar, as it is sent; one that is sent without its length ends with its size.

        Raises, when iterated: FetchFailed.
        """
        return nar_pieces(self._nars, source, nar_size)


async def _read(reply: aiohttp.ClientResponse, limit: int) -> bytes:
    text = bytearray()
    async for piece in reply.content.iter_any():
        text += piece
        if len(text) > limit:
            raise FetchFailed(f"a narinfo of more than {limit} bytes")
    return bytes(text)
