"""Requests that wait until there is room for them on the connection, in order.

What nobody waits for any more is dropped when its turn comes, and before that whenever so much has
been given up that it would be felt: a slow store may take long to come to it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from kapla.coap.asked import Asked
from kapla.coap.lot import Lot

__all__ = ["Waiting"]

# So many may wait, or so many bytes of them, before those that were cancelled are looked for, and
# then twice what is left: a question about a thousand blocks is as large as three hundred GETs.
_LEAST_FORGOTTEN: Final = 4096
_LEAST_FORGOTTEN_BYTES: Final = 1024 * 1024


class Waiting:
    """A queue of single requests, and of lots, of which some may have been sent."""

    def __init__(self) -> None:
        self._queue: deque[Asked | Lot] = deque()
        self._forget_at = _LEAST_FORGOTTEN
        # Bytes that began to wait since those were looked for, and that were left then.
        self._queued = 0
        self._forget_at_bytes = _LEAST_FORGOTTEN_BYTES

    def __bool__(self) -> bool:
        """Whether anything may wait: it may all be given up."""
        return bool(self._queue)

    @property
    def requests(self) -> int:
        """How many requests wait."""
        return sum(len(one) if isinstance(one, Lot) else 1 for one in self._queue)

    def add(self, one: Asked | Lot) -> None:
        """Have one more wait, behind all others."""
        self._queue.append(one)
        self._queued += _size_of(one)
        if len(self._queue) > self._forget_at or self._queued > self._forget_at_bytes:
            self._forget_given_up()

    def take(self) -> Asked | Lot | None:
        """Take the first that somebody waits for."""
        while self._queue:
            one = self._queue.popleft()
            if not one.future.done():
                return one
        return None

    def put_back(self, lot: Lot) -> None:
        """It is first again: there was room for some of it only."""
        self._queue.appendleft(lot)

    def take_all(self) -> list[Asked]:
        """Take all that somebody waits for, each request by itself."""
        taken: list[Asked] = []
        while (one := self.take()) is not None:
            taken += one.rest() if isinstance(one, Lot) else [one]
        return taken

    def _forget_given_up(self) -> None:
        self._queue = deque(one for one in self._queue if not one.future.done())
        self._forget_at = max(_LEAST_FORGOTTEN, 2 * len(self._queue))
        self._queued = sum(map(_size_of, self._queue))
        self._forget_at_bytes = max(_LEAST_FORGOTTEN_BYTES, 2 * self._queued)


def _size_of(one: Asked | Lot) -> int:
    """Bytes that wait."""
    return one.size if isinstance(one, Lot) else len(one.body)
