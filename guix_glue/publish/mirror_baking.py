"""Encodes an item of another server: fetches its nar, checks it, restores it, makes blocks of it.

Trees are made from files, so the nar is unpacked into a temporary directory first, by the
same code that restores substitutes; only when the whole nar has the signed hash are the files
encoded. They are removed afterwards, whatever happens.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from eris_fs.threads import in_thread
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

__all__ = ["MirrorBakery", "absolute_url"]

_log = logging.getLogger(__name__)

_METHODS: Final = {method.value: method for method in Compression}
_BOUND: Final = 1024 * 1024
# When no sizes are known: what packs best first.
_PREFERRED: Final = ("lzip", "zstd", "xz", "bzip2", "gzip", "none")


def absolute_url(server: str, url: str) -> str:
    """Where a narinfo's URL leads: below the server it is from, unless it says another."""
    return url if "://" in url else f"{server}/{url}"


class MirrorBakery:
    """Bakes what a mirror offers: only URNs, as nars stay where they are."""

    def __init__(
        self, directory: CacheDirectory, cache: MirrorCache, upstream: Upstream, encode: EncodeTree
    ) -> None:
        self._directory = directory
        self._cache = cache
        self._upstream = upstream
        self._encode = encode

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
        for url in _in_order(found.narinfo):
            unpacking = _Unpacking(found.narinfo.item, target, _METHODS[url.compression])
            try:
                async with self._upstream.nar(absolute_url(found.server, url.url)) as pieces:
                    async for piece in pieces:
                        await in_thread(unpacking.feed, piece)
                await in_thread(unpacking.finish)
                return
            except (FetchFailed, InvalidNar, CompressionError) as error:
                _log.info("%s of %s: %s", url.compression, found.narinfo.item.base_name, error)
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
    """A nar on its way to files. For worker threads, one call at a time."""

    def __init__(self, item: StoreItem, target: Path, method: Compression) -> None:
        self._item = item
        self._decompressor = decompressor(method)
        self._reader = NarReader()
        self._restorer = ItemRestorer(str(target))
        self._state = hashlib.sha256()
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take some bytes as they came."""
        for piece in self._decompressor.feed(data, _BOUND):
            self._size += len(piece)
            if self._size > self._item.nar_size:
                raise FetchFailed("the nar is larger than the narinfo says")
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
