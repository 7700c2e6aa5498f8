"""A store of blocks under watch: each block that comes is progress."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from eris.model import BlockSize, Reference
from eris.store import BlockReader
from guix_glue.servers.watch import Watch

__all__ = ["WatchedStore"]


class WatchedStore:
    """A store of which every block that comes is progress."""

    def __init__(self, store: BlockReader, watch: Watch) -> None:
        self._store = store
        self._watch = watch

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        """Fetch a block: see `eris.store.BlockReader`."""
        future = asyncio.ensure_future(self._store.get(reference, block_size))
        future.add_done_callback(self._came)
        return future

    def _came(self, future: asyncio.Future[bytes]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._watch.touch(len(future.result()))
