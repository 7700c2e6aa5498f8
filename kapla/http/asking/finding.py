"""Which of many blocks a server of HTTP has: nothing there is made to be asked that.

A HEAD costs a round trip and some hundred bytes, sixteen at a time. A batch tells of 256 blocks in
one, but gives those that are there, too: of small ones that costs less than HEADs do, of large ones
much more. A content has blocks of one size, so that a few of them tell which way is the cheaper.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from eris.errors import BlockNotFound
from eris.model import BlockSize, Reference
from kapla.errors import WrongBlock
from kapla.http.asking.batches import Batches
from kapla.http.asking.exchange import MOST_CONNECTIONS
from kapla.http.asking.patience import Patience
from kapla.http.asking.single import Given, Single
from kapla.http.wire.batch import MAX_REFERENCES

__all__ = ["find_blocks"]

# So many are asked for first: what they are costs little, whatever they are.
_SAMPLE: Final = 8
_STEP: Final = 4 * MAX_REFERENCES


async def find_blocks(
    references: Sequence[Reference], single: Single, batches: Batches | None, patience: Patience
) -> list[bool]:
    """Tell for each reference, however many there are, whether its block is there.

    Raises: StoreUnavailable.
    """
    left = list(dict.fromkeys(references))
    sizes: dict[Reference, int | None] = {}
    step, is_large = _SAMPLE, False
    while left:
        some, left = left[:step], left[step:]
        if batches is None or batches.is_there is False or is_large:
            found = await _ask_by_head([*some, *left], single, patience)
            left = []
        else:
            found = await _ask_by_batch(some, batches)
        sizes |= found
        is_large = BlockSize.LARGE in found.values()
        step = _STEP
    return [sizes[reference] is not None for reference in references]


async def _ask_by_batch(
    references: Sequence[Reference], batches: Batches
) -> dict[Reference, int | None]:
    asked = [batches.want(reference, _size) for reference in references]
    return dict(zip(references, await _all(asked), strict=True))


def _size(given: Given) -> int:
    return len(given.data)


async def _ask_by_head(
    references: Sequence[Reference], single: Single, patience: Patience
) -> dict[Reference, int | None]:
    """Some at a time, each as soon as there is a place: the rest is not even begun."""
    sizes: dict[Reference, int | None] = {}
    waiting = iter(references)

    async def work() -> None:
        for reference in waiting:
            sizes[reference] = await patience.run(partial(single.size, reference))

    workers = min(MOST_CONNECTIONS, len(references))
    await _all([asyncio.ensure_future(work()) for _ in range(workers)])
    return sizes


async def _all(asked: Iterable[asyncio.Future[int | None]]) -> list[int | None]:
    """What each says; None for a block that is not there, or is another one.

    Raises: the first other error; nothing is asked any more then.
    """
    asked = list(asked)
    try:
        answers = []
        for one in asked:
            try:
                answers.append(await one)
            except (BlockNotFound, WrongBlock):
                answers.append(None)
        return answers
    finally:
        for one in asked:
            one.cancel()
