"""Packs that were made are given to the daemon, so that none is made twice while it has room.

Some wait for their turn; one that comes when too many do is left out, and made again if it is
wanted again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from typing import Final, Protocol

from eris.errors import ErisError
from eris.model import Reference
from guix_glue.servers.complaints import Complaints

__all__ = ["Lender", "Lending"]

_log = logging.getLogger(__name__)

_MOST_WAITING: Final = 4
"""Packs, of 16 MiB at most."""

Blocks = Mapping[Reference, bytes]


class Lender(Protocol):
    """Where blocks are put, to be lent for as long as they are there."""

    async def lend(self, blocks: Blocks) -> None:
        """Put these. Raises: ErisError."""
        ...


class Lending:
    """Puts packs into `lender`, one after the other; `run()` it."""

    def __init__(self, lender: Lender) -> None:
        self._lender = lender
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Blocks] = deque()
        self._wake = asyncio.Event()
        self._complaints = Complaints(_log, length=1)

    def add(self, blocks: Blocks) -> None:
        """Lend the blocks of a pack; by any thread."""
        self._loop.call_soon_threadsafe(self._add, blocks)

    def _add(self, blocks: Blocks) -> None:
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(blocks)
            self._wake.set()

    async def run(self) -> None:
        """Go on until it is cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                try:
                    await self._lender.lend(self._waiting.popleft())
                    self._complaints.withdraw("lend")
                except ErisError as error:
                    self._complaints.say("lend", f"A pack that was made is not kept: {error}")
