"""Replies about the items of this machine's store.

A narinfo never waits for baking: it lists what is baked, or the plain nar, which is made while it
is sent. What is missing is put into the queue, and until it is there clients are told to ask again
soon. Items that have left the store are offered as long as the cache has their nars: at least until
the narinfos that name these have expired. Baking may show that the files of an item are not what
the store says: then what the cache has of it is offered, or nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

from eris.threads import in_thread
from guix_glue.errors import DaemonError, DamagedItem, DatabaseError, GuixError, UnsupportedItem
from guix_glue.formats.compression import Compression, CompressionChoice
from guix_glue.formats.narinfo import DeltaLine, NarUrl
from guix_glue.formats.store_path import fixed_output_path, format_hash, hash_part_of
from guix_glue.kept.delta_results import split_key
from guix_glue.kept.records import Baked
from guix_glue.local.build_logs import BuildLogs
from guix_glue.local.items import Items
from guix_glue.model import StoreItem
from guix_glue.publish.baking import Bakery, baked_choices, choice_key, nar_pieces
from guix_glue.publish.baking_log import Made, noted
from guix_glue.publish.cache import BakedCache
from guix_glue.publish.delta_setup import deltas_of_items
from guix_glue.publish.item_files import list_item, open_log, open_regular
from guix_glue.publish.kept_nars import KeptNars
from guix_glue.publish.model import ErisTarget, PublishOptions
from guix_glue.publish.narinfos import NarinfoWriter
from guix_glue.publish.queue import JobQueue
from guix_glue.publish.routes import nar_url
from guix_glue.serving.journal import Journal
from guix_glue.serving.opening import opened_in_thread
from guix_glue.serving.reply import (
    JSON_TYPE,
    NAR_TYPE,
    NARINFO_TYPE,
    OCTETS_TYPE,
    TEXT_TYPE,
    Reply,
    StreamBody,
)
from guix_glue.serving.tags import file_tag

__all__ = ["LocalSource"]

_SENT_PIECE: Final = 128 * 1024
"""Of each plain nar that is being sent a few of these are in memory, taken or not."""
_DAMAGED_KEPT: Final = 10_000
"""Damaged items that are remembered: far more than a store that is of any use has."""
_LISTINGS_AT_ONCE: Final = 4
"""Of a large item one takes seconds; replies of other kinds wait for threads, too."""
_DERIVATION: Final = ".drv"


class LocalSource:
    """What this machine's store has, with what is baked of it."""

    def __init__(
        self,
        items: Items,
        logs: BuildLogs | None,
        cache: BakedCache,
        writer: NarinfoWriter,
        options: PublishOptions,
        eris: ErisTarget | None,
        *,
        workers: int,
        baking_log: Journal | None = None,
    ) -> None:
        self._items = items
        self._logs = logs
        self._cache = cache
        self._writer = writer
        self._options = options
        self._eris = eris
        self._destination = None if eris is None else eris.destination
        self._kept_nars = KeptNars(cache, options.compressions)
        self._listings = asyncio.Semaphore(_LISTINGS_AT_ONCE)
        # Path -> the hash that its files do not have.
        self._damaged: OrderedDict[str, bytes] = OrderedDict()
        self._bakery = Bakery(cache, items.location, options.compressions, eris, workers=workers)
        bake = noted(cache.guarded(self._bake), self._made, baking_log)
        self.queue: JobQueue[StoreItem] = JobQueue(bake, workers=workers)
        self.deltas = deltas_of_items(
            options,
            self._bakery.encode,
            cache,
            items,
            self.queue.idle,
            cache.path.parent,
            baking_log,
        )
        """What bakes deltas, if there are to be any."""

    async def prepare(self, patience_s: float) -> None:
        """Wait until all is known that replies tell of, but not for longer than this."""
        if self.deltas is not None:
            await self.deltas.prepare(patience_s)

    async def close(self) -> None:
        """End baking."""
        if self.deltas is not None:
            await self.deltas.close()
        await self.queue.close()
        await self._bakery.close()

    def expect(self, hash_parts: Sequence[str]) -> None:
        """Nothing: here it takes no longer to look for them one by one."""

    async def narinfo(self, hash_part: str) -> Reply | None:
        """The narinfo of an item in the store, or in the cache."""
        try:
            item = await self._items.find(hash_part)
        except GuixError:
            # What was baked of it is true still.
            baked = self._kept(hash_part)
            if baked is None:
                raise
            return await self._reply(baked.item, baked, complete=False)
        if item is None:
            baked = self._kept(hash_part)
            return None if baked is None else await self._reply(baked.item, baked, complete=True)
        baked = self._cache.recall(item)
        complete = self._is_baked(item, baked)
        if not complete:
            self.queue.want(item.path, item)
            if self._must_wait(item, baked):
                return self._being_baked(item)
        elif baked is not None and not self._has_deltas(baked):
            complete = False
        if self._is_damaged(item) and (baked is None or not baked.files):
            text = f"The files of {item.base_name} are damaged"
            return Reply(404, TEXT_TYPE, text.encode(), self._options.unbaked_age_s)
        return await self._reply(item, baked, complete=complete)

    async def listing(self, hash_part: str) -> Reply | None:
        """What is in an item that is in the store; None of one with names that are no text."""
        item = await self._items.find(hash_part)
        if item is None or self._is_damaged(item):
            return None
        async with self._listings:
            body = await in_thread(list_item, self._items.location(item))
        return None if body is None else Reply(200, JSON_TYPE, body, self._options.ttl_s)

    async def nar(self, base_name: str, method: Compression) -> Reply | None:
        """A nar from the cache; or a plain one of what is in the store, made as it is sent."""
        baked = self._kept(hash_part_of(base_name))
        if method is not Compression.NONE:
            return await self._kept_nar(base_name, baked, method)
        try:
            item = await self._items.find(hash_part_of(base_name))
        except GuixError:
            if baked is None:
                raise
            item = None
        if item is not None and item.base_name == base_name:
            baked = self._cache.recall(item)
        return (
            await self._kept_nar(base_name, baked, method)
            or await self._stored_nar(base_name, item)
            or await self._unpacked_nar(base_name, baked)
        )

    async def _stored_nar(self, base_name: str, item: StoreItem | None) -> Reply | None:
        if item is None or item.base_name != base_name or self._is_damaged(item):
            return None
        if self._must_wait(item, self._cache.recall(item)):
            return None
        location = self._items.location(item)
        if not await in_thread(os.path.lexists, location):
            return None
        body = StreamBody(lambda: nar_pieces(location, _SENT_PIECE), item.nar_size)
        return Reply(200, NAR_TYPE, body, self._options.ttl_s)

    async def fixed_file(self, name: str, sha256: bytes) -> Reply | None:
        """The content of a fixed-output item that is one regular file."""
        path = fixed_output_path(self._items.store_dir, name, sha256)
        item = await self._items.find(hash_part_of(path))
        if item is None or item.path != path or self._is_damaged(item):
            return None
        body = await opened_in_thread(open_regular, self._items.location(item))
        if body is None:
            return None
        return Reply(200, OCTETS_TYPE, body, self._options.ttl_s, tag=file_tag(body.file))

    async def build_log(self, base_name: str) -> Reply | None:
        """The log of an item's build; a compressed one is sent as it is.

        Guix asks by the name of the item, and Nix by that of the derivation, which may have gone.
        """
        if self._logs is None:
            return None
        if base_name.endswith(_DERIVATION):
            return await opened_in_thread(open_log, self._logs, base_name)
        item = await self._items.find(hash_part_of(base_name))
        if item is None or item.base_name != base_name or item.deriver is None:
            return None
        return await opened_in_thread(open_log, self._logs, item.deriver)

    async def count(self) -> int:
        """How many items something is kept of. Raises: OSError."""
        return await in_thread(self._cache.count)

    async def expire(self, before: float) -> None:
        """Forget what was last used before a time and has left the store."""
        for hash_part, used in await in_thread(lambda: list(self._cache.hash_parts())):
            if used >= before:
                continue
            baked = await in_thread(self._cache.look_at, hash_part)
            if baked is not None and baked.promise.ends(used) > time.time():
                continue
            if baked is None or not await self._may_be_valid(baked.item.path):
                await in_thread(self._cache.forget, hash_part, before)

    async def urn(self, hash_part: str) -> str | None:
        """The URN that the narinfo of an item has."""
        return self._eris_of(self._kept(hash_part))[0]

    async def urns(self) -> Mapping[str, str]:
        """The URNs that narinfos have, by hash part."""
        if self._destination is None:
            return {}
        return await in_thread(self._cache.urns, self._destination)

    async def withdraw(self, key: str) -> None:
        """Promise the URN of an item, or of a delta, no more; bake it again if that goes."""
        await in_thread(self._cache.withdraw_urn, key)
        hash_part, base = split_key(key)
        if base is not None:
            baked = await in_thread(self._cache.look_at, hash_part)
            if baked is not None:
                self._has_deltas(baked)
            return
        with contextlib.suppress(GuixError):
            item = await self._items.find(hash_part)
            if item is not None:
                self.queue.want(item.path, item)

    async def sweep(self) -> None:
        """Remove nars that are in no record."""
        await in_thread(self._cache.sweep)

    def _must_wait(self, item: StoreItem, baked: Baked | None) -> bool:
        """Whether an item is so large that it is not offered before its nars are baked."""
        threshold = self._options.bypass_below
        if threshold is None or item.nar_size < threshold:
            return False
        return any(
            baked is None or baked.file(choice_key(choice)) is None
            for choice in baked_choices(item, self._options.compressions)
        )

    def _being_baked(self, item: StoreItem) -> Reply:
        """What the stock server says of it."""
        text = f"We're baking it: {item.path}".encode()
        age_s = self._options.unbaked_age_s
        return Reply(404, TEXT_TYPE, text, age_s, (("X-Baking", "1"),))

    def _made(self, item: StoreItem) -> Made:
        """What is baked of an item, for the log."""
        baked = self._cache.recall(item)
        results = {} if baked is None else baked.results(self._destination)
        return Made(item.path, item.nar_size, results)

    async def _may_be_valid(self, path: str) -> bool:
        try:
            return await self._items.valid(path)
        except (DaemonError, DatabaseError):
            # It would be the same for all others.
            raise
        except GuixError:
            return True

    async def _bake(self, item: StoreItem) -> None:
        try:
            await self._bakery.bake(item)
        except DamagedItem:
            self._damaged[item.path] = item.nar_hash
            self._damaged.move_to_end(item.path)
            if len(self._damaged) > _DAMAGED_KEPT:
                self._damaged.popitem(last=False)
            self._items.doubt(item)
            raise
        except UnsupportedItem:
            self._items.doubt(item)
            raise
        self._damaged.pop(item.path, None)
        baked = self._cache.recall(item)
        if self.deltas is not None and baked is not None:
            self.deltas.baked(item.base_name, baked.eris)

    def _is_damaged(self, item: StoreItem) -> bool:
        return self._damaged.get(item.path) == item.nar_hash

    async def _reply(self, item: StoreItem, baked: Baked | None, *, complete: bool) -> Reply:
        if complete and baked is not None and not self._cache.is_promised(baked):
            try:
                await in_thread(self._cache.promise, baked)
            except (OSError, LookupError):
                # What cannot be noted is not promised.
                complete = False
        urn, deltas = self._eris_of(baked)
        text = self._writer.write(item, self._urls(item, baked), urn, deltas)
        age_s = self._options.ttl_s if complete else self._options.unbaked_age_s
        return Reply(200, NARINFO_TYPE, text, age_s)

    def _eris_of(self, baked: Baked | None) -> tuple[str | None, Sequence[DeltaLine]]:
        """The URN of an item, and its deltas."""
        if self._destination is None or baked is None or baked.eris is None:
            return None, ()
        urn = baked.eris.urn_in(self._destination)
        return urn, () if self.deltas is None or urn is None else self.deltas.lines(baked.eris)

    def _has_deltas(self, baked: Baked) -> bool:
        """Whether its deltas are made, as far as there will be any; else they are wanted."""
        if self.deltas is None or self.deltas.is_complete(baked.item.base_name, baked.eris):
            return True
        self.deltas.want(baked.item.base_name)
        return False

    def _is_baked(self, item: StoreItem, baked: Baked | None) -> bool:
        choices = baked_choices(item, self._options.compressions)
        if baked is None or any(baked.file(choice_key(choice)) is None for choice in choices):
            return False
        if self._eris is None:
            return True
        return baked.eris is not None and baked.eris.done_for(self._eris.destination)

    def _urls(self, item: StoreItem, baked: Baked | None) -> tuple[NarUrl, ...]:
        """All that can be had, in the order of the options; at least the plain nar."""
        plain = NarUrl(
            nar_url(self._options.nar_path, Compression.NONE, item.base_name),
            Compression.NONE.value,
            item.nar_size,
            format_hash(item.nar_hash) if self._options.for_nix else None,
        )
        urls: list[NarUrl] = []
        for choice in self._options.compressions:
            if choice.method is Compression.NONE:
                urls.append(plain)
            elif baked is not None and (url := self._baked_url(baked, choice)) is not None:
                urls.append(url)
        return tuple(urls) or (plain,)

    def _baked_url(self, baked: Baked, choice: CompressionChoice) -> NarUrl | None:
        file = baked.file(choice_key(choice))
        if file is None:
            return None
        url = nar_url(self._options.nar_path, choice.method, baked.item.base_name)
        if not self._options.for_nix or file.sha256 is None:
            return NarUrl(url, choice.method.value, file.size, None)
        return NarUrl(url, choice.method.value, file.size, format_hash(file.sha256))

    def _kept(self, hash_part: str) -> Baked | None:
        """What is kept of an item, whether it is in the store or not, if that is any nar."""
        baked = self._cache.find(hash_part)
        if baked is None or not baked.files or baked.item.store_dir != self._items.store_dir:
            return None
        return baked

    async def _kept_nar(
        self, base_name: str, baked: Baked | None, method: Compression
    ) -> Reply | None:
        if baked is None or baked.item.base_name != base_name:
            return None
        body = await opened_in_thread(self._kept_nars.open, baked, method)
        if body is None:
            return None
        kind = NAR_TYPE if method is Compression.NONE else OCTETS_TYPE
        tag = file_tag(body.file, baked.item.nar_hash, method.value)
        return Reply(200, kind, body, self._options.ttl_s, tag=tag)

    async def _unpacked_nar(self, base_name: str, baked: Baked | None) -> Reply | None:
        if baked is None or baked.item.base_name != base_name:
            return None
        body = await in_thread(self._kept_nars.unpack, baked)
        return None if body is None else Reply(200, NAR_TYPE, body, self._options.ttl_s)
