"""Items into a store of blocks, several at once; told in the order in which they were given.

The files of an item are compared with its hash first, and looked at once more when they are
encoded: an item that was altered, or is altered meanwhile, has no URN. Others go on. Where the
store fails, nothing goes on, but what was done until then is told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from eris.capability import ReadCapability
from eris.errors import StoreError
from eris.threads import in_thread, settle
from eris_fs.errors import TreeError
from guix_glue.closures.reading import CheckedItem
from guix_glue.errors import AlteredItem, GuixError, reason_of
from guix_glue.local.items import Items
from guix_glue.model import StoreItem

__all__ = ["Encoded", "NotEncoded", "Put", "encode_items"]

Put = Callable[[str], Awaitable[ReadCapability]]
"""Encodes the tree at a path."""

# Those that wait for one before them to be done: each is a capability and a hash.
_AHEAD: Final = 64


@dataclass(frozen=True, slots=True)
class Encoded:
    """An item, what its tree became, and what a signature of it in an archive is of (32 bytes)."""

    item: StoreItem
    capability: ReadCapability = field(repr=False)
    archive_digest: bytes


@dataclass(frozen=True, slots=True)
class NotEncoded:
    """An item that was left out, and why; `altered`: its files are not what the store says."""

    item: StoreItem
    reason: str
    altered: bool


async def encode_items(
    items: Items, ordered: Sequence[StoreItem], put: Put, *, jobs: int
) -> AsyncGenerator[Encoded | NotEncoded, None]:
    """Encode items, `jobs` at once. Close the iterator if it is not read to its end.

    Raises: StoreError, after all that is done was told.
    """
    slots = asyncio.Semaphore(jobs)
    left = iter(ordered)
    under_way: deque[asyncio.Task[Encoded | NotEncoded]] = deque()

    def begin_more() -> None:
        while len(under_way) < jobs + _AHEAD and (item := next(left, None)) is not None:
            under_way.append(asyncio.create_task(_encoded(items, item, put, slots)))

    try:
        begin_more()
        while under_way:
            await asyncio.wait([under_way[0]])
            if (failed := _failure(under_way)) is not None:
                for task in under_way:
                    if task.done() and not task.cancelled() and task.exception() is None:
                        yield task.result()
                raise failed
            yield under_way.popleft().result()
            begin_more()
    finally:
        for task in under_way:
            task.cancel()
        await settle(*under_way)


def _failure(tasks: Sequence[asyncio.Task[Encoded | NotEncoded]]) -> BaseException | None:
    """What ended one of these, if one has failed: all others would fail, too."""
    ended = (task.exception() for task in tasks if task.done() and not task.cancelled())
    return next((error for error in ended if error is not None), None)


async def _encoded(
    items: Items, item: StoreItem, put: Put, slots: asyncio.Semaphore
) -> Encoded | NotEncoded:
    async with slots:
        try:
            return await _encode(item, items.location(item), put)
        except StoreError:
            raise
        except (GuixError, TreeError, OSError) as error:
            where = f"{name}: " if isinstance(name := getattr(error, "filename", None), str) else ""
            altered = isinstance(error, AlteredItem)
            reason = str(error) if altered else f"{item.base_name}: {where}{reason_of(error)}"
            return NotEncoded(item, reason, altered)


async def _encode(item: StoreItem, location: str, put: Put) -> Encoded:
    with closing(CheckedItem(item, location)) as checked:
        await _to_the_end(checked)
        capability = await put(location)
        await in_thread(checked.begin_again)
        await _to_the_end(checked)
        return Encoded(item, capability, checked.archive_digest)


async def _to_the_end(checked: CheckedItem) -> None:
    while await in_thread(checked.step):
        pass
