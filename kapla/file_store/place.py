"""The file of a store while this process uses it: first to read, and once there is need to write.

All in this process who use one file share one `Place`, in which it is open once. That is not for
thrift: when a process closes any descriptor of a file it loses SQLite's locks on it, and the system
would not let a process wait for itself either. So it is closed for reading before it is opened for
writing, under the lock; from then on all goes by what writes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from eris.errors import ErisError, StoreUnavailable
from kapla.errors import StorageError
from kapla.file_store.limits import settings_of
from kapla.file_store.turn import take_turn
from kapla.storage.access import BlockAccess, Rights, Statistics
from kapla.storage.batching import BatchedStorage
from kapla.storage.sqlite.reading import ReadingStorage
from kapla.storage.sqlite.state import SqliteSettings

if TYPE_CHECKING:
    from kapla.file_store.inside import Inside

__all__ = ["Place"]

_T = TypeVar("_T")

_READING: Final = Rights(get=True, stat=True, admin=True)
_WRITING: Final = Rights(get=True, put=True, stat=True, admin=True)

_places: dict[tuple[int, str], Place] = {}


class Place:
    """A file, and how it is open now. By `Place.of`, and given back by `leave`."""

    def __init__(self, path: Path, key: tuple[int, str]) -> None:
        self.path = path
        self._key = key
        self._users = 0
        self._storage: BatchedStorage | ReadingStorage | None = None
        self.access: BlockAccess | None = None
        """The blocks, while it is open; None also while it is opened otherwise."""
        self.writes = False
        """Whether `access` takes blocks."""
        self._inside: Inside | None = None
        self._lock: int | None = None
        # One thing at a time is opened or closed.
        self._turn = asyncio.Lock()
        self._writing: asyncio.Task[BlockAccess] | None = None

    @classmethod
    def of(cls, path: Path) -> Place:
        """The one place of a file in this event loop, with one user more."""
        key = id(asyncio.get_running_loop()), os.path.realpath(path)
        place = _places.setdefault(key, cls(path, key))
        place._users += 1
        return place

    @property
    def is_there(self) -> bool:
        """Whether there is a file, or something else that stands in its place."""
        return os.path.lexists(self.path)

    async def read(self) -> BlockAccess:
        """The blocks, to be read at least.

        Raises: StoreUnavailable.
        """
        while self.access is None:
            await _to_its_end(self._read())
            # Before we go on it may be closed again, to be opened for writing.
        return self.access

    async def write(self, timeout_s: float, on_wait: Callable[[], None]) -> BlockAccess:
        """The blocks, to be added to: waits for the lock for so long at the most.

        Raises: StoreUnavailable, naming who has it; StoreRefused, where we may not; ConfigError.
        """
        if self.access is not None and self.writes:
            return self.access
        if self._writing is None or self._writing.done():
            # One waits for all; that one of them loses interest does not stop it.
            self._writing = asyncio.ensure_future(self._write(timeout_s, on_wait))
        writing = self._writing
        await asyncio.wait([writing])
        if writing.cancelled():
            raise StoreUnavailable(f"the store {self.path} was closed")
        return writing.result()

    def inside(self) -> Inside:
        """What answers requests about the store as it is open now."""
        assert self.access is not None
        if self._inside is None:
            # aiocoap is loaded by those who ask for more than blocks.
            from kapla.file_store.inside import Inside

            self._inside = Inside(self.access, self.report)
        return self._inside

    async def report(self) -> dict[str, Any]:
        """What the store holds: the facts of `kapla stat`, as far as they are a file's."""
        await self.read()
        assert self._storage is not None
        blocks, database_bytes = await self._storage.totals()
        settings = self._storage.settings
        assert isinstance(settings, SqliteSettings)
        return {
            "blocks": {str(size): count for size, count in sorted(blocks.items())},
            "bytes": {str(size): size * count for size, count in sorted(blocks.items())},
            "database_bytes": database_bytes,
            "max_size": settings.max_size,
            "min_free": settings.min_free,
            "when_full": settings.when_full,
        }

    async def leave(self) -> None:
        """One user less; with the last one everything is finished, closed and given back."""
        self._users -= 1
        if self._users:
            return
        _places.pop(self._key, None)
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        await _to_its_end(self._close())

    async def _close(self) -> None:
        async with self._turn:
            await self._shut()
            lock, self._lock = self._lock, None
            if lock is not None:
                os.close(lock)

    async def _read(self) -> None:
        async with self._turn:
            if self.access is not None:
                return
            if not self.is_there:
                raise StoreUnavailable(f"there is no store {self.path}")
            # What is only read has no limits; wrong settings are told to whoever writes.
            settings = await asyncio.to_thread(settings_of, self.path, may_be_wrong=True)
            storage = ReadingStorage(replace(settings, reads_only=True))
            await self._open(storage, _READING)

    async def _write(self, timeout_s: float, on_wait: Callable[[], None]) -> BlockAccess:
        settings = await asyncio.to_thread(settings_of, self.path)
        lock = await take_turn(self.path, timeout_s, on_wait)
        # Not to be cancelled in between: what is open then must be known.
        return await _to_its_end(self._open_to_write(BatchedStorage(settings), lock))

    async def _open_to_write(self, storage: BatchedStorage, lock: int) -> BlockAccess:
        try:
            async with self._turn:
                await self._shut()
                access = await self._open(storage, _WRITING)
        except BaseException:
            os.close(lock)
            raise
        self._lock, self.writes = lock, True
        return access

    async def _open(self, storage: BatchedStorage | ReadingStorage, rights: Rights) -> BlockAccess:
        self._storage = storage
        try:
            await storage.open()
        except BaseException as error:
            await self._shut()
            if isinstance(error, StorageError):
                raise StoreUnavailable(str(error)) from error
            raise
        # To who only reads, one kind of storage is as good as the other.
        self.access = BlockAccess(storage, rights, Statistics())  # type: ignore[arg-type]
        return self.access

    async def _shut(self) -> None:
        storage, self._storage = self._storage, None
        self.access = self._inside = None
        self.writes = False
        if storage is not None:
            await storage.close()


async def _to_its_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Wait for something that is done whole, though whoever waits may be cancelled."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            with suppress(ErisError, StorageError):
                task.result()
        raise
