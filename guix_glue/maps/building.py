"""Many items encoded by several encoders at once, and what became of each.

Each encoder has an item in the works and one that waits for it, so that none of them ever waits for
us. Which items, and in which order, is the caller's to say.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from eris.threads import settle
from guix_glue.errors import GuixError

__all__ = ["Item", "ItemEncoder", "NotEncoded", "encode_all"]

_UNDER_WAY: Final = 2


@dataclass(frozen=True, slots=True)
class Item:
    """An item to encode: its hash part, where its files are, and bytes of its nar, if known."""

    hash_part: str
    location: str
    size: int = 0


class NotEncoded(GuixError):
    """An item has no URN: it cannot be read, or its tree cannot be expressed. Others may have."""

    exit_code = 7


class ItemEncoder(Protocol):
    """Encodes one item after the other."""

    async def encode(self, location: str) -> str:
        """The URN of the item whose files are there.

        Raises: NotEncoded; any other error ends all of the work.
        """


async def encode_all(
    items: Iterable[Item],
    encoders: Sequence[ItemEncoder],
    done: Callable[[Item, str | NotEncoded], None],
) -> None:
    """Encode items; `done` is called with each, and its URN or why it has none.

    Raises: what an encoder raises that is not about one item; what `done` raises.
    """
    waiting = deque(items)

    async def work(encoder: ItemEncoder) -> None:
        while waiting:
            item = waiting.popleft()
            result: str | NotEncoded
            try:
                result = await encoder.encode(item.location)
            except NotEncoded as error:
                result = error
            done(item, result)

    tasks = [asyncio.create_task(work(one)) for one in encoders for _ in range(_UNDER_WAY)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await settle(*tasks)
