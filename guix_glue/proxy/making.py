"""Nars that are made whole, and compared, before anybody gets anything of them.

However many clients wait for the same, it is made once; each then reads it as fast as it likes. It
ends with the last one that waits for it, and its room is free again when the last one has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final

from eris.threads import in_thread, settle
from guix_glue.errors import FetchFailed
from guix_glue.model import StoreItem
from guix_glue.proxy.bringing import Bringing
from guix_glue.proxy.outflow import Outflow
from guix_glue.proxy.spool import NoRoom, Room, Spool
from guix_glue.servers.nars import NarEnd
from guix_glue.sources.order import Source

__all__ = ["Making", "Makings"]

_PIECE: Final = 512 * 1024

# With the size: it need not be signed, and what is made has the size that was said.
_Key = tuple[bytes, int, Source]


class Making:
    """A nar that is made. Whoever joined it calls `leave`, once.

    `forget` is called when there is nothing to join any more; again is harmless.
    """

    def __init__(self, room: Room, forget: Callable[[], None]) -> None:
        self.waiting = 0
        self.is_given_up = False
        self.task: asyncio.Task[None]
        self._room = room
        self._forget = forget
        self._has_ended = False

    async def done(self) -> None:
        """Wait until it is whole and right. Raises: what is wrong with it; NoRoom."""
        await asyncio.shield(self.task)

    def leave(self) -> None:
        """It is not wanted any longer; without anybody it ends."""
        self.waiting -= 1
        if not self.waiting:
            self.is_given_up = True
            self.task.cancel()
            self._close_unused()

    async def pieces(self, offset: int, size: int) -> AsyncGenerator[bytes, None]:
        """So many bytes of it from an offset on, once it is done. Raises: OSError."""
        end = offset + size
        while offset < end:
            piece = await in_thread(self._room.read, offset, min(_PIECE, end - offset))
            offset += len(piece)
            yield piece

    def end(self) -> None:
        """The task has ended, in whatever way."""
        self._has_ended = True
        # Nobody may be there to be told what is wrong.
        if self.task.cancelled() or self.task.exception() is not None:
            self._forget()
        self._close_unused()

    def _close_unused(self) -> None:
        # Not when the task is done: until `end` somebody may still join.
        if not self.waiting and self._has_ended:
            self._forget()
            self._room.close()


class Makings:
    """All that are made, or were and are read still. `close()` it."""

    def __init__(self, bringing: Bringing, spool: Spool, longest_s: float) -> None:
        self._bringing = bringing
        self._spool = spool
        self._longest_s = longest_s
        self._under_way: dict[_Key, Making] = {}
        # Those that nobody wants end, too.
        self._tasks: set[asyncio.Task[None]] = set()

    def join(self, source: Source, item: StoreItem, end: NarEnd) -> Making:
        """The nar of an item out of a source, to be waited for. Raises: NoRoom."""
        key = item.nar_hash, item.nar_size, source
        making = self._under_way.get(key)
        if making is None or making.is_given_up:
            making = self._begin(key, item, end)
        making.waiting += 1
        return making

    async def close(self) -> None:
        """End all of them."""
        for task in self._tasks:
            task.cancel()
        await settle(*self._tasks)

    def _begin(self, key: _Key, item: StoreItem, end: NarEnd) -> Making:
        def forget() -> None:
            if self._under_way.get(key) is making:
                del self._under_way[key]

        room = self._spool.room(item.nar_size)
        making = self._under_way[key] = Making(room, forget)
        making.task = asyncio.create_task(self._make(room, key[2], item, end))
        self._tasks.add(making.task)
        # Not in the task: one that is cancelled at once never begins.
        making.task.add_done_callback(lambda _: making.end())
        making.task.add_done_callback(self._tasks.discard)
        return making

    async def _open(self, room: Room) -> None:
        try:
            await in_thread(room.open)
        except NoRoom as error:
            self._spool.lacks(str(error))
            raise

    async def _make(self, room: Room, source: Source, item: StoreItem, end: NarEnd) -> None:
        await self._open(room)
        outflow = Outflow(item.nar_hash, item.nar_size, held=0)

        async def write(data: bytes) -> None:
            await in_thread(room.write, data)

        try:
            async with asyncio.timeout(self._longest_s):
                await self._bringing.bring(source, item, outflow, write, end)
        except NoRoom as error:
            self._spool.failed(str(error))
            raise
        except TimeoutError as error:
            raise FetchFailed(str(error) or "nothing comes any more") from error
        self._spool.works()
