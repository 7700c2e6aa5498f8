"""Replies of a mirror: other servers' narinfos, with the URNs that were computed here.

The signed part stays as it was signed, byte for byte, and so does the signature; the URLs behind it
lead to the server that the narinfo is from. Once the item is in the ERIS store, its URN stands at
the end, where nobody takes it for signed; a narinfo that has a signed one gets no other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from eris.threads import in_thread
from guix_glue.errors import FetchFailed
from guix_glue.formats.compression import Compression
from guix_glue.formats.narinfo import NarUrl, format_narinfo
from guix_glue.publish.baking_log import Made, noted
from guix_glue.publish.directory import CacheDirectory
from guix_glue.publish.journal import Journal
from guix_glue.publish.mirror_baking import MirrorBakery
from guix_glue.publish.mirror_cache import MirrorCache, Mirrored
from guix_glue.publish.model import NARINFO_TYPE, ErisTarget, PublishOptions, Reply
from guix_glue.publish.queue import JobQueue
from guix_glue.publish.trees import EncodeTree
from guix_glue.publish.upstream import Upstream
from guix_glue.servers.limits import ABSENCE_AGE_S
from guix_glue.servers.url import InvalidServer, Server

__all__ = ["MirrorSource"]

_log = logging.getLogger(__name__)

_NOTHING_KEPT: Final = 50_000
_ASKED_AT_ONCE: Final = 32
_EXPECTED: Final = 4000
"""Narinfos that are looked for before it is their turn: what some clients ask for in one go."""


class MirrorSource:
    """What other servers have."""

    def __init__(
        self,
        directory: CacheDirectory,
        upstream: Upstream,
        options: PublishOptions,
        eris: ErisTarget | None,
        *,
        workers: int,
        max_unsigned_size: int,
        baking_log: Journal | None = None,
    ) -> None:
        self._cache = MirrorCache(directory, options.store_dir)
        self._upstream = upstream
        self._options = options
        self._eris = eris
        self._asking: dict[str, asyncio.Task[Mirrored | None]] = {}
        # Hash part -> time of the loop until which it is believed that nobody has it.
        self._nothing: OrderedDict[str, float] = OrderedDict()
        self._asked_at_once = asyncio.Semaphore(_ASKED_AT_ONCE)
        self.queue: JobQueue[str] | None = None
        if eris is not None:
            bakery = MirrorBakery(
                directory,
                self._cache,
                upstream,
                EncodeTree(eris),
                max_unsigned_size=max_unsigned_size,
            )
            bake = noted(bakery.bake, self._made, baking_log)
            self.queue = JobQueue(bake, workers=workers)

    async def close(self) -> None:
        """End fetching."""
        if self.queue is not None:
            await self.queue.close()
        for task in tuple(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        await self._upstream.close()

    def expect(self, hash_parts: Sequence[str]) -> None:
        """Ask the servers for these, many at once."""
        now = time.time()
        for hash_part in hash_parts:
            if len(self._asking) >= _EXPECTED:
                return
            found = self._cache.find(hash_part)
            fresh = found is not None and found.good_until > now
            if not fresh and not self._is_nothing(hash_part):
                self._start_asking(hash_part, found)

    async def narinfo(self, hash_part: str) -> Reply | None:
        """Another server's narinfo."""
        found = self._cache.find(hash_part)
        if found is None or found.good_until <= time.time():
            found = await self._refreshed(hash_part, found)
        return None if found is None else self._reply(found)

    async def nar(self, base_name: str, method: Compression) -> Reply | None:
        """Nothing: nars are where the narinfo says."""
        return None

    async def fixed_file(self, name: str, sha256: bytes) -> Reply | None:
        """Nothing: it could not be checked whose it is."""
        return None

    async def build_log(self, base_name: str) -> Reply | None:
        """Nothing: logs are not signed."""
        return None

    async def expire(self, before: float) -> None:
        """Forget what was good until some time before this."""
        await in_thread(self._cache.expire, before)

    async def sweep(self) -> None:
        """Nothing: each entry of this cache is one file, which is whole or not there."""

    async def _refreshed(self, hash_part: str, old: Mirrored | None) -> Mirrored | None:
        """Ask the servers; what is kept is better than nothing when they cannot be asked."""
        if self._is_nothing(hash_part):
            return None
        try:
            # Several clients may wait for the same answer, and one of them lose interest.
            return await asyncio.shield(self._start_asking(hash_part, old))
        except FetchFailed:
            if old is None:
                raise
            return old

    def _start_asking(self, hash_part: str, old: Mirrored | None) -> asyncio.Task[Mirrored | None]:
        if (task := self._asking.get(hash_part)) is None:
            task = self._asking[hash_part] = asyncio.create_task(self._ask(hash_part, old))

            def forget(task: asyncio.Task[Mirrored | None]) -> None:
                del self._asking[hash_part]
                if not task.cancelled():
                    # Or asyncio complains when whoever asked has gone.
                    task.exception()

            task.add_done_callback(forget)
        return task

    async def _ask(self, hash_part: str, old: Mirrored | None) -> Mirrored | None:
        async with self._asked_at_once:
            found = await self._upstream.narinfo(hash_part)
        if found is None:
            self._note_nothing(hash_part)
            return None
        mirrored = Mirrored(found.server, found.narinfo, time.time() + found.ttl_s)
        if old is not None and old.narinfo.item.nar_hash == found.narinfo.item.nar_hash:
            mirrored = replace(mirrored, eris=old.eris)
        await in_thread(self._cache.keep, mirrored)
        return mirrored

    def _made(self, hash_part: str) -> Made:
        """What is baked of an item, for the log."""
        found = self._cache.find(hash_part)
        if found is None or self._eris is None:
            return Made(hash_part)
        item = found.narinfo.item
        results = {} if found.eris is None else found.eris.results(self._eris.destination)
        return Made(item.path, item.nar_size, results)

    def _is_nothing(self, hash_part: str) -> bool:
        return asyncio.get_running_loop().time() < self._nothing.get(hash_part, 0.0)

    def _note_nothing(self, hash_part: str) -> None:
        ttl_s = self._options.negative_ttl_s
        until = ABSENCE_AGE_S if ttl_s is None else ttl_s
        self._nothing[hash_part] = asyncio.get_running_loop().time() + until
        self._nothing.move_to_end(hash_part)
        if len(self._nothing) > _NOTHING_KEPT:
            self._nothing.popitem(last=False)

    def _reply(self, found: Mirrored) -> Reply | None:
        text = self._text(found)
        if text is None:
            return None
        left_s = max(0, int(found.good_until - time.time()))
        if not self._is_complete(found):
            if self.queue is not None:
                self.queue.want(found.narinfo.item.hash_part, found.narinfo.item.hash_part)
            left_s = min(left_s, self._options.unbaked_age_s)
        age_s = left_s if self._options.ttl_s is None else min(left_s, self._options.ttl_s)
        return Reply(200, NARINFO_TYPE, text, age_s)

    def _is_complete(self, found: Mirrored) -> bool:
        if self._eris is None:
            return True
        return found.eris is not None and found.eris.done_for(self._eris.destination)

    def _text(self, found: Mirrored) -> bytes | None:
        narinfo = found.narinfo
        if narinfo.signed_text is None or not narinfo.urls:
            return None
        urls = _absolute(found.server, narinfo.urls)
        if "URL" in narinfo.signed_fields:
            # Signed and unsigned URLs would be told apart by nobody, and the signed come first.
            if urls != narinfo.urls:
                _log.warning("%s: a signed relative URL: not mirrored", narinfo.item.base_name)
                return None
            urls = ()
        elif not urls:
            return None
        hint = None
        if self._eris is not None and found.eris is not None and narinfo.signed_urn is None:
            hint = found.eris.urn_in(self._eris.destination)
        text = format_narinfo(
            narinfo.signed_text,
            narinfo.signature,
            urls,
            hint=hint,
            nix_signatures=narinfo.nix_signatures,
        )
        if "NarSize" not in narinfo.signed_fields:
            text += f"NarSize: {narinfo.item.nar_size}\n".encode()
        return text


def _absolute(server: Server, urls: Sequence[NarUrl]) -> tuple[NarUrl, ...]:
    """Where the nars of a server's narinfo are, without what a client could not ask for."""
    found = []
    for url in urls:
        try:
            found.append(replace(url, url=server.locate(url.url)))
        except InvalidServer:
            _log.debug("A URL of a nar is left out")
    return tuple(found)
