"""Replies about the items of this machine's store.

A narinfo never waits for baking: it lists what is baked, or the plain nar, which is made while it
is sent. What is missing is put into the queue, and until it is there clients are told to ask again
soon. Items that have left the store are offered as long as the cache has their nars.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Final

from eris.threads import in_thread
from guix_glue.formats.compression import Compression, CompressionChoice
from guix_glue.formats.narinfo import NarUrl
from guix_glue.formats.store_path import fixed_output_path, hash_part_of
from guix_glue.local.build_logs import BuildLogs
from guix_glue.local.items import Items
from guix_glue.model import StoreItem
from guix_glue.publish.baking import Bakery, baked_choices, choice_key, nar_pieces
from guix_glue.publish.cache import BakedCache
from guix_glue.publish.model import (
    NAR_TYPE,
    NARINFO_TYPE,
    OCTETS_TYPE,
    TEXT_TYPE,
    ErisTarget,
    FileBody,
    PublishOptions,
    Reply,
    StreamBody,
)
from guix_glue.publish.narinfos import NarinfoWriter
from guix_glue.publish.queue import JobQueue
from guix_glue.publish.records import Baked
from guix_glue.publish.routes import nar_url

__all__ = ["LocalSource"]

_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


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
    ) -> None:
        self._items = items
        self._logs = logs
        self._cache = cache
        self._writer = writer
        self._options = options
        self._eris = eris
        self._bakery = Bakery(cache, items.location, options.compressions, eris, workers=workers)
        bake = cache.guarded(self._bakery.bake)
        self.queue: JobQueue[StoreItem] = JobQueue(bake, workers=workers)

    async def close(self) -> None:
        """End baking."""
        await self.queue.close()
        await self._bakery.close()

    def expect(self, hash_parts: Sequence[str]) -> None:
        """Nothing: here it takes no longer to look for them one by one."""

    async def narinfo(self, hash_part: str) -> Reply | None:
        """The narinfo of an item in the store, or in the cache."""
        item = await self._items.find(hash_part)
        if item is None:
            baked = self._cached(hash_part)
            if baked is None:
                return None
            return self._reply(baked.item, self._baked_urls(baked), baked, complete=True)
        baked = self._cache.recall(item)
        complete = self._is_complete(item, baked)
        if not complete:
            self.queue.want(item.path, item)
            if self._must_wait(item, baked):
                return self._being_baked(item)
        return self._reply(item, self._urls(item, baked), baked, complete=complete)

    async def nar(self, base_name: str, method: Compression) -> Reply | None:
        """A plain nar, made as it is sent; or a compressed one, from the cache."""
        hash_part = hash_part_of(base_name)
        if method is not Compression.NONE:
            return await in_thread(self._baked_nar, hash_part, base_name, method)
        item = await self._items.find(hash_part)
        if item is None or item.base_name != base_name:
            return None
        if self._must_wait(item, self._cache.recall(item)):
            return None
        location = self._items.location(item)
        if not await in_thread(os.path.lexists, location):
            return None
        body = StreamBody(lambda: nar_pieces(location), item.nar_size)
        return Reply(200, NAR_TYPE, body, self._options.ttl_s)

    async def fixed_file(self, name: str, sha256: bytes) -> Reply | None:
        """The content of a fixed-output item that is one regular file."""
        path = fixed_output_path(self._items.store_dir, name, sha256)
        item = await self._items.find(hash_part_of(path))
        if item is None or item.path != path:
            return None
        body = await in_thread(_open_regular, self._items.location(item))
        return None if body is None else Reply(200, OCTETS_TYPE, body, self._options.ttl_s)

    async def build_log(self, base_name: str) -> Reply | None:
        """The log of an item's build; a compressed one is sent as it is."""
        if self._logs is None:
            return None
        item = await self._items.find(hash_part_of(base_name))
        if item is None or item.base_name != base_name:
            return None
        return await in_thread(_open_log, self._logs, item)

    async def expire(self, before: float) -> None:
        """Forget what was last used before a time and has left the store."""
        for hash_part, used in await in_thread(lambda: list(self._cache.hash_parts())):
            if used >= before:
                continue
            baked = await in_thread(self._cache.look_at, hash_part)
            if baked is None or not await self._items.valid(baked.item.path):
                await in_thread(self._cache.forget, hash_part, before)

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

    def _reply(
        self, item: StoreItem, urls: Sequence[NarUrl], baked: Baked | None, *, complete: bool
    ) -> Reply | None:
        if not urls:
            # A narinfo without URL ends the stock client.
            return None
        urn = None
        if self._eris is not None and baked is not None and baked.eris is not None:
            urn = baked.eris.urn_in(self._eris.destination)
        text = self._writer.write(item, urls, urn)
        age_s = self._options.ttl_s if complete else self._options.unbaked_age_s
        return Reply(200, NARINFO_TYPE, text, age_s)

    def _is_complete(self, item: StoreItem, baked: Baked | None) -> bool:
        choices = baked_choices(item, self._options.compressions)
        if self._eris is None and not choices:
            return True
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
            None,
        )
        urls: list[NarUrl] = []
        for choice in self._options.compressions:
            if choice.method is Compression.NONE:
                urls.append(plain)
            elif baked is not None and (url := self._baked_url(baked, choice)) is not None:
                urls.append(url)
        return tuple(urls) or (plain,)

    def _baked_urls(self, baked: Baked) -> tuple[NarUrl, ...]:
        urls = (self._baked_url(baked, choice) for choice in self._options.compressions)
        return tuple(url for url in urls if url is not None)

    def _baked_url(self, baked: Baked, choice: CompressionChoice) -> NarUrl | None:
        file = baked.file(choice_key(choice))
        if file is None:
            return None
        url = nar_url(self._options.nar_path, choice.method, baked.item.base_name)
        return NarUrl(url, choice.method.value, file.size, None)

    def _cached(self, hash_part: str) -> Baked | None:
        """What is kept of an item that is not in the store."""
        baked = self._cache.find(hash_part)
        if baked is None or baked.item.store_dir != self._items.store_dir:
            return None
        return baked

    def _baked_nar(self, hash_part: str, base_name: str, method: Compression) -> Reply | None:
        baked = self._cached(hash_part)
        if baked is None or baked.item.base_name != base_name:
            return None
        for choice in self._options.compressions:
            if choice.method is not method:
                continue
            file = self._cache.open_file(baked, choice_key(choice))
            if file is not None:
                body = FileBody(file, os.fstat(file.fileno()).st_size)
                return Reply(200, OCTETS_TYPE, body, self._options.ttl_s)
        return None


def _open_regular(path: str) -> FileBody | None:
    """Open what must be a regular file; None if it is something else."""
    try:
        descriptor = os.open(path, _FILE_FLAGS)
    except OSError:
        return None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        return None
    return FileBody(os.fdopen(descriptor, "rb"), found.st_size)


def _open_log(logs: BuildLogs, item: StoreItem) -> Reply | None:
    found = logs.find(item)
    if found is None:
        return None
    body = _open_regular(found.path)
    if body is None:
        return None
    encoding = () if found.encoding is None else (("Content-Encoding", found.encoding),)
    return Reply(200, TEXT_TYPE, body, headers=encoding)
