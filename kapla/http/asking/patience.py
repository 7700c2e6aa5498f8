"""Which failures of a server are waited out, and for how long.

A connection that is lost is made again once, at once: a server may have ended one that was idle
just as it was used. A server that has answered before is then tried to be reached for
`reconnect_s`, with pauses that grow. One that asks to be left alone for a moment is left alone.
Nobody waits longer than half a minute for that, nor where the block can be had elsewhere: then it
is not asked until the time has come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from eris.errors import StoreUnavailable
from kapla.errors import CannotConnect
from kapla.http.asking.failures import Busy, ConnectionLost

__all__ = ["Patience"]

T = TypeVar("T")

_LONGEST_WAIT_S: Final = 30.0
_MOST_WAITS: Final = 3
# A server that names tomorrow is asked again today.
_LONGEST_ABSENCE_S: Final = 300.0
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0


class Patience:
    """With one server. `on_lost` is told `reconnect_s` when that time begins."""

    def __init__(
        self,
        name: str,
        *,
        reconnect_s: float = 0.0,
        has_others: bool = False,
        on_lost: Callable[[float], None] | None = None,
    ) -> None:
        self._name = name
        self._reconnect_s = 0.0 if has_others else reconnect_s
        self._has_others = has_others
        self._on_lost = on_lost
        self._not_before = 0.0
        self._until: float | None = None
        """While it is tried to be reached again: until when."""
        self.is_answering = False
        """Whether the last that is known of it is that it answered."""
        self._has_answered = False

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Do this until it is done, or waiting is vain.

        Raises: StoreUnavailable; whatever else `attempt` does.
        """
        waits, is_second, pause_s = 0, False, _FIRST_PAUSE_S
        while True:
            await self._keep_away()
            try:
                result = await attempt()
            except Busy as error:
                waits += 1
                self._answered()
                self._leave_alone(error, waits)
            except (ConnectionLost, CannotConnect) as error:
                if isinstance(error, ConnectionLost) and not is_second:
                    is_second = True
                    continue
                self.is_answering = False
                if not self._may_come_back():
                    raise
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            except StoreUnavailable:
                self.is_answering = False
                raise
            else:
                self._answered()
                return result

    def _answered(self) -> None:
        self.is_answering = self._has_answered = True
        self._until = None

    def _may_come_back(self) -> bool:
        if not self._has_answered or not self._reconnect_s:
            return False
        if self._until is None:
            self._until = _now() + self._reconnect_s
            if self._on_lost is not None:
                self._on_lost(self._reconnect_s)
        return _now() < self._until

    def _leave_alone(self, error: Busy, waits: int) -> None:
        absence_s = min(error.after_s, _LONGEST_ABSENCE_S)
        self._not_before = max(self._not_before, _now() + absence_s)
        if self._has_others or waits > _MOST_WAITS or absence_s > _LONGEST_WAIT_S:
            raise error

    async def _keep_away(self) -> None:
        left_s = self._not_before - _now()
        if left_s <= 0:
            return
        if self._has_others or left_s > _LONGEST_WAIT_S:
            raise Busy(self._name, left_s)
        await asyncio.sleep(left_s)


def _now() -> float:
    return asyncio.get_running_loop().time()
