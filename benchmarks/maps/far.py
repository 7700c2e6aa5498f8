"""A store in memory that is a round trip away, and counts how many of them are waited for."""

from __future__ import annotations

import asyncio

from eris import BlockSize, MemoryStore, Reference

__all__ = ["FarStore"]


class FarStore:
    """Answers each request `rtt_s` later, whatever else is asked at the same time."""

    def __init__(self, inner: MemoryStore, rtt_s: float) -> None:
        self.trips = 0
        """Round trips so far: a request counts on from what was answered before it was made."""
        self._inner = inner
        self._rtt_s = rtt_s

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        """Fetch a block."""
        trip = self.trips + 1
        await asyncio.sleep(self._rtt_s)
        self.trips = max(self.trips, trip)
        return await self._inner.get(reference, block_size)
