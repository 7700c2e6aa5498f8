"""Other settings for a store that is open: sizes, what is done when it is full, what is lent."""

from __future__ import annotations

from kapla.storage.batching import BatchedStorage
from kapla.storage.port import StoreSettings

__all__ = ["settle"]


async def settle(storage: BatchedStorage, settings: StoreSettings) -> None:
    """Let these hold from now on; what is read when a store is opened stays as it was.

    Raises: StoreUnavailable; then nothing has changed.
    """
    await storage.do(lambda writer: writer.settle(settings))
    storage.settings = settings
    storage.scrubbing.settle(settings.scrub_rate)
