"""Encodes an item of another server: fetches its nar, checks it, restores it, makes blocks of it.

Trees are made from files, so the nar is unpacked into a temporary directory first, by the
same code that restores substitutes; only when the whole nar has the signed hash are the files
encoded. They are removed afterwards, whatever happens. A source is left as soon as it has sent more
than is signed, or than may be without a signed size.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from eris.threads import in_thread
from guix_glue.errors import CompressionError, FetchFailed, HashMismatch, InvalidNar
from guix_glue.formats.compression import Compression, decompressor
from guix_glue.formats.nar import NarReader
from guix_glue.formats.narinfo import Narinfo, NarUrl
from guix_glue.local.restore import ItemRestorer, remove_item
from guix_glue.model import StoreItem
from guix_glue.publish.directory import CacheDirectory
from guix_glue.publish.mirror_cache import MirrorCache, Mirrored
from guix_glue.publish.trees import EncodeTree
from guix_glue.publish.upstream import Upstream
from guix_glue.servers.url import InvalidServer

__all__ = ["MirrorBakery"]

_log = logging.getLogger(__name__)

_METHODS: Final = {method.value: method for method in Compression}
_BOUND: Final = 1024 * 1024
_SLACK: Final = 256 * 1024
# When no sizes are known: what packs best first.
_PREFERRED: Final = ("lzip", "zstd", "xz", "bzip2", "gzip", "none")


class MirrorBakery:
    """Bakes what a mirror offers: only URNs, as nars stay where they are."""

    def __init__(
        self,
        directory: CacheDirectory,
        cache: MirrorCache,
        upstream: Upstream,
        encode: EncodeTree,
        *,
        max_unsigned_size: int,
    ) -> None:
        self._directory = directory
        self._cache = cache
        self._upstream = upstream
        self._encode = encode
        self._max_unsigned_size = max_unsigned_size

    async def bake(self, hash_part: str) -> None:
        """Compute the URN of an item whose narinfo is in the cache.

        Raises: FetchFailed, InvalidNar, HashMismatch; TryLater, if the store fails; OSError.
        """
        found = self._cache.find(hash_part)
        if found is None or (found.eris and found.eris.done_for(self._encode.destination)):
            return
        directory = await in_thread(self._directory.temporary)
        try:
            target = directory / found.narinfo.item.base_name
            await self._fetch(found, target)
            result = await self._encode(str(target), found.narinfo.item.base_name)
        finally:
            await in_thread(remove_item, str(directory))
        # The narinfo may have been fetched anew meanwhile.
        newest = self._cache.find(hash_part) or found
        if newest.narinfo.item.nar_hash == found.narinfo.item.nar_hash:
            await in_thread(self._cache.keep, replace(newest, eris=result))

    async def _fetch(self, found: Mirrored, target: Path) -> None:
        failure: Exception = FetchFailed("the narinfo has no nar that can be read")
        item = found.narinfo.item
        is_signed = "NarSize" in found.narinfo.signed_fields
        limit = item.nar_size if is_signed else self._max_unsigned_size
        for url in _in_order(found.narinfo):
            unpacking = _Unpacking(item, limit, target, _METHODS[url.compression])
            try:
                async with self._upstream.nar(found.server, url.url) as pieces:
                    async for piece in pieces:
                        await in_thread(unpacking.feed, piece)
                await in_thread(unpacking.finish)
                return
            except (FetchFailed, InvalidServer, InvalidNar, CompressionError) as error:
                _log.info("%s of %s: %s", url.compression, item.base_name, error)
                failure = error
            finally:
                await in_thread(unpacking.close)
            await in_thread(remove_item, str(target))
        raise failure


def _in_order(narinfo: Narinfo) -> Sequence[NarUrl]:
    """The nars that can be read, the smallest first."""
    known = [url for url in narinfo.urls if url.compression in _METHODS]
    if all(url.file_size is not None for url in known):
        return sorted(known, key=lambda url: url.file_size or 0)
    return sorted(known, key=lambda url: _PREFERRED.index(url.compression))


class _Unpacking:
    """A nar of at most `limit` bytes on its way to files. For worker threads, a call at a time."""

    def __init__(self, item: StoreItem, limit: int, target: Path, method: Compression) -> None:
        self._item = item
        self._limit = limit
        self._decompressor = decompressor(method)
        self._reader = NarReader()
        self._restorer = ItemRestorer(str(target))
        self._state = hashlib.sha256()
        self._received = 0
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take some bytes as they came."""
        self._received += len(data)
        # Much more than the nar itself is no compression of it: there are formats that may hold
        # any number of bytes that stand for nothing.
        if self._received > self._limit + self._limit // 16 + _SLACK:
            raise FetchFailed("more was sent than the nar can take")
        for piece in self._decompressor.feed(data, _BOUND):
            self._size += len(piece)
            if self._size > self._limit:
                raise FetchFailed(f"the nar has more than {self._limit} bytes")
            self._state.update(piece)
            self._restorer.write(self._reader.feed(piece))

    def finish(self) -> None:
        """Check that it was all, and what it should be."""
        self._decompressor.finish()
        self._reader.finish()
        if self._state.digest() != self._item.nar_hash:
            raise HashMismatch(self._item.nar_hash, self._state.digest())
        self._restorer.finish()

    def close(self) -> None:
        """Close what is open."""
        self._restorer.close()
