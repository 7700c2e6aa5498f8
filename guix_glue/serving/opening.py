"""Opens in worker threads what replies send; nothing stays open when nobody wants it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from eris.threads import settle, start_in_thread

__all__ = ["opened_in_thread"]


class _Open(Protocol):
    def close(self) -> None: ...


P = ParamSpec("P")
T = TypeVar("T", bound=_Open)


async def opened_in_thread(
    function: Callable[P, T | None], *args: P.args, **kwargs: P.kwargs
) -> T | None:
    """As `in_thread`, of what opens something: when cancelled, that is closed again."""
    call = start_in_thread(function, *args, **kwargs)
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await settle(call)
        if call.exception() is None and (opened := call.result()) is not None:
            opened.close()
        raise
