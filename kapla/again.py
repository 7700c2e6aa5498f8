"""What becomes of requests whose connection was lost, as when a daemon is restarted.

A store that has answered before, or said that it ends, is worth waiting for: for a stated time it
is tried to connect again, with pauses that grow, and what was under way is then asked once more.
That changes nothing in the store: GET, FETCH and PUT may be repeated by CoAP's rules, and of a POST
whoever asks says so. A store that was never there is not waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from eris.errors import StoreUnavailable
from kapla.coap.asked import Asked
from kapla.coap.frame import Code
from kapla.coap.requester import Requester
from kapla.errors import PinLost

__all__ = ["Again"]

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0


class Again:
    """Requests of one store that wait for its next connection, and how long they do.

    `for_s`: counted from the loss of a connection on which there were answers, or that its store
    has ended in order; 0: not at all.
    `has_others`: whether blocks can be had elsewhere; then GETs fail, and are asked there.
    `on_lost` is called with that time when waiting begins, once in it.
    """

    def __init__(
        self, for_s: float, *, has_others: bool, on_lost: Callable[[float], None] | None
    ) -> None:
        self._for_s = for_s
        self._has_others = has_others
        self._on_lost = on_lost
        self._waiting: list[Asked] = []
        self._until = self._told = 0.0
        self._pause_s = 0.0
        # Whether the last connection was ended by its store before there was an answer.
        self._was_released = False

    @property
    def is_on(self) -> bool:
        """Whether a lost connection is still waited for."""
        return _now() < self._until

    @property
    def are_some(self) -> bool:
        """Whether requests wait."""
        return bool(self._waiting)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def lost(self, *, has_answered: bool, was_released: bool = False) -> None:
        """A connection is lost: this is the time to wait for the next, if it was a good one.

        One that its store has ended before it answered is good once: some do nothing else.
        """
        is_good = has_answered or (was_released and not self._was_released)
        self._was_released = was_released and not has_answered
        if is_good and self._for_s:
            self._pause_s = 0.0
            self._until = _now() + self._for_s

    def take(self, requests: list[Asked]) -> list[Asked]:
        """Take what may be asked again; returns the others, which fail."""
        if not self.is_on:
            return requests
        taken = [asked for asked in requests if self._may_wait(asked)]
        self._waiting += taken
        if taken and self._on_lost is not None and _now() > self._told:
            self._told = self._until
            self._on_lost(self._for_s)
        return [asked for asked in requests if not self._may_wait(asked)]

    def hold(self, code: int, body: bytes, reference: bytes, size: int) -> asyncio.Future[Any]:
        """A request that waits for a connection."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(
            Asked(future, code, body, reference, size, max(0, size) + len(body), None, False)
        )
        return future

    def wait(self, requests: Sequence[Asked]) -> None:
        """Requests that wait for a connection, each with a future of its own."""
        self._waiting += requests

    async def connect(self, once: Callable[[], Awaitable[Requester]]) -> Requester:
        """Connect; where that is worth it, again and again.

        Raises: StoreUnavailable.
        """
        while True:
            if not self.is_on:
                self._pause_s = 0.0
            elif self._pause_s:
                await asyncio.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s or _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
            try:
                return await once()
            except PinLost:
                raise
            except StoreUnavailable:
                if not self.is_on:
                    raise

    def resume(self, wire: Requester) -> None:
        """Ask what waits on a new connection."""
        waiting, self._waiting = self._waiting, []
        for asked in waiting:
            if not asked.future.done():
                wire.ask_again(asked)

    def fail(self, error: BaseException) -> None:
        """There is no connection: whatever waits gets this error."""
        waiting, self._waiting = self._waiting, []
        for asked in waiting:
            if not asked.future.done():
                asked.future.set_exception(error)

    def _may_wait(self, asked: Asked) -> bool:
        if asked.code == Code.GET:
            return not self._has_others
        return asked.code != Code.POST or asked.may_be_repeated


def _now() -> float:
    return asyncio.get_running_loop().time()
