"""Encodes an item of another server: fetches its nar, checks it, restores it, makes blocks of it.

Trees are made from files, so the nar is unpacked into a temporary directory first, by the
same code that restores substitutes; only when the whole nar has the signed hash are the files
encoded. They are removed afterwards, whatever happens. A source is left as soon as it has sent more
than is signed, or than may be without a signed size, and when next to nothing comes from it. One
that failed only for now is tried again when there is no other.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Final

from eris.threads import in_thread
from guix_glue.errors import (
    CompressionError,
    FetchFailed,
    HashMismatch,
    InvalidNar,
    TemporaryFailure,
)
from guix_glue.kept.directory import CacheDirectory
from guix_glue.local.restore import remove_item
from guix_glue.local.sinks import Expected, NarSink
from guix_glue.publish.mirror_nars import MirrorNars
from guix_glue.publish.trees import EncodeTree
from guix_glue.servers.limits import MIN_RATE, NAR_STALL_S
from guix_glue.servers.nars import NarEnd, NarSource
from guix_glue.servers.patience import Patience, first_success
from guix_glue.servers.watch import Watch
from guix_glue.upstream.kept_narinfos import MirrorCache, Mirrored
from guix_glue.upstream.servers import Upstream

__all__ = ["MirrorBakery"]

_log = logging.getLogger(__name__)

_LONGEST_S: Final = 6 * 3600.0
"""No item may keep a worker busy with fetching for longer, however slowly it comes."""
# Others wait for the worker, and whoever asks for the item again starts it again.
_WAITING_S: Final = 15.0


class MirrorBakery:
    """Bakes what a mirror offers: only URNs, as nars stay where they are."""

    def __init__(
        self,
        directory: CacheDirectory,
        cache: MirrorCache,
        upstream: Upstream,
        encode: EncodeTree,
        nars: MirrorNars,
        *,
        max_unsigned_size: int,
    ) -> None:
        self._directory = directory
        self._cache = cache
        self._upstream = upstream
        self._encode = encode
        self._nars = nars
        self._max_unsigned_size = max_unsigned_size

    async def bake(self, hash_part: str) -> None:
        """Compute the URN of an item whose narinfo is in the cache.

        Raises: FetchFailed, InvalidNar, HashMismatch; TryLater, if the store fails; OSError.
        """
        found = self._cache.find(hash_part)
        if found is None or (found.eris and found.eris.done_for(self._encode.destination)):
            return
        # A whole nar is not fetched for a store that is known to fail.
        self._encode.check()
        directory = self._directory.new_name()
        try:
            await in_thread(self._directory.create_directory, directory)
            target = directory / found.narinfo.item.base_name
            await self._fetch(found, target)
            result = await self._encode(str(target), found.narinfo.item.base_name)
        finally:
            await in_thread(remove_item, str(directory))
        # The narinfo may have been fetched anew meanwhile.
        await in_thread(self._cache.keep_eris, found, result)

    async def _fetch(self, found: Mirrored, target: Path) -> None:
        failures: list[Exception] = []
        ends = defaultdict[NarSource, NarEnd](NarEnd)
        try:
            async with asyncio.timeout(_LONGEST_S):
                done = await first_success(
                    self._upstream.nar_sources(found.server, found.narinfo),
                    lambda source: self._try(source, found, target, failures, ends[source]),
                    asyncio.sleep,
                    Patience(_WAITING_S),
                )
        except TimeoutError:
            raise FetchFailed("it takes too long") from None
        if not done:
            raise (
                failures[-1] if failures else FetchFailed("the narinfo has no nar that can be read")
            )

    async def _try(
        self,
        source: NarSource,
        found: Mirrored,
        target: Path,
        failures: list[Exception],
        end: NarEnd,
    ) -> bool | None:
        """Fetch one nar. Raises: TemporaryFailure, if it may come in a moment."""
        item = found.narinfo.item
        try:
            await self._pour(source, found, target, end)
            return True
        except (FetchFailed, InvalidNar, CompressionError) as error:
            server = found.server.shown
            _log.info("The nar of %s that %s names: %s", item.base_name, server, error)
            failures.append(error)
            await in_thread(remove_item, str(target))
            if isinstance(error, TemporaryFailure):
                raise
            return None

    async def _pour(self, source: NarSource, found: Mirrored, target: Path, end: NarEnd) -> None:
        item = found.narinfo.item
        is_signed = "NarSize" in found.narinfo.signed_fields
        expected = Expected(item.nar_hash, item.nar_size if is_signed else self._max_unsigned_size)
        sink = NarSink(str(target), expected, source.compression)
        nar = await self._pieces(found, source, end)
        try:
            async with Watch(NAR_STALL_S, MIN_RATE) as watch, aclosing(nar) as pieces:
                async for piece in pieces:
                    watch.touch(len(piece))
                    watch.pause()
                    await in_thread(sink.write, piece)
                    watch.resume()
            await in_thread(sink.finish)
        except (InvalidNar, CompressionError, HashMismatch) as error:
            judged = end.judge(error)
            if judged is error:
                raise
            raise judged from error
        except TimeoutError as error:
            raise FetchFailed(str(error) or "nothing comes any more") from None
        finally:
            await in_thread(sink.close)

    async def _pieces(
        self, found: Mirrored, source: NarSource, end: NarEnd
    ) -> AsyncGenerator[bytes, None]:
        """A nar, from what is kept if it is there."""
        kept = await self._nars.kept_pieces(found, source.compression)
        return kept or self._upstream.nar(source, found.narinfo.item.nar_size, end)
