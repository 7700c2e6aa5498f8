"""Listing a whole store, some blocks at a time: one page after the other, whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from eris.threads import in_thread
from kapla.storage.port import Page

__all__ = ["Pages"]


class Pages:
    """The list of what a store has: see `kapla.storage.port.Listing`."""

    def __init__(self, read: Callable[[int], Page]) -> None:
        """`read`: reads the page at a place, in a thread, and may raise StoreUnavailable."""
        self._read = read
        self._turn = asyncio.Lock()

    async def page(self, start: int) -> Page:
        """Read the page that begins at a place: 0, or where another page says to go on.

        Raises: StoreUnavailable.
        """
        async with self._turn:
            # To its end, whoever loses interest: the next one waits for it.
            return await in_thread(self._read, start)
