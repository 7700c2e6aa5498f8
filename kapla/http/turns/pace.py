"""When a connection by HTTP may go on: its part of the event loop's time, and of a rate.

The two are those of connections by CoAP (`kapla.coap.turns`, `kapla.coap.allowance`). A request is
answered by tasks, which run when the event loop comes to them and not while its turn lasts. So
what a request will take is counted when its turn comes, or a hundred turns would come at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from kapla.coap.allowance import Allowance, Share
from kapla.coap.origin import Origins
from kapla.coap.rate import NO_LIMIT
from kapla.coap.shares import LARGE_WEIGHT
from kapla.coap.turns import Line, Turn

__all__ = ["Pace"]

_A_REQUEST_TAKES_S: Final = 300e-6
"""Of the event loop, in tasks, from the turn of a request to its answer."""


class Pace:
    """One connection's. `feed` is called when what was not read may be; see `Turn` for `is_gone`.

    Requests of a connection are answered one after the other: there is one question at a time.
    """

    def __init__(
        self,
        line: Line,
        allowance: Allowance | None,
        feed: Callable[[], None],
        is_gone: Callable[[], bool],
    ) -> None:
        """`allowance`: what it may take and learn, with others; None: any."""
        self.turn = Turn(line, self._go_on, is_gone)
        self._share = None if allowance is None else Share(allowance, self._go_on)
        self.origins = Origins()
        """What it was given."""
        self._feed = feed
        self._wanted = 0
        self._granted: asyncio.Future[int] | None = None
        self._asked = 0
        self._has_left = False

    async def room(self, blocks: int) -> int:
        """Wait until it may ask for some of so many blocks; returns how many, at least one.

        They count as given until `settle`. For what is no block ask for none: that waits for the
        turn alone, and returns 0.
        """
        granted = self._take(blocks)
        if granted is None:
            self._wanted = blocks
            self._granted = asyncio.get_running_loop().create_future()
            try:
                granted = await self._granted
            finally:
                self._granted = None
        return granted

    def settle(self) -> None:
        """The answer is known: what it costs is told by `gave` and `told`."""
        asked, self._asked = self._asked, 0
        if self._share is not None and asked:
            self._share.answered(asked, LARGE_WEIGHT * asked)

    def gave(
        self, blocks: int, block_bytes: int, missing: int, made: tuple[int, int] = (0, 0)
    ) -> None:
        """So many blocks were given, with so many bytes together, and so many are missing.

        `made`: those of them that seeds have made, and their bytes.
        """
        self.turn.gave(blocks, missing)
        self.origins.here.add(blocks - made[0], block_bytes - made[1])
        self.origins.seeds.add(*made)
        if self._share is not None:
            self._share.gave(blocks, block_bytes, missing)

    def told(self, present: int, missing: int) -> None:
        """It was told of so many blocks that they are here, or not, and given none."""
        self.turn.gave(0, missing)
        if self._share is not None:
            self._share.told(present, missing)

    def leave(self) -> None:
        """The connection has gone, whatever is under way for it."""
        self._has_left = True
        self.turn.leave()
        self.settle()
        if self._share is not None:
            self._share.leave()

    def _take(self, blocks: int) -> int | None:
        """How many may be asked for now; None: it waits, and `_go_on` is called."""
        if self._share is None or not blocks:
            return blocks if self.turn.may_go_on() else None
        requests, kib = self._share.room()
        if not (requests and kib):
            self._share.wait()
            return None
        if not self.turn.may_go_on():
            return None
        granted = min(blocks, requests, NO_LIMIT if kib >= NO_LIMIT else -(-kib // LARGE_WEIGHT))
        self._asked = granted
        self._share.asked(granted, LARGE_WEIGHT * granted)
        return granted

    def _go_on(self) -> None:
        """Its turn has come, or there is room."""
        if self._has_left:
            return
        with self.turn:
            self._feed()
            waiting = self._granted
            if waiting is None or waiting.done():
                return
            granted = self._take(self._wanted)
            if granted is not None:
                self.turn.will_take(_A_REQUEST_TAKES_S)
                waiting.set_result(granted)
