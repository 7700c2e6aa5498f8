"""Items into the store of a Guix daemon: each as an archive of its own, over one connection.

So each is valid before the next one comes, and what was brought stays while the connection does,
whatever garbage is collected meanwhile. The daemon asks for the bytes; a nar that is wrong is cut
off before its end, and the daemon then has nothing of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from eris.threads import settle
from guix_glue.errors import DaemonError, ProtocolError
from guix_glue.formats.export import ARCHIVE_END, ITEM_BEGIN
from guix_glue.local.daemon import GuixDaemon
from guix_glue.local.worker_requests import import_paths, query_valid_paths
from guix_glue.model import StoreItem

__all__ = ["GuixImport", "valid_items"]

_QUESTION: Final = 1000
"""Paths in one question."""


async def valid_items(daemon: GuixDaemon, store_dir: str, names: Sequence[str]) -> set[str]:
    """Those of these base names that are valid. Raises: DaemonError, ProtocolError."""
    found: set[str] = set()
    for start in range(0, len(names), _QUESTION):
        paths = [f"{store_dir}/{name}" for name in names[start : start + _QUESTION]]
        found.update(await daemon.call(query_valid_paths(paths)))
    return {name for name in names if f"{store_dir}/{name}" in found}


class GuixImport:
    """An `ItemSink` that has the daemon import each item. `close` it."""

    def __init__(self, daemon: GuixDaemon) -> None:
        self._daemon = daemon
        self._item: StoreItem | None = None
        self._importing: asyncio.Task[tuple[str, ...]] | None = None
        # One piece at a time: the daemon says when it wants more.
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1)
        self._piece = b""
        self._given = 0

    async def begin(self, item: StoreItem) -> None:
        """See `ItemSink`."""
        self._item = item
        self._piece, self._given = b"", 0
        self._pieces = asyncio.Queue(maxsize=1)
        self._importing = asyncio.create_task(self._daemon.feed(import_paths(), self._give))
        await self.write(ITEM_BEGIN)

    async def write(self, piece: bytes) -> None:
        """See `ItemSink`. Raises: DaemonError, ProtocolError."""
        assert self._importing is not None
        putting = asyncio.ensure_future(self._pieces.put(piece))
        try:
            await asyncio.wait([putting, self._importing], return_when=asyncio.FIRST_COMPLETED)
            if not putting.done():
                # It has ended before it had all.
                self._importing.result()
                raise ProtocolError("the Guix daemon ends the import of an item in its middle")
        finally:
            putting.cancel()
            await settle(putting)

    async def complete(self, end: bytes) -> None:
        """See `ItemSink`. Raises: DaemonError, if the daemon does not take it; ProtocolError."""
        assert self._importing is not None and self._item is not None
        await self.write(end + ARCHIVE_END)
        try:
            paths = await asyncio.shield(self._importing)
        except DaemonError as error:
            text = f"{self._item.base_name}: the Guix daemon does not take it: {error.message}"
            raise DaemonError(text, error.status) from error
        self._importing = None
        if paths != (self._item.path,):
            raise ProtocolError("the Guix daemon says that it imported something else")

    async def take_back(self) -> None:
        """See `ItemSink`: the connection ends before the item does."""
        await self.close()

    async def finish(self) -> None:
        """All items are there."""

    async def close(self) -> None:
        """End what is under way."""
        importing, self._importing = self._importing, None
        if importing is not None:
            importing.cancel()
            await settle(importing)

    async def _give(self, most: int) -> bytes:
        """What the daemon asks for: never nothing, which would be the end."""
        while self._given == len(self._piece):
            self._piece, self._given = await self._pieces.get(), 0
        part = self._piece[self._given : self._given + most]
        self._given += len(part)
        return part
