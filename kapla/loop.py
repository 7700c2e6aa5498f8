"""The event loop of commands and of the daemon: one whose look-ups of names do not hold up its end.

asyncio asks the resolver in a thread of its pool, and waits for all of these before it ends. A
resolver that gets no answer takes half a minute and more, long after whoever asked gave it up.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any

__all__ = ["Loop"]


class Loop(asyncio.SelectorEventLoop):
    """asyncio's own, but for the thread that asks the resolver: it may be left behind."""

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
        answer: asyncio.Future[list[Any]] = self.create_future()

        def settle(found: list[Any] | Exception) -> None:
            if answer.done():
                return
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def ask() -> None:
            found: list[Any] | Exception
            try:
                found = socket.getaddrinfo(host, port, family, type, proto, flags)
            except Exception as error:
                found = error
            # The loop may have ended meanwhile.
            with contextlib.suppress(RuntimeError):
                self.call_soon_threadsafe(settle, found)

        threading.Thread(target=ask, name="kapla-resolver", daemon=True).start()
        return await answer
