"""What a peer may take and learn in a second: bytes of blocks, and whether blocks are here.

Whether a block is here tells what its owner reads. Nobody can guess a reference, but who has a list
of them could go through it; so what is asked draws on a budget, and what is not here much more than
what is. As with all rates, nothing is refused: who has had more waits, and strangers, who share
one, in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from kapla.coap.frame import Code
from kapla.coap.rate import NO_LIMIT, ByteRate, Rate
from kapla.coap.shares import LARGE_WEIGHT

__all__ = ["Allowance", "Prices", "Share"]

_REFERENCE_BYTES: Final = 32


class Prices(NamedTuple):
    """What it costs to be told of one block."""

    hit: int
    """That it is here, if the block itself does not come with the answer."""
    miss: int
    """That it is not."""


class Allowance:
    """What is allowed to one peer with all its connections, or to strangers together. None: any."""

    def __init__(self, given: ByteRate | None, presence: Rate | None, prices: Prices) -> None:
        self.given = given
        self.presence = presence
        self.prices = prices
        self.blocks = 0
        """How many were given since the start."""
        self.block_bytes = 0
        """Their bytes."""


class Share:
    """One connection's part of an allowance. `go_on` is called when it may go on after waiting."""

    def __init__(self, allowance: Allowance, go_on: Callable[[], None]) -> None:
        self._allowance = allowance
        self._go_on = go_on

    def room(self) -> tuple[int, int]:
        """Requests that may be taken now, and KiB that they may ask for.

        If one of them is 0 nothing may be, until it is one's turn: see `wait`.
        """
        given, presence = self._allowance.given, self._allowance.presence
        requests = kib = NO_LIMIT
        if presence is not None and (told := presence.room(self._go_on)):
            # As if nothing were there that is asked for.
            requests = max(1, told // max(1, self._allowance.prices.miss))
        elif presence is not None:
            requests = 0
        if given is not None:
            kib = given.room(self._go_on)
        return requests, kib

    def wait(self) -> None:
        """Go on when it is one's turn: where there is no room."""
        allowance = self._allowance
        if allowance.presence is not None and not allowance.presence.room(self._go_on):
            allowance.presence.wait(self._go_on)
        elif allowance.given is not None:
            allowance.given.wait(self._go_on)

    def leave(self) -> None:
        """The connection has gone."""
        for rate in (self._allowance.given, self._allowance.presence):
            if rate is not None:
                rate.leave(self._go_on)

    def asked(self, requests: int, kib: int) -> None:
        """Blocks are asked for: they cost the most that they may, until the answer is known."""
        self._take(kib, requests * self._allowance.prices.miss)

    def answered(self, requests: int, kib: int) -> None:
        """What was asked for is answered: what it cost is told by `gave`."""
        self._give_back(kib, requests * self._allowance.prices.miss)

    def gave(self, blocks: int, block_bytes: int, missing: int) -> None:
        """So many blocks were given, with so many bytes together, and so many are missing."""
        self._allowance.blocks += blocks
        self._allowance.block_bytes += block_bytes
        self._take(block_bytes >> 10, missing * self._allowance.prices.miss)

    def told(self, present: int, missing: int) -> None:
        """It was told of so many blocks that they are here, or not."""
        prices = self._allowance.prices
        self._take(0, present * prices.hit + missing * prices.miss)

    def begin_slowly(self, code: int, length: int) -> None:
        """A request of so many bytes goes into the slow lane: it costs the most that it may."""
        self._take(*self._most_of(code, length))

    def end_slowly(self, code: int, length: int) -> None:
        """It is answered, and what it cost was told."""
        self._give_back(*self._most_of(code, length))

    @contextmanager
    def looking(self, length: int) -> Iterator[None]:
        """References of so many bytes are looked for, and cost the most that they may meanwhile.

        They may have come in pieces, of which the last was short.
        """
        self.begin_slowly(Code.FETCH, length)
        try:
            yield
        finally:
            self.end_slowly(Code.FETCH, length)

    def _most_of(self, code: int, length: int) -> tuple[int, int]:
        miss = self._allowance.prices.miss
        if code == Code.GET:
            return LARGE_WEIGHT, miss
        return 0, (length // _REFERENCE_BYTES) * miss if code == Code.FETCH else 0

    def _take(self, kib: int, price: int) -> None:
        given, presence = self._allowance.given, self._allowance.presence
        if given is not None and kib:
            given.took(self._go_on, kib)
        if presence is not None and price:
            presence.took(self._go_on, price)

    def _give_back(self, kib: int, price: int) -> None:
        given, presence = self._allowance.given, self._allowance.presence
        if given is not None and kib:
            given.give_back(kib)
        if presence is not None and price:
            presence.give_back(price)
