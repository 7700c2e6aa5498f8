"""Questions about more blocks than one request takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from eris.model import Reference
from kapla.coap.blocks import MAX_FETCHED

__all__ = ["ask_in_parts"]

_AT_ONCE: Final = 8


async def ask_in_parts(
    references: Sequence[Reference], ask: Callable[[Sequence[Reference]], Awaitable[list[bool]]]
) -> list[bool]:
    """Ask about any number of references, as many at once as one request takes, some at a time."""
    found: list[bool] = []
    parts = [
        references[start : start + MAX_FETCHED] for start in range(0, len(references), MAX_FETCHED)
    ]
    for first in range(0, len(parts), _AT_ONCE):
        asked = [asyncio.ensure_future(ask(part)) for part in parts[first : first + _AT_ONCE]]
        try:
            for answer in await asyncio.gather(*asked):
                found += answer
        finally:
            # After an error the others have nobody who waits for them.
            for one in asked:
                one.cancel()
    return found
