"""Replies of a mirror: other servers' narinfos, with the URNs that were computed here.

The signed part stays as it was signed, byte for byte, and so does the signature (for Nix, what its
signatures cover); the URLs behind it lead to the server that the narinfo is from. Once the item is
in the ERIS store, its URN stands at the end, where nobody takes it for signed; a narinfo that has a
signed one gets no other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from eris.threads import in_thread
from guix_glue.errors import FetchFailed
from guix_glue.formats.compression import Compression
from guix_glue.formats.narinfo import DeltaLine, NarUrl
from guix_glue.formats.store_path import hash_part_of
from guix_glue.kept.delta_results import split_key
from guix_glue.kept.directory import CacheDirectory
from guix_glue.publish.baking_log import Made, noted
from guix_glue.publish.cache_guard import CacheGuard
from guix_glue.publish.delta_setup import deltas_of_items
from guix_glue.publish.mirror_baking import MirrorBakery
from guix_glue.publish.mirror_nars import MirrorNars
from guix_glue.publish.model import ErisTarget, PublishOptions
from guix_glue.publish.queue import JobQueue
from guix_glue.publish.trees import EncodeTree
from guix_glue.servers.limits import ABSENCE_AGE_S
from guix_glue.servers.url import InvalidServer, Server
from guix_glue.serving.clients import ClientLeft, asking
from guix_glue.serving.journal import Journal
from guix_glue.serving.reply import NARINFO_TYPE, TEXT_TYPE, Reply
from guix_glue.upstream.kept_narinfos import MirrorCache, Mirrored
from guix_glue.upstream.narinfos import MirrorNarinfos
from guix_glue.upstream.passing_on import has_signed_urls, passed_on
from guix_glue.upstream.servers import Upstream

if TYPE_CHECKING:
    from guix_glue.publish.delta_baking import DeltaBakery

__all__ = ["MirrorSource"]

_log = logging.getLogger(__name__)


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
        keep_nars: int | None = None,
        baking_log: Journal | None = None,
    ) -> None:
        """With `keep_nars`, nars are passed on and kept: so many bytes of them.

        Without it no narinfo names nars of ours; those that did so earlier stay true.
        """
        self._cache = MirrorCache(directory, options.store_dir, upstream.believed)
        self._upstream = upstream
        self._options = options
        self._eris = eris
        age_s = options.negative_ttl_s
        self._narinfos = MirrorNarinfos(
            self._cache, upstream, absence_age_s=ABSENCE_AGE_S if age_s is None else age_s
        )
        self._offers_nars = keep_nars is not None
        self._nars = MirrorNars(
            directory,
            upstream,
            options,
            max_bytes=keep_nars or 0,
            max_unsigned_size=max_unsigned_size,
            doubt=self._narinfos.doubt,
        )
        self.queue: JobQueue[str] | None = None
        self.deltas: DeltaBakery | None = None
        """What bakes deltas, if there are to be any."""
        if eris is not None:
            encode = EncodeTree(eris)
            self._bakery = MirrorBakery(
                directory,
                self._cache,
                upstream,
                encode,
                self._nars,
                max_unsigned_size=max_unsigned_size,
            )
            where = directory.path.parent
            bake = noted(CacheGuard(self._bake, where), self._made, baking_log)
            self.queue = JobQueue(bake, workers=workers)
            ready = self.queue.idle
            self.deltas = deltas_of_items(
                options, encode, self._cache, None, ready, where, baking_log
            )

    async def prepare(self, patience_s: float) -> None:
        """Wait until all is known that replies tell of, but not for longer than this."""
        if self.deltas is not None:
            await self.deltas.prepare(patience_s)

    async def close(self) -> None:
        """End fetching."""
        if self.deltas is not None:
            await self.deltas.close()
        if self.queue is not None:
            await self.queue.close()
        await self._narinfos.close()
        await self._nars.close()
        await self._upstream.close()

    def expect(self, hash_parts: Sequence[str]) -> None:
        """Ask the servers for these, some at once."""
        self._narinfos.expect(asking(), hash_parts)

    async def narinfo(self, hash_part: str) -> Reply | None:
        """Another server's narinfo."""
        found = await self._find(hash_part)
        return self._reply(found) if isinstance(found, Mirrored) else found

    async def listing(self, hash_part: str) -> Reply | None:
        """Nothing: what is in an item is not known here before its nar has come."""
        return None

    async def nar(self, base_name: str, method: Compression) -> Reply | None:
        """A nar that is kept here, or passed on; else the way to where the server has it."""
        found = await self._find(hash_part_of(base_name))
        if not isinstance(found, Mirrored):
            return found
        if found.narinfo.item.base_name != base_name:
            return None
        return await self._nars.nar(found, method)

    async def fixed_file(self, name: str, sha256: bytes) -> Reply | None:
        """Nothing: it could not be checked whose it is."""
        return None

    async def build_log(self, base_name: str) -> Reply | None:
        """Nothing: logs are not signed."""
        return None

    async def count(self) -> int:
        """How many items something is kept of. Raises: OSError."""
        return await in_thread(self._cache.count)

    async def expire(self, before: float) -> None:
        """Forget narinfos that were good until some time before this, and nars not used since."""
        await in_thread(self._cache.expire, before)
        await self._nars.expire(before)

    async def urn(self, hash_part: str) -> str | None:
        """The URN of an item, if it was computed here."""
        found = None if self._eris is None else self._cache.find(hash_part)
        if self._eris is None or found is None or found.eris is None:
            return None
        return found.eris.urn_in(self._eris.destination)

    async def urns(self) -> Mapping[str, str]:
        """The URNs that narinfos have, by hash part, as far as they were computed here."""
        if self._eris is None:
            return {}
        return await in_thread(self._cache.urns, self._eris.destination)

    async def withdraw(self, key: str) -> None:
        """Promise the URN of an item, or of a delta, no more; it is computed anew."""
        await in_thread(self._cache.withdraw_urn, key)
        hash_part, _ = split_key(key)
        found = self._cache.find(hash_part)
        if found is not None:
            self._want(found)

    async def sweep(self) -> None:
        """Nothing: each entry of this cache is one file, which is whole or not there."""

    async def _find(self, hash_part: str) -> Mirrored | Reply | None:
        """What is known of an item; or the reply, if that cannot be told."""
        try:
            return await self._narinfos.find(asking(), hash_part)
        except ClientLeft:
            return None
        except FetchFailed as error:
            # Why is in the log already, once for each server and not for each request.
            _log.debug("Nothing is known of %s: %s", hash_part, error)
            return Reply(503, TEXT_TYPE, b"The server cannot tell at the moment")

    def _made(self, hash_part: str) -> Made:
        """What is baked of an item, for the log."""
        found = self._cache.find(hash_part)
        if found is None or self._eris is None:
            return Made(hash_part)
        item = found.narinfo.item
        results = {} if found.eris is None else found.eris.results(self._eris.destination)
        return Made(item.path, item.nar_size, results)

    def _reply(self, found: Mirrored) -> Reply | None:
        text = self._text(found)
        if text is None:
            return None
        left_s = max(0, int(found.good_until - time.time()))
        if self._want(found):
            left_s = min(left_s, self._options.unbaked_age_s)
        age_s = left_s if self._options.ttl_s is None else min(left_s, self._options.ttl_s)
        return Reply(200, NARINFO_TYPE, text, age_s)

    async def _bake(self, hash_part: str) -> None:
        await self._bakery.bake(hash_part)
        found = self._cache.find(hash_part)
        if self.deltas is not None and found is not None:
            self.deltas.baked(found.narinfo.item.base_name, found.eris)

    def _want(self, found: Mirrored) -> bool:
        """Have what is missing of an item made; returns whether anything is."""
        if self._eris is None or self.queue is None:
            return False
        item = found.narinfo.item
        if found.eris is None or not found.eris.done_for(self._eris.destination):
            self.queue.want(item.base_name, item.hash_part)
            return True
        if self.deltas is None or self.deltas.is_complete(item.base_name, found.eris):
            return False
        self.deltas.want(item.base_name)
        return True

    def _text(self, found: Mirrored) -> bytes | None:
        narinfo = found.narinfo
        if not narinfo.urls:
            return None
        urls = _absolute(found.server, narinfo.urls)
        if has_signed_urls(narinfo):
            # Signed and unsigned URLs would be told apart by nobody, and the signed come first.
            if urls != narinfo.urls:
                _log.warning("%s: a signed relative URL: not mirrored", narinfo.item.base_name)
                return None
            urls = ()
        elif not urls:
            return None
        elif self._offers_nars:
            urls = self._nars.urls(replace(found, narinfo=replace(narinfo, urls=urls)))
        hint = None
        if self._eris is not None and found.eris is not None and narinfo.signed_urn is None:
            hint = found.eris.urn_in(self._eris.destination)
        return passed_on(narinfo, urls, hint=hint, hint_deltas=self._hint_deltas(found))

    def _hint_deltas(self, found: Mirrored) -> Sequence[DeltaLine]:
        """Deltas that were made here, but for those from where a signed one leads."""
        if self.deltas is None or self._eris is None or found.eris is None:
            return ()
        if found.eris.urn_in(self._eris.destination) is None:
            return ()
        signed = {line.base for line in found.narinfo.signed_deltas}
        return [line for line in self.deltas.lines(found.eris) if line.base not in signed]


def _absolute(server: Server, urls: Sequence[NarUrl]) -> tuple[NarUrl, ...]:
    """Where the nars of a server's narinfo are, without what a client could not ask for."""
    found = []
    for url in urls:
        try:
            found.append(replace(url, url=server.locate(url.url)))
        except InvalidServer:
            _log.debug("A URL of a nar is left out")
    return tuple(found)
