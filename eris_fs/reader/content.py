"""Reading one content by offset, for many readers at once and out of order."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from eris.capability import ReadCapability
from eris.sizing import content_size
from eris.store import BlockReader
from eris.transfer import read_content

__all__ = ["DEFAULT_CACHE_SIZE", "ContentReader"]

DEFAULT_CACHE_SIZE: Final = 64 * 1024 * 1024


class ContentReader:
    """Read a content by offset. Use as an asynchronous context, or `aclose()` it."""

    def __init__(
        self,
        store: BlockReader,
        capability: ReadCapability,
        *,
        cache_size: int = DEFAULT_CACHE_SIZE,
    ) -> None:
        self._store = store
        self._capability = capability

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def size(self) -> int:
        """Find the size in bytes, and keep it.

        Raises: BlockNotFound, ContentError, StoreError.
        """
        return await content_size(self._store, self._capability)

    async def read(self, offset: int, length: int) -> bytes:
        """Read up to `length` bytes from `offset`; shorter only where the content ends.

        Raises: BlockNotFound, ContentError, StoreError; ValueError for what is no range.
        """
        return await read_content(self._store, self._capability, offset, length)

    async def aclose(self) -> None:
        """Withdraw what is under way: who waits for it gets `StoreUnavailable`."""
