"""A store that is open in one event loop, and the readers of what was read last.

A tree is read by way of its index, which costs some time to fetch; so the readers of the last few
contents are kept. A content that is no tree is read as a tree that is one file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from eris.capability import ReadCapability
from eris.transfer import read_content
from eris_fs.manifest import MAGIC, looks_like_tree
from eris_fs.model import Path, RegularFile, Tree
from eris_fs.reader import EntryInfo, Kind, TreeReader
from kapla.client import open_store
from kapla.doors.links import follow
from kapla.urls import StoreUrl

__all__ = ["DEFAULT_RECONNECT_S", "Session", "Settings"]

DEFAULT_RECONNECT_S: Final = 30.0
"""How long a lost connection is tried to be had again: a daemon that is restarted takes less."""

_KEPT: Final = 4
"""Readers that are kept when nobody uses them, each with its cache."""

_CLOSE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Where a store is, and how it is read.

    `times` go to `kapla.client.open_store`; `cache_size` is in bytes, for each content.
    """

    urls: tuple[StoreUrl, ...]
    times: tuple[tuple[str, float], ...]
    cache_size: int


@dataclass(slots=True)
class _Reader:
    """A reader, once it is there, and how many use it."""

    users: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    reader: TreeReader | None = None


class Session:
    """A store and readers of what is in it; everything is called in one event loop."""

    def __init__(self, settings: Settings) -> None:
        times: dict[str, Any] = dict(settings.times)
        self.store = open_store(settings.urls, **times)
        self._cache_size = settings.cache_size
        # The one that was used last is the last.
        self._readers: dict[bytes, _Reader] = {}

    @asynccontextmanager
    async def reader(self, capability: ReadCapability) -> AsyncIterator[TreeReader]:
        """Read a content, or a tree.

        Raises: InvalidManifest, BlockNotFound, ContentError, StoreError.
        """
        key = capability.to_bytes()
        entry = self._readers.pop(key, None) or _Reader()
        self._readers[key] = entry
        entry.users += 1
        try:
            if entry.reader is None:
                async with entry.lock:
                    if entry.reader is None:
                        entry.reader = await self._open(capability)
            yield entry.reader
        finally:
            entry.users -= 1
            if entry.reader is None and not entry.users:
                self._readers.pop(key, None)
            if len(self._readers) > _KEPT:
                await self._let_go()

    async def find(self, capability: ReadCapability, path: Path, *, size: bool = True) -> EntryInfo:
        """Tell what is at a path, symlinks followed, and with `size` how large a file is.

        Raises: as `reader`; PathError.
        """
        async with self.reader(capability) as reader:
            info = follow(reader.info, path)
            if size and info.kind is Kind.FILE and info.size is None:
                await reader.size(info.path)
                info = reader.info(info.path)
            return info

    async def read(self, capability: ReadCapability, path: Path, offset: int, length: int) -> bytes:
        """Read a range of a file: see `TreeReader.read`."""
        async with self.reader(capability) as reader:
            return await reader.read(path, offset, length)

    async def aclose(self) -> None:
        """Close the store, with all that is under way."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                readers = [entry.reader for entry in self._readers.values() if entry.reader]
                self._readers.clear()
                for reader in readers:
                    await reader.aclose()
                await self.store.close()

    async def _open(self, capability: ReadCapability) -> TreeReader:
        head = await read_content(self.store, capability, 0, len(MAGIC))
        if looks_like_tree(head):
            return await TreeReader.open(self.store, capability, cache_size=self._cache_size)
        tree: Tree = {(): RegularFile(capability)}
        return TreeReader(self.store, tree, cache_size=self._cache_size)

    async def _let_go(self) -> None:
        """Close what has not been used for longest, where too much is kept."""
        idle = [key for key, entry in self._readers.items() if not entry.users]
        for key in idle[: max(0, len(idle) - _KEPT)]:
            reader = self._readers.pop(key).reader
            if reader is not None:
                await reader.aclose()
