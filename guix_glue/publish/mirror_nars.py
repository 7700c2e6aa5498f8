"""Nars that a mirror passes on, and keeps: what its narinfos say of them, and the replies.

A nar of which the size is known is offered as the mirror's own; when it is asked for, it comes from
the file that is kept, or is fetched, kept, and sent on at the same time. Where that cannot be the
client is sent to the server that has it, which is where all the other URLs lead, too.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Final

from eris.threads import in_thread
from guix_glue.formats.compression import Compression, longest_compressed
from guix_glue.formats.narinfo import NarUrl
from guix_glue.kept.directory import CacheDirectory
from guix_glue.publish.model import PublishOptions
from guix_glue.publish.routes import nar_url
from guix_glue.servers.nars import NarSource
from guix_glue.serving.reply import OCTETS_TYPE, TEXT_TYPE, FetchedBody, FileBody, Reply
from guix_glue.serving.tags import file_tag
from guix_glue.upstream.downloads import Downloads
from guix_glue.upstream.kept_narinfos import Mirrored
from guix_glue.upstream.kept_nars import KeptNars, NarKey
from guix_glue.upstream.nar_check import NarCheck
from guix_glue.upstream.servers import Upstream

__all__ = ["MirrorNars"]

_PIECE: Final = 256 * 1024


class MirrorNars:
    """The nars of a mirror. `close()` it."""

    def __init__(
        self,
        directory: CacheDirectory,
        upstream: Upstream,
        options: PublishOptions,
        *,
        max_bytes: int,
        max_unsigned_size: int,
        doubt: Callable[[str], Awaitable[None]],
    ) -> None:
        """`doubt` is told the hash parts of items whose nars are not as their narinfos say."""
        self._upstream = upstream
        self._options = options
        self._max_unsigned_size = max_unsigned_size
        self._kept = KeptNars(directory, max_bytes)
        self._downloads = Downloads(directory, self._kept, doubt)

    async def close(self) -> None:
        """End downloads."""
        await self._downloads.close()

    async def expire(self, before: float) -> None:
        """Remove what was not used since a time (seconds of the epoch)."""
        await in_thread(self._kept.expire, before)

    def urls(self, found: Mirrored) -> tuple[NarUrl, ...]:
        """The URLs of an item's nars, in the server's order; ours, where that can be."""
        urls = []
        seen = set[Compression]()
        for url in found.narinfo.urls:
            method = _method(url)
            # There is one URL of ours for each method.
            if method is not None and method not in seen:
                seen.add(method)
                url = self._ours(found, method) or url
            urls.append(url)
        return tuple(urls)

    async def nar(self, found: Mirrored, method: Compression) -> Reply | None:
        """A nar; None if the item has none of this method."""
        key = NarKey.of(found.narinfo.item, method)
        file = await in_thread(self._kept.open, key)
        if file is not None:
            body = FileBody(file, os.fstat(file.fileno()).st_size)
            return Reply(200, OCTETS_TYPE, body, self._options.ttl_s, tag=file_tag(file))
        source = self._source(found, method)
        if source is None:
            return None
        return await self._fetched(found, key, source) or _elsewhere(source)

    async def kept_pieces(
        self, found: Mirrored, method: Compression
    ) -> AsyncGenerator[bytes, None] | None:
        """A nar that is kept; None if it is not."""
        file = await in_thread(self._kept.open, NarKey.of(found.narinfo.item, method))
        if file is None:
            return None

        async def pieces() -> AsyncGenerator[bytes, None]:
            with file:
                while piece := await in_thread(file.read, _PIECE):
                    yield piece

        return pieces()

    async def _fetched(self, found: Mirrored, key: NarKey, source: NarSource) -> Reply | None:
        size = self._size(found, source)
        if size is None:
            return None
        item = found.narinfo.item
        download = await self._downloads.join(
            key,
            size,
            lambda: (
                partial(self._upstream.nar, source, item.nar_size, length=size),
                NarCheck(source.compression, item.nar_hash, self._limit(found)),
            ),
        )
        if download is None:
            return None
        body = FetchedBody(download.pieces, size, download.leave)
        return Reply(200, OCTETS_TYPE, body, self._options.ttl_s)

    def _ours(self, found: Mirrored, method: Compression) -> NarUrl | None:
        """The URL of ours, with the size of what will be sent."""
        source = self._source(found, method)
        size = self._kept.size(NarKey.of(found.narinfo.item, method))
        if size is None and source is not None:
            size = self._size(found, source)
        if size is None:
            return None
        url = nar_url(self._options.nar_path, method, found.narinfo.item.base_name)
        same = (one for one in found.narinfo.urls if _method(one) is method)
        file_hash = next((one.file_hash for one in same if one.file_size == size), None)
        return NarUrl(url, method.value, size, file_hash)

    def _source(self, found: Mirrored, method: Compression) -> NarSource | None:
        sources = self._upstream.nar_sources(found.server, found.narinfo)
        return next((source for source in sources if source.compression is method), None)

    def _size(self, found: Mirrored, source: NarSource) -> int | None:
        """The bytes of a nar as it is sent; None if that is not known, or if it cannot be kept."""
        size = source.file_size
        if size is None and source.compression is Compression.NONE:
            size = found.narinfo.item.nar_size
        limit = self._limit(found)
        # Nothing is kept that the whole room is too small for, or that is no compression of it.
        longest = min(self._kept.max_bytes, longest_compressed(limit))
        return size if size is not None and 0 < size <= longest else None

    def _limit(self, found: Mirrored) -> int:
        is_signed = "NarSize" in found.narinfo.signed_fields
        return found.narinfo.item.nar_size if is_signed else self._max_unsigned_size


def _method(url: NarUrl) -> Compression | None:
    try:
        return Compression(url.compression)
    except ValueError:
        return None


def _elsewhere(source: NarSource) -> Reply:
    """Send the client to the server that has it."""
    return Reply(302, TEXT_TYPE, b"", headers=(("Location", source.url),))
