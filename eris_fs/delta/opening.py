"""Patches become the stream, in worker threads, out of what is stored and ranges of the base.

Small patches go together, so that a delta of very many costs no thread for each.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Final

from eris.threads import in_thread
from eris_fs.delta.files import TreeFiles
from eris_fs.delta.index import WINDOW_LIMIT
from eris_fs.delta.model import Patch
from eris_fs.delta.ranges import read_ranges
from eris_fs.delta.streaming import Incoming
from eris_fs.errors import InvalidPatch
from eris_fs.packed.frame import InvalidFrame, decompress_with

__all__ = ["read_patches"]

# What one call of a thread makes and reads, unless a single patch is more.
_STEP: Final = 1024 * 1024


async def read_patches(
    incoming: Incoming, patches: Sequence[Patch], base: TreeFiles
) -> AsyncGenerator[bytes, None]:
    """Make the stream, step by step; behind the last patch the content must end.

    Raises: InvalidPatch; InvalidManifest; whatever `incoming` and `base` raise.
    """
    first = 0
    for step in _steps(patches):
        stored = await incoming.read(sum(patch.stored_size for patch in step))
        before = await read_ranges(base, [one for patch in step for one in patch.ranges])
        made = await in_thread(_apply, first, step, stored, before)
        # What it was made of is not held while it waits.
        del stored, before
        yield made
        first += len(step)
    await incoming.finish()


def _steps(patches: Sequence[Patch]) -> Iterator[list[Patch]]:
    step: list[Patch] = []
    total = 0
    for patch in patches:
        cost = patch.size + sum(one.length for one in patch.ranges)
        if step and total + cost > _STEP:
            yield step
            step, total = [], 0
        step.append(patch)
        total += cost
    if step:
        yield step


def _apply(first: int, patches: Sequence[Patch], stored: bytes, before: bytes) -> bytes:
    """Make what several patches hold, given what is stored of them and all their ranges."""
    made: list[bytes] = []
    at = place = 0
    for number, patch in enumerate(patches, first):
        length = sum(one.length for one in patch.ranges)
        prefix = before[place : place + length]
        made.append(_open(number, patch, stored[at : at + patch.stored_size], prefix))
        at, place = at + patch.stored_size, place + length
    return b"".join(made)


def _open(number: int, patch: Patch, stored: bytes, prefix: bytes) -> bytes:
    if patch.stored_size == patch.size:
        return stored
    try:
        return decompress_with(stored, prefix, patch.size, WINDOW_LIMIT)
    except InvalidFrame as error:
        raise InvalidPatch(number, str(error)) from error
