"""Narinfos of other servers: from the cache while they are good, and asked for when they are not.

What nobody has is remembered for a while, too, in memory: a bounded number of names. So is a
narinfo that a client remembers and that is not the one which is kept: servers may have built an
item with different results.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, TypeGuard

from eris.threads import in_thread, settle
from guix_glue.errors import FetchFailed
from guix_glue.servers.outage import Outage
from guix_glue.servers.remembered import Remembered
from guix_glue.serving.clients import Client
from guix_glue.upstream.kept_narinfos import MirrorCache, Mirrored
from guix_glue.upstream.lookups import Lookups
from guix_glue.upstream.servers import NotAllAsked, Upstream, UpstreamNarinfo

__all__ = ["MirrorNarinfos"]

_log = logging.getLogger(__name__)

_ABSENCES_KEPT: Final = 50_000
_WRITES: Final = 64
"""Narinfos that are on their way to the disk: more would only wait for each other there."""
_OF_ALL: Final = "of-all"
_EXACT_KEPT: Final = 500
"""Narinfos besides those in the cache, some 10 KB each in memory."""


class MirrorNarinfos:
    """What other servers say of items. `close()` it.

    With `settles` nobody has an item that those have not who can be asked, once the others are
    known to be silent: else whoever asks is told again and again that it cannot be known. Without
    `waits_for_disk` what is asked for is told before it is on disk: it can be asked for again.
    """

    def __init__(
        self,
        cache: MirrorCache,
        upstream: Upstream,
        *,
        absence_age_s: float,
        settles: bool = False,
        waits_for_disk: bool = True,
    ) -> None:
        self._cache = cache
        self._upstream = upstream
        self._settles = settles
        self._waits_for_disk = waits_for_disk
        self._room = asyncio.Semaphore(_WRITES)
        self._writes = set[asyncio.Task[None]]()
        self._not_kept = Outage(0.0)
        self._absences: Remembered[str] = Remembered(absence_age_s, length=_ABSENCES_KEPT)
        self._lookups: Lookups[Mirrored | None] = Lookups(self._ask, self._is_needed)
        self._exact: OrderedDict[str, Mirrored] = OrderedDict()
        self._exact_lookups: Lookups[Mirrored | None] = Lookups(self._ask_exactly, lambda _: True)

    async def close(self) -> None:
        """End asking, and write what is left to be written."""
        await self._lookups.close()
        await self._exact_lookups.close()
        await settle(*self._writes)

    def expect(self, client: Client, hash_parts: Sequence[str]) -> None:
        """A client will ask for these in a moment."""
        self._lookups.expect(client, hash_parts)

    async def find(self, client: Client, hash_part: str) -> Mirrored | None:
        """What is known of an item; what is kept is better than nothing if nobody can be asked.

        Raises: FetchFailed, if nothing is known, and not all servers could be asked.
        """
        self._lookups.passed(client, hash_part)
        found = self._cache.find(hash_part)
        if _is_good(found) or hash_part in self._absences:
            return found
        try:
            return await self._lookups.get(client, hash_part)
        except FetchFailed as error:
            if found is None and not self._is_settled(error):
                raise
            return found

    async def exactly(self, client: Client, hash_part: str, nar_hash: bytes) -> Mirrored | None:
        """What is known of an item with this very nar, however old that is.

        Raises: FetchFailed, if nothing is known, and not all servers could be asked.
        """
        found = self._cache.find(hash_part)
        if found is not None and found.narinfo.item.nar_hash == nar_hash:
            return found
        name = f"{hash_part} {nar_hash.hex()}"
        known = self._exact.get(name)
        if _is_good(known) or name in self._absences:
            return known
        try:
            return await self._exact_lookups.get(client, name)
        except FetchFailed as error:
            if known is None and not self._is_settled(error):
                raise
            return known

    async def afresh(self, client: Client, hash_part: str, nar_hash: bytes) -> Mirrored | None:
        """What all servers say now of an item with this very nar; None, if none of them has it.

        Raises: FetchFailed, if none has it, and not all could be asked; ClientLeft.
        """
        found = await self._exact_lookups.get(client, f"{hash_part} {nar_hash.hex()} {_OF_ALL}")
        known = self._cache.find(hash_part)
        if found is not None and known is not None and known.narinfo.item.nar_hash == nar_hash:
            await self._keep(found)
        return found

    async def doubt(self, hash_part: str) -> None:
        """What is kept of an item leads to a wrong nar: ask for it anew when it is wanted again."""
        found = self._cache.find(hash_part)
        if _is_good(found):
            await self._keep(replace(found, good_until=time.time()))

    def _is_settled(self, error: FetchFailed) -> bool:
        return self._settles and isinstance(error, NotAllAsked) and error.is_settled

    def _is_needed(self, hash_part: str) -> bool:
        return hash_part not in self._absences and not _is_good(self._cache.find(hash_part))

    async def _ask(self, hash_part: str) -> Mirrored | None:
        found = await self._upstream.narinfo(hash_part)
        if found is None:
            self._absences.add(hash_part)
            return None
        mirrored = _mirrored(found)
        await self._keep(mirrored)
        # With what was known of it before.
        return self._cache.find(hash_part) or mirrored

    async def _ask_exactly(self, name: str) -> Mirrored | None:
        hash_part, digits, *more = name.split(" ")
        name = f"{hash_part} {digits}"
        nar_hash, of_all = bytes.fromhex(digits), _OF_ALL in more
        found = await self._upstream.narinfo(hash_part, nar_hash, of_all=of_all)
        if found is None:
            self._absences.add(name)
            return None
        mirrored = _mirrored(found)
        if self._cache.find(hash_part) is None:
            await self._keep(mirrored)
        self._exact[name] = mirrored
        self._exact.move_to_end(name)
        if len(self._exact) > _EXACT_KEPT:
            self._exact.popitem(last=False)
        return mirrored

    async def _keep(self, mirrored: Mirrored) -> None:
        """Keep it; whoever asks need not wait for the disk, as long as that keeps up."""
        if self._waits_for_disk:
            await self._write(mirrored)
            return
        self._cache.remember(mirrored)
        await self._room.acquire()
        task = asyncio.create_task(self._write(mirrored))
        self._writes.add(task)
        task.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._writes.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("A narinfo cannot be kept", exc_info=error)

    async def _write(self, mirrored: Mirrored) -> None:
        """Keep it on disk if that can be; whoever asks is answered anyway."""
        try:
            await in_thread(self._cache.keep, mirrored)
        except OSError as error:
            if self._not_kept.begin(error.strerror):
                _log.warning("Narinfos are not kept on disk for now: %s", error.strerror or error)
        else:
            if self._not_kept.end():
                _log.info("Narinfos are kept on disk again")


def _mirrored(found: UpstreamNarinfo) -> Mirrored:
    good_until = time.time() + found.ttl_s
    return Mirrored(found.server, found.narinfo, good_until, others=found.others)


def _is_good(found: Mirrored | None) -> TypeGuard[Mirrored]:
    return found is not None and found.good_until > time.time()
