"""Other substitute servers, as a mirror or a proxy asks them: for signed narinfos, and for nars.

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
from guix_glue.errors import FetchFailed, NoConnection, ProtocolError, TemporaryFailure
from guix_glue.formats.narinfo import DEFAULT_NARINFO_LIMITS, Narinfo, parse_narinfo
from guix_glue.servers.complaints import Complaints
from guix_glue.servers.encodings import decode_body, encoding_name
from guix_glue.servers.http import HttpClient, network_failure
from guix_glue.servers.limits import NARINFO_AGE_S, max_age_s
from guix_glue.servers.nar_stream import nar_pieces
from guix_glue.servers.nars import NarEnd, NarSource, nar_sources
from guix_glue.servers.outage import Outage
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
        proxies: Proxies = NO_PROXIES,
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
        self._client = HttpClient(proxies=proxies)
        self._nars = HttpClient(proxies=proxies)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()
        await self._nars.close()

    async def narinfo(self, hash_part: str) -> UpstreamNarinfo | None:
        """The first narinfo that is authorized; None if all servers say that there is none.

        Servers are asked in order, and the next one too when one takes its time. Those that may do
        better in a moment are asked again, when there is no other.
        Raises: FetchFailed, if there is none, but not all servers could be asked.
        """
        there = [server for server in self._servers if not self._outages[server].left_s]
        asking = _Asking(hash_part, there)
        asking.failed.update(set(self._servers) - set(there))
        patience = Patience(_WAITING_S, _TRIES)
        found = await first_success((asking,), self._ask_all, asyncio.sleep, patience)
        if found is None and asking.failed:
            raise FetchFailed("not all upstream servers can be asked")
        return found

    async def _ask_all(self, asking: _Asking) -> UpstreamNarinfo | None:
        """Ask the servers that are left to ask. Raises: TemporaryFailure, if some are then."""
        tasks: dict[asyncio.Task[UpstreamNarinfo | None], Server] = {}
        waiting, asking.servers = asking.servers, []
        pauses: list[float] = []
        try:
            while waiting or tasks:
                if waiting:
                    server = waiting.pop(0)
                    tasks[asyncio.create_task(self._try(server, asking.hash_part))] = server
                    patience_s = 0.0 if self._slow[server].left_s else _PATIENCE_S
                done, _ = await asyncio.wait(
                    tasks,
                    timeout=patience_s if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    server = tasks.pop(task)
                    if isinstance(error := task.exception(), FetchFailed):
                        asking.failed.add(server)
                        if isinstance(error, TemporaryFailure):
                            asking.servers.append(server)
                            pauses.append(error.pause_s or 0.0)
                    elif (found := task.result()) is not None:
                        self._note_slow(tasks.values())
                        return found
                    else:
                        asking.failed.discard(server)
        finally:
            for task in tasks:
                task.cancel()
            await settle(*tasks)
        if asking.servers:
            raise TemporaryFailure("some may do better in a moment", min(pauses))
        return None

    def _note_slow(self, servers: Iterable[Server]) -> None:
        """Others were faster than these, by far: for a while nobody waits before asking those."""
        for server in servers:
            if not self._slow[server].left_s and self._slow[server].begin("slow"):
                _log.info("%s takes its time: the next server is asked, too", server.shown)

    async def _try(self, server: Server, hash_part: str) -> UpstreamNarinfo | None:
        """Ask one server; None if it has nothing that is authorized.

        Raises: FetchFailed, if it cannot be asked: that says nothing of the others;
        TemporaryFailure, if it may do better in a moment.
        """
        key = f"{hash_part} {server.url}"
        heard = asyncio.Event()
        try:
            found = await self._ask(server, hash_part, heard)
        except InvalidServer as error:
            text = f"{server.shown} cannot be asked for {hash_part}: {error}"
            self._complaints.say(key, text)
            raise FetchFailed(text) from error
        except FetchFailed as error:
            self._note_failure(server, str(error), heard)
            if isinstance(error, TemporaryFailure) and not isinstance(error, NoConnection):
                raise
            raise FetchFailed(f"{server.shown} cannot be asked") from error
        except ErisError as error:
            text = f"{hash_part} from {server.shown} is not taken: {error}"
            self._complaints.say(key, text)
            return None
        except Exception as error:
            _log.debug("A server cannot be asked", exc_info=True)
            reason = f"an answer that is not understood: {type(error).__name__}"
            self._note_failure(server, reason, heard)
            raise FetchFailed(f"{server.shown} cannot be asked") from error
        if self._outages[server].end():
            _log.info("%s can be asked again", server.shown)
        return found

    def _note_failure(self, server: Server, reason: str, heard: asyncio.Event) -> None:
        """Leave a server alone for a while, and say why: once, and again when it changes.

        An answer, if a useless one, says that it is there: only what was asked for is not to be
        had, and other items may be.
        """
        text = f"{server.shown} cannot be asked: {reason}"
        if heard.is_set():
            self._complaints.say(f"{server.url} {reason}", text)
        elif self._outages[server].begin(reason):
            _log.warning("%s", text)

    async def _ask(
        self, server: Server, hash_part: str, heard: asyncio.Event
    ) -> UpstreamNarinfo | None:
        url = f"{server.url}/{hash_part}.narinfo"
        try:
            async with asyncio.timeout(_NARINFO_TIMEOUT_S):
                reply = await self._client.get(url, server.authorization)
                async with reply:
                    heard.set()
                    text = await self._text(reply)
        except TimeoutError:
            raise FetchFailed("the server does not answer in time") from None
        if text is None:
            return None
        narinfo = parse_narinfo(text, store_dir=self._store_dir)
        if narinfo.item.hash_part != hash_part:
            raise ProtocolError("it is the narinfo of another item")
        verify_narinfo(narinfo, self._acl)
        return UpstreamNarinfo(server, narinfo, self._ttl(reply.headers.get("Cache-Control", "")))

    def _ttl(self, cache_control: str) -> int:
        stated = max_age_s(cache_control)
        return self._age_s if stated is None else min(stated, _LONGEST_TTL_S)

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

    def nar(
        self,
        source: NarSource,
        nar_size: int,
        end: NarEnd | None = None,
        *,
        length: int | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Fetch a nar, as it is sent; one that is sent without its length ends with its size.

        `end` is told how it ended. With `length` it is not taken if its server tells another.
        Raises, when iterated: FetchFailed.
        """
        return nar_pieces(self._nars, source, nar_size, end or NarEnd(), length=length)


class _Asking:
    """One narinfo that is asked for: of whom still, and who could not be asked."""

    def __init__(self, hash_part: str, servers: list[Server]) -> None:
        self.hash_part = hash_part
        self.servers = servers
        self.failed: set[Server] = set()


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
