"""The sessions of one file system: a store belongs to one event loop, and there may be several."""

from __future__ import annotations

import asyncio
import os

from kapla.doors.running import background
from kapla.doors.session import Session, Settings

__all__ = ["Sessions"]


class Sessions:
    """The sessions of one file system, one for each event loop."""

    def __init__(self) -> None:
        self._open: dict[asyncio.AbstractEventLoop, tuple[int, Session]] = {}

    def get(self, settings: Settings) -> Session:
        """The one of the loop that is running."""
        loop = asyncio.get_running_loop()
        found = self._open.get(loop)
        if found is not None:
            return found[1]
        pid = os.getpid()
        # What a loop leaves behind when it ends cannot be closed any more. Other loops may come to
        # here in their threads at the same time.
        for old, (owner, _) in list(self._open.items()):
            if owner == pid and old.is_closed():
                self._open.pop(old, None)
        session = Session(settings)
        self._open[loop] = pid, session
        if loop is background().loop:
            background().keep_open(session.aclose)
        return session

    async def close(self) -> None:
        """Close the one of the loop that is running, if there is one."""
        found = self._open.pop(asyncio.get_running_loop(), None)
        if found is not None:
            await _close(found[1])

    def forgotten(self) -> None:
        """Close them: nobody has the file system any more."""
        for loop, (owner, session) in list(self._open.items()):
            # A process that is a fork shares descriptors with its parent, and must not touch them.
            if owner == os.getpid() and loop.is_running():
                loop.call_soon_threadsafe(_begin_to_close, session)


# Until they are closed; the loop keeps only weak references to its tasks.
_closing: set[asyncio.Task[None]] = set()


async def _close(session: Session) -> None:
    await session.aclose()
    if asyncio.get_running_loop() is background().loop:
        background().closed(session.aclose)


def _begin_to_close(session: Session) -> None:
    task = asyncio.get_running_loop().create_task(_close(session))
    _closing.add(task)
    task.add_done_callback(_closing.discard)
