"""What other servers say of themselves, `nix-cache-info`: asked for in time, and kept on disk.

All of them must have items of one store, which is the one that clients are told of. It is the one
that was asked for, else that of the first server in the order given; who has another is left out.
That is for good, so a server that is slow is waited for before one behind it decides.

    cache-info/NAME    what a server said, with a checksum, and until when it is good; NAME is made
                       of its URL, which may be a secret

What is out of date is as good as ever while its server does not answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from eris.errors import ErisError
from eris.threads import in_thread, settle
from guix_glue.errors import FetchFailed, ProtocolError
from guix_glue.formats.cache_info import LARGEST_CACHE_INFO, CacheInfo, parse_cache_info
from guix_glue.kept.directory import CacheDirectory
from guix_glue.kept.records import format_checked, parse_checked
from guix_glue.servers.encodings import decode_body, encoding_name
from guix_glue.servers.http import HttpClient, read_body
from guix_glue.servers.limits import max_age_s
from guix_glue.servers.outage import Outage
from guix_glue.servers.proxies import NO_PROXIES, Proxies
from guix_glue.servers.url import Server

__all__ = ["CacheInfos", "OtherStore"]

_log = logging.getLogger(__name__)

_VERSION: Final = 1
_TIMEOUT_S: Final = 10.0
_PATIENCE_S: Final = 2.0
"""Until it is enough that some have told, before a client is answered."""
_PAUSE_S: Final = 30.0
_FIRST_PAUSE_S: Final = 0.5
"""And twice as long each time: Nix asks five times in four seconds, and then never again."""
_LONGEST_TTL_S: Final = 7 * 86_400
_LARGEST: Final = 8 * LARGEST_CACHE_INFO
_DAMAGED: Final = (ErisError, KeyError, TypeError, ValueError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class OtherStore:
    """A server that cannot be used, as its items are for another store."""

    server: Server
    store_dir: str


@dataclass(frozen=True, slots=True)
class _Known:
    text: bytes
    info: CacheInfo
    good_until: float


class CacheInfos:
    """What is known of some servers. `close()` it."""

    def __init__(
        self,
        directory: CacheDirectory,
        servers: Sequence[Server],
        proxies: Proxies = NO_PROXIES,
        *,
        age_s: int,
        store_dir: str | None,
        default_dir: str,
        left_out: Callable[[OtherStore], None],
    ) -> None:
        """`store_dir` is the store, if that was said; `default_dir`, if no server tells of any.

        `left_out` is told of each server that has another one, once; `age_s` is how long their
        word is good when they do not say.
        """
        self._directory = directory
        self._path = directory.subdirectory("cache-info")
        self._servers = tuple(servers)
        self._age_s = age_s
        self._store_dir = store_dir
        self._default_dir = default_dir
        self._left_out = left_out
        self._differ = set[Server]()
        self._client = HttpClient(proxies=proxies)
        self._outages = {one: Outage(_PAUSE_S, first_s=_FIRST_PAUSE_S) for one in self._servers}
        self._known = {one: known for one in self._servers if (known := self._read(one))}
        self._was_known = any(one.info.store_dir is not None for one in self._known.values())
        self._asking: asyncio.Task[None] | None = None
        # Who is asked now; and an event for whoever waits until one of them has told.
        self._open = set[Server]()
        self._news = asyncio.Event()

    async def close(self) -> None:
        """End asking."""
        if self._asking is not None:
            self._asking.cancel()
            await settle(self._asking)
        await self._client.close()

    async def store_dir(self) -> str:
        """The store that is served; it stays the same.

        Raises: FetchFailed, if no server has told yet.
        """
        self.begin()
        if self._store_dir is None:
            await self._wait_for_choice()
            self._store_dir = self._chosen()
        self._tell_differences()
        return self._store_dir

    def others(self) -> tuple[OtherStore, ...]:
        """The servers, as far as they have told, that have another store."""
        known = (
            (one, self._known[one].info.store_dir) for one in self._servers if one in self._known
        )
        return tuple(
            OtherStore(server, theirs)
            for server, theirs in known
            if theirs is not None and theirs != self._store_dir
        )

    async def mass_query(self) -> bool:
        """Whether clients may ask for many items at once: if all who have told say so."""
        self.begin()
        await self._wait()
        left_out = {other.server for other in self.others()}
        told = [
            one.info.mass_query for server, one in self._known.items() if server not in left_out
        ]
        return bool(told) and all(told)

    def _chosen(self) -> str:
        told = (self._known[one].info.store_dir for one in self._servers if one in self._known)
        chosen = next((one for one in told if one is not None), None)
        if chosen is None and not self._known:
            raise FetchFailed("no upstream server has told yet which store it is for")
        return chosen or self._default_dir

    def _tell_differences(self) -> None:
        for other in self.others():
            if other.server not in self._differ:
                self._differ.add(other.server)
                self._left_out(other)

    def begin(self) -> None:
        """Ask those whose word is out of date."""
        if self._asking is None and (due := self._due()):
            self._open = set(due)
            self._asking = asyncio.create_task(self._ask_all())
            self._asking.add_done_callback(self._asked)

    async def _wait(self) -> None:
        """Wait for those who are asked, as long as nothing is known."""
        asking = self._asking
        if asking is None or self._known:
            return
        await asyncio.wait([asking], timeout=_PATIENCE_S)
        if not self._known:
            await asyncio.wait([asking])

    async def _wait_for_choice(self) -> None:
        """Wait until nobody who is asked still comes before who has told of a store.

        What was known from the start will do.
        """
        while self._asking is not None and not self._is_clear():
            self._news.clear()
            await self._news.wait()

    def _is_clear(self) -> bool:
        for server in self._servers:
            known = self._known.get(server)
            if known is not None and known.info.store_dir is not None:
                return True
            if server in self._open and not self._was_known:
                return False
        return not self._open

    def _due(self) -> list[Server]:
        now = time.time()
        return [
            server
            for server in self._servers
            if not self._outages[server].left_s
            and (server not in self._known or self._known[server].good_until <= now)
        ]

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking = None
        self._news.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("What servers say of themselves cannot be told", exc_info=error)

    async def _ask_all(self) -> None:
        tasks = [asyncio.create_task(self._ask(server)) for server in self._due()]
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await settle(*tasks)
        if self._store_dir is not None:
            self._tell_differences()

    async def _ask(self, server: Server) -> None:
        try:
            await self._learn(server)
        finally:
            self._open.discard(server)
            self._news.set()

    async def _learn(self, server: Server) -> None:
        """Learn what one server says; one that says nothing counts as one that leaves all out."""
        outage = self._outages[server]
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                text, ttl_s = await self._fetch(server)
            known = _Known(text, parse_cache_info(text), time.time() + ttl_s)
        except TimeoutError:
            self._note(server, "it does not answer in time")
        except ErisError as error:
            self._note(server, str(error))
        except Exception as error:
            _log.debug("A server cannot be asked", exc_info=True)
            self._note(server, f"an answer that is not understood: {type(error).__name__}")
        else:
            outage.end()
            self._known[server] = known
            await self._keep(server, known)

    async def _fetch(self, server: Server) -> tuple[bytes, int]:
        url = f"{server.url}/nix-cache-info"
        async with await self._client.get(url, server.authorization) as reply:
            stated = max_age_s(reply.headers.get("Cache-Control", ""))
            ttl_s = self._age_s if stated is None else min(stated, _LONGEST_TTL_S)
            if reply.status in (404, 410):
                return b"", ttl_s
            if reply.status == 403 and self._client.answered_by(reply) is None:
                # How some say that they have it not.
                return b"", ttl_s
            if reply.status != 200:
                raise self._client.failure_of(reply)
            encoding = encoding_name(", ".join(reply.headers.getall("Content-Encoding", ())))
            body = await read_body(reply, LARGEST_CACHE_INFO)
            return decode_body(encoding, body, LARGEST_CACHE_INFO), ttl_s

    def _note(self, server: Server, reason: str) -> None:
        if self._outages[server].begin(reason):
            _log.warning("%s does not tell which store it is for: %s", server.shown, reason)

    async def _keep(self, server: Server, known: _Known) -> None:
        value = {
            "version": _VERSION,
            "server": server.url,
            "text": known.text.decode("utf-8", "replace"),
            "good_until": known.good_until,
        }
        try:
            path = self._path / _name(server)
            await in_thread(self._directory.write, path, format_checked(value))
        except OSError as error:
            _log.debug("What a server says of itself is not kept: %s", error)

    def _read(self, server: Server) -> _Known | None:
        try:
            with (self._path / _name(server)).open("rb") as file:
                value = parse_checked(file.read(_LARGEST))
        except OSError:
            return None
        if value is None or value.get("version") != _VERSION:
            return None
        try:
            text, good_until = str(value["text"]).encode(), float(value["good_until"])
            if not math.isfinite(good_until):
                raise ProtocolError("no time")
            return _Known(text, parse_cache_info(text), good_until)
        except _DAMAGED:
            return None


def _name(server: Server) -> str:
    return hashlib.sha256(server.url.encode()).hexdigest()[:32]
