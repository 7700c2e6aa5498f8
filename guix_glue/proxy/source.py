"""What a proxy answers about items: others' narinfos, and nars by whatever way is best.

Which store it is for is what its servers say, so that nothing can be read before one of them has,
in this run or an earlier one; what needs to know is made then.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from eris.threads import in_thread
from guix_glue.errors import FetchFailed
from guix_glue.formats.cache_info import CacheInfo, format_cache_info
from guix_glue.proxy.narinfo_text import is_offered, proxied_text
from guix_glue.proxy.pages import landing_page
from guix_glue.proxy.passage import AskAnew
from guix_glue.servers.remembered import Remembered
from guix_glue.servers.url import InvalidServer
from guix_glue.serving.clients import Client, ClientLeft, asking
from guix_glue.serving.reply import HTML_TYPE, NARINFO_TYPE, TEXT_TYPE, Reply
from guix_glue.sources.vouching import Candidate, Vouched
from guix_glue.upstream.cache_infos import CacheInfos, OtherStore
from guix_glue.upstream.kept_narinfos import MirrorCache, Mirrored
from guix_glue.upstream.narinfos import MirrorNarinfos
from guix_glue.upstream.passing_on import has_signed_urls
from guix_glue.upstream.servers import Upstream

__all__ = ["NarReplies", "Parts", "ProxySource"]

_log = logging.getLogger(__name__)

_MOST_KEPT: Final = 100_000
"""Narinfos in the cache, some 2 to 10 KB each; those that were kept longest ago go first."""
_EARLY: Final = 64
"""Lots of requests, each of what arrived at once, from clients that were there before a server."""
_AFRESH_S: Final = 60.0
_AFRESH_KEPT: Final = 10_000
_NOT_HERE: Final = (404, 503)


class NarReplies(Protocol):
    """What makes nars."""

    async def reply(
        self, vouched: Vouched, *, only_head: bool = False, ask_anew: AskAnew | None = None
    ) -> Reply | None:
        """The nar of an item; None, if it cannot be had. With `only_head` nothing of it is made.

        `ask_anew` is called when none of the servers that vouched for it brings it.
        """

    async def expire(self, before: float) -> None:
        """Forget what was noted before a time (seconds of the epoch). Raises: OSError."""

    async def close(self) -> None:
        """End what is under way."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What works for one store; `nars` ends before what it stands on."""

    upstream: Upstream
    cache: MirrorCache
    narinfos: MirrorNarinfos
    nars: NarReplies

    async def close(self) -> None:
        """End all of it."""
        await self.narinfos.close()
        await self.nars.close()
        await self.upstream.close()


