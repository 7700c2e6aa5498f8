"""Reading one content by offset, for many readers at once and out of order."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from eris.capability import ReadCapability
from eris.store import BlockReader
from eris_fs.reader.caches import DEFAULT_CACHE_SIZE, Caches
from eris_fs.reader.pattern import Pattern
from eris_fs.reader.small import is_small
from eris_fs.reader.spans import Part, spans_of

__all__ = ["Content", "ContentReader", "check_range"]


class ContentReader:
    """Read a content by offset, in any order and as many reads at once as one likes.

    ```python
    async with ContentReader(store, capability) as reader:
        head = await reader.read(0, 4096)
    ```

    Who reads in order has what follows fetched ahead; else only the blocks on the way are fetched.
    `cache_size` bounds the bytes that are kept, at least 4 MiB. Beside them there is what is under
    way: a quarter of that for nobody yet, and 8 MiB for each read.

    Cancelling a read disturbs no other. What fails is not kept: the next read asks again. Use it as
    an asynchronous context, or `aclose()` it. It belongs to one event loop; the store stays open.
    """

    def __init__(
        self,
        store: BlockReader,
        capability: ReadCapability,
        *,
        cache_size: int = DEFAULT_CACHE_SIZE,
    ) -> None:
        self._caches = Caches(store, cache_size)
        self._content = Content(self._caches, capability)

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
        return await self._content.find_size()

    async def read(self, offset: int, length: int) -> bytes:
        """Read up to `length` bytes from `offset`; shorter only where the content ends.

        Raises: BlockNotFound, ContentError, StoreError; ValueError for what is no range.
        """
        check_range(offset, length)
        return await self._content.read(offset, length)

    async def aclose(self) -> None:
        """Give up what is under way, and return when it has ended.

        Who waits for it, or reads later, gets StoreUnavailable.
        """
        await self._caches.aclose()


class Content:
    """One content of a reader, and how it is read."""

    __slots__ = ("_caches", "_pattern", "is_small", "row", "size")

    def __init__(self, caches: Caches, capability: ReadCapability) -> None:
        self._caches = caches
        self._pattern = Pattern()
        self.row = caches.leaves(capability)
        self.is_small = is_small(capability)
        self.size: int | None = None
        """Bytes, once they are known."""

    @property
    def whole(self) -> Part:
        """All of a content that is no larger than a span."""
        return Part(self.row, 0, self.row.span)

    async def find_size(self) -> int:
        """Find the size: a block a level, and of a small content all of it."""
        if self.size is None:
            last = await self.row.last()
            leaf = await self._caches.spans.unit(self.row, last)
            self.size = last * self.row.unit + len(leaf)
        return self.size

    async def read(self, offset: int, length: int, beside: Iterable[Part] = ()) -> bytes:
        """Read a range, and have some parts `beside` fetched ahead."""
        row = self.row
        stop = min(offset + length, row.limit)
        if offset >= stop:
            return b""
        plan = self._pattern.note(offset, stop - offset)
        ahead = beside
        if plan.ahead > stop:
            ahead = spans_of(row, stop, plan.ahead)
        return await self._caches.spans.read(row, offset, stop, in_order=plan.in_order, ahead=ahead)


def check_range(offset: int, length: int) -> None:
    """Raises: ValueError."""
    if offset < 0 or length < 0:
        raise ValueError(f"not a range of bytes: {length} from {offset}")
