"""The daemon, as a seed uses it besides: to read indexes of trees, and to keep packs."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping

from eris.model import BlockSize, Reference
from eris.put_window import PutWindow
from kapla.client import RemoteStore
from kapla.errors import PinsUnsupported
from kapla.pinning import Pins
from kapla.urls import StoreUrl

__all__ = ["SeedStore"]

_WINDOW = 256


class SeedStore:
    """The store at `url`. `close()` it."""

    def __init__(self, url: StoreUrl) -> None:
        # Two connections: a pin is of one, and holds whatever is put there.
        self._reading = RemoteStore(url)
        self._writing = RemoteStore(url)

    async def close(self) -> None:
        """Close the connections."""
        await self._reading.close()
        await self._writing.close()

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        """See `eris.store.BlockReader`."""
        return self._reading.get(reference, block_size)

    async def lend(self, blocks: Mapping[Reference, bytes]) -> None:
        """Keep blocks for as long as there is room, and lend them. Raises: StoreError."""
        try:
            pin = await Pins(self._writing).open()
        except PinsUnsupported:
            await self._put(blocks)
            return
        async with pin:
            await self._put(blocks)
            await pin.lend()

    async def _put(self, blocks: Mapping[Reference, bytes]) -> None:
        async with PutWindow(self._writing, _WINDOW) as puts:
            await puts.add(list(blocks.items()))