class ProxySource:
    """Items of other servers. `close()` it."""

    def __init__(self, infos: CacheInfos, make: Callable[[str], Parts], *, priority: int) -> None:
        """`make` gives what works for a store; `priority` is what Nix is told."""
        self._infos = infos
        self._make = make
        self._priority = priority
        self._parts: Parts | None = None
        # What is to be looked for once it is known for which store.
        self._early: deque[tuple[Client, Sequence[str]]] = deque(maxlen=_EARLY)
        # After a nar could not be had by what is known of it.
        self._afresh: Remembered[tuple[str, bytes]] = Remembered(_AFRESH_S, length=_AFRESH_KEPT)
        infos.begin()

    async def close(self) -> None:
        """End what is under way."""
        if self._parts is not None:
            await self._parts.close()

    def leave_out(self, other: OtherStore) -> None:
        """A server has items of another store: that is an error, of whoever named it."""
        _log.error(
            "%s has items for %s, which is not the store of this proxy: that server is left out;"
            " it needs a proxy of its own",
            other.server.shown,
            other.store_dir,
        )
        if self._parts is not None:
            self._parts.upstream.leave_out(other.server)

    def expect(self, hash_parts: Sequence[str]) -> None:
        """Ask the servers for these, some at once."""
        if self._parts is None:
            self._early.append((asking(), hash_parts))
        else:
            self._parts.narinfos.expect(asking(), hash_parts)

    async def cache_info(self) -> Reply:
        """What this server says of itself. Raises: FetchFailed, while that is not known."""
        store_dir = await self._infos.store_dir()
        info = CacheInfo(store_dir, await self._infos.mass_query(), self._priority)
        return Reply(200, TEXT_TYPE, format_cache_info(info))

    async def landing(self) -> Reply:
        """The page for people. Raises: FetchFailed, as `cache_info`."""
        return Reply(200, HTML_TYPE, landing_page(await self._infos.store_dir()))

    async def narinfo(self, hash_part: str) -> Reply | None:
        """The narinfo of an item. Raises: FetchFailed, if nobody can tell."""
        parts = await self._ready()
        found = await parts.narinfos.find(asking(), hash_part)
        if found is None or not is_offered(_vouched(found, parts.upstream)):
            return None
        left_s = max(0, int(found.good_until - time.time()))
        return Reply(200, NARINFO_TYPE, proxied_text(found.narinfo), left_s)

    async def nar(self, hash_part: str, nar_hash: bytes, *, only_head: bool) -> Reply | None:
        """The very nar of an item that a client remembers. Raises: FetchFailed."""
        parts = await self._ready()
        found = await parts.narinfos.exactly(asking(), hash_part, nar_hash)
        if found is None:
            return None
        vouched = _vouched(found, parts.upstream)
        ask_anew = partial(self._anew, parts, asking(), hash_part, nar_hash)
        reply = await parts.nars.reply(vouched, only_head=only_head, ask_anew=ask_anew)
        if not _is_missing(reply):
            return reply
        again = await ask_anew()
        if again is None or again == vouched:
            return reply
        if reply is not None:
            reply.close()
        return await parts.nars.reply(again, only_head=only_head)

    async def _anew(
        self, parts: Parts, client: Client, hash_part: str, nar_hash: bytes
    ) -> Vouched | None:
        """What all servers say now of an item, or said a moment ago.

        What was kept may be old, and is of whoever was fastest: the nar may be elsewhere.
        """
        asked = (hash_part, nar_hash) in self._afresh
        ask = parts.narinfos.exactly if asked else parts.narinfos.afresh
        try:
            found = await ask(client, hash_part, nar_hash)
        except (FetchFailed, ClientLeft):
            return None
        if not asked:
            self._afresh.add((hash_part, nar_hash))
        return None if found is None else _vouched(found, parts.upstream)

    async def elsewhere(self, hash_part: str, path: str) -> Reply | None:
        """The way to a nar whose URL is signed, so that it is not ours. Raises: FetchFailed."""
        parts = await self._ready()
        found = await parts.narinfos.find(asking(), hash_part)
        if found is None or not has_signed_urls(found.narinfo):
            return None
        urls = [one.url for one in found.narinfo.urls if one.url.lstrip("/") == path.lstrip("/")]
        try:
            located = [found.server.locate(url) for url in urls]
        except InvalidServer:
            return None
        if not located:
            return None
        return Reply(302, TEXT_TYPE, b"", headers=(("Location", located[0]),))

    async def count(self) -> int:
        """How many items something is kept of. Raises: OSError."""
        return 0 if self._parts is None else await in_thread(self._parts.cache.count)

    @property
    def resting(self) -> int:
        """How many servers are left alone for now."""
        return 0 if self._parts is None else self._parts.upstream.resting

    async def expire(self, before: float) -> None:
        """Forget narinfos that were good until some time before this, and more if they are many."""
        if self._parts is not None:
            await in_thread(self._parts.cache.expire, before)
            await in_thread(self._parts.cache.trim, _MOST_KEPT)
            await self._parts.nars.expire(before)

    async def sweep(self) -> None:
        """Nothing: each entry of the cache is one file, which is whole or not there."""

    async def _ready(self) -> Parts:
        """What works for the store that the servers are for. Raises: FetchFailed; OSError."""
        store_dir = await self._infos.store_dir()
        if self._parts is None:
            self._parts = self._make(store_dir)
            for other in self._infos.others():
                self._parts.upstream.leave_out(other.server)
            while self._early:
                client, hash_parts = self._early.popleft()
                if not client.has_left:
                    self._parts.narinfos.expect(client, hash_parts)
        return self._parts


def _vouched(found: Mirrored, upstream: Upstream) -> Vouched:
    """What is known of an item, without servers that are no upstream servers any more."""
    every = (Candidate(found.server, found.narinfo), *found.others)
    return Vouched(found.narinfo, tuple(one for one in every if upstream.known(one.server)))


def _is_missing(reply: Reply | None) -> bool:
    return reply is None or reply.status in _NOT_HERE
