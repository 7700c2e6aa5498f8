"""What is not stored, of seeds: blocks that programs of this machine make again from files.

What they have is public, so it is given here as what is lent is. Peers are not asked: what they
have is not for the world.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from eris.errors import ErisError
from eris.model import Reference
from kapla.coap.beyond import Found, FoundDone, Reach

__all__ = ["Looked", "with_seeds"]

_SEEDS_ALONE: Final = 0


class Looked(NamedTuple):
    """What was found."""

    blocks: list[bytes | None]
    made: tuple[int, int] = (0, 0)
    """Of seeds: how many, and their bytes."""


async def with_seeds(
    reach: Reach | None, references: Sequence[Reference], blocks: Sequence[bytes | None]
) -> Looked:
    """Ask seeds for those of the blocks that are None."""
    missing = [place for place, block in enumerate(blocks) if block is None]
    if reach is None or not missing or not reach.reaches(_SEEDS_ALONE):
        return Looked(list(blocks))
    made = await _made(reach, [references[place] for place in missing])
    found = list(blocks)
    for place, block in zip(missing, made, strict=True):
        found[place] = block
    sizes = [len(block) for block in made if block is not None]
    return Looked(found, (len(sizes), sum(sizes)))


async def _made(reach: Reach, references: Sequence[Reference]) -> list[bytes | None]:
    loop = asyncio.get_running_loop()
    # Of this request alone: if the client goes, nothing is waited for.
    asker = object()
    futures: list[asyncio.Future[Found | ErisError]] = []
    try:
        for reference in references:
            future: asyncio.Future[Found | ErisError] = loop.create_future()
            futures.append(future)
            reach.fetch(reference, _SEEDS_ALONE, asker, _setter(future))
        results = [await future for future in futures]
    finally:
        reach.leave(asker)
    return [result.block if isinstance(result, Found) else None for result in results]


def _setter(future: asyncio.Future[Found | ErisError]) -> FoundDone:
    def done(result: Found | ErisError) -> None:
        if not future.done():
            future.set_result(result)

    return done
