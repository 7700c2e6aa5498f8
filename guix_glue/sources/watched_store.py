"""A store of blocks under watch: each block that comes is progress.

Only while a block is asked for is it the store that keeps us waiting. What has come may be much to
work on, above all that of a delta: of a few blocks it makes large files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from eris.model import BlockSize, Reference
from eris.store import BlockReader
from guix_glue.servers.watch import Watch

__all__ = ["WatchedStore"]


class WatchedStore:
    """A store of which every block that comes is progress.

    The watch pauses from now on, but for the time in which blocks are asked for.
    """

    def __init__(self, store: BlockReader, watch: Watch) -> None:
        self.received = 0
        """Bytes of all blocks that came."""
        self._store = store
        self._watch = watch
        self._asked = 0
        watch.pause()

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        """Fetch a block: see `eris.store.BlockReader`."""
        future = asyncio.ensure_future(self._store.get(reference, block_size))
        if self._asked == 0:
            self._watch.resume()
        self._asked += 1
        future.add_done_callback(self._came)
        return future

    def _came(self, future: asyncio.Future[bytes]) -> None:
        if not future.cancelled() and future.exception() is None:
            self.received += len(future.result())
            self._watch.touch(len(future.result()))
        self._asked -= 1
        if self._asked == 0:
            self._watch.pause()
