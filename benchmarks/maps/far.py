"""A store in memory that is a round trip away: what is asked at once is answered at once."""

from __future__ import annotations

import asyncio

from eris import BlockSize, MemoryStore, Reference

__all__ = ["FarStore"]


class FarStore:
    """Answers each request `rtt_s` later."""

    def __init__(self, inner: MemoryStore, rtt_s: float) -> None:
        self.asked = 0
        self._inner = inner
        self._rtt_s = rtt_s

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        """Fetch a block."""
        self.asked += 1
        await asyncio.sleep(self._rtt_s)
        return await self._inner.get(reference, block_size)
