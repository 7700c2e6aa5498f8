"""Listing a whole store, some blocks at a time: the oldest generation first.

Each page is read on a connection of its own, one page at a time, whoever asks. What was put
meanwhile may be in the list or not, and what an eviction copied may be there twice.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import Final

from eris.model import Reference
from kapla.storage.port import Page
from kapla.storage.postgresql.along import Along
from kapla.storage.postgresql.places import parse_place
from kapla.storage.postgresql.session import Session
from kapla.storage.postgresql.settings import PostgresSettings

__all__ = ["PAGE", "Listing"]

PAGE: Final = 1000
"""Blocks in a page. Their references are in one message."""


class Listing:
    """The list of what a store has."""

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self._turn = asyncio.Lock()

    async def page(self, start: int) -> Page:
        """Read the page that begins behind a place: 0, or where another page says to go on.

        Raises: StoreUnavailable.
        """
        async with self._turn:
            reading = asyncio.ensure_future(asyncio.to_thread(self._read, start))
            # To its end, whoever loses interest: the next one waits for it.
            await asyncio.wait([reading])
            return reading.result()

    def _read(self, start: int) -> Page:
        with closing(Session(self._settings, "kaplad list")) as session:
            rows = Along(session).references(parse_place(start), PAGE)
        if not rows:
            return Page([], None)
        return Page([Reference(name) for _, name, _ in rows], rows[-1][0].number)
