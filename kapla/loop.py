"""The event loop of commands and of the daemon: names hold up no end, a reader no time-out.

asyncio asks the resolver in a thread of its pool, and waits for all of these before it ends. A
resolver that gets no answer takes half a minute and more, long after whoever asked gave it up.

The time of this loop stands still while it is stuck in a write to whoever takes the output.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from kapla import held_up

__all__ = ["Loop", "aside"]

_T = TypeVar("_T")


class Loop(asyncio.SelectorEventLoop):
    """asyncio's own, but for its time, and the thread that asks the resolver: it may be left."""

    def time(self) -> float:
        """Seconds, without those in which the output held us up."""
        return super().time() - held_up.seconds()

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Ask the resolver, as `socket.getaddrinfo` does.

        Raises: OSError, UnicodeError.
        """
        return await aside(
            "kapla-resolver",
            lambda: socket.getaddrinfo(host, port, family, type, proto, flags),
        )


async def aside(name: str, call: Callable[[], _T]) -> _T:
    """Do something in a thread of its own, which holds up no end: it may be left behind.

    Raises: what `call` raises.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_T] = loop.create_future()

    def settle(found: _T | None, error: Exception | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(cast(_T, found))

    def ask() -> None:
        found, failed = None, None
        try:
            found = call()
        except Exception as error:
            failed = error
        # The loop may have ended meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, found, failed)

    threading.Thread(target=ask, name=name, daemon=True).start()
    return await answer
