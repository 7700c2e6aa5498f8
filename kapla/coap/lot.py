"""Blocks that are put together: one future for all of them, and a request for each.

What differs from request to request is the token and the block. So a lot is written as it is sent,
and each of its answers is looked up, found to be good, and counted. An answer that is not, and a
request that has to be sent again, are treated as those of a block by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from eris.errors import ErisError
from kapla.coap.asked import Asked, outcome_of
from kapla.coap.frame import Code, format_header

__all__ = ["TOKEN_SIZE", "Lot", "SentPart"]

TOKEN_SIZE: Final = 4
_CREATED: Final = int(Code.CREATED)


class Lot:
    """Blocks that are to be put; what is sent of them, and what is answered.

    `options`: of each PUT, the payload marker included. The future is done when all are kept, or
    one is not: then it has the error. When it is cancelled, what was not sent is not sent any more.
    """

    def __init__(self, options: bytes, blocks: Sequence[bytes]) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.options = options
        self.blocks = blocks
        self.size = sum(map(len, blocks)) + len(blocks) * len(options)
        """Bytes that are not sent."""
        self._sent = 0
        self._left = len(blocks)
        if not blocks:
            self.future.set_result(None)

    def __len__(self) -> int:
        """How many are not sent."""
        return len(self.blocks) - self._sent

    def next_part(self, first: int, most: int, room: float) -> SentPart:
        """The next to be sent, under tokens that count up from `first`.

        Not more than `most` of them, and one that goes beyond `room` bytes is the last.
        """
        start, around, count, weight = self._sent, len(self.options), 0, 0
        for block in self.blocks[start : start + most]:
            if weight >= room:
                break
            count += 1
            weight += around + len(block)
        self._sent += count
        self.size -= weight
        return SentPart(self, first, start, count, weight)

    def answered(self) -> None:
        """One of them is kept."""
        self._left -= 1
        if not self._left and not self.future.done():
            self.future.set_result(None)

    def fail(self, error: BaseException) -> None:
        """One of them is not."""
        if not self.future.done():
            self.future.set_exception(error)

    def rest(self) -> list[Asked]:
        """All that is not sent, each as a request by itself."""
        rest = [self.alone(block) for block in self.blocks[self._sent :]]
        self._sent, self.size = len(self.blocks), 0
        return rest

    def alone(self, block: bytes) -> Asked:
        """One of them as a request by itself, to be sent again maybe."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(self._take_alone)
        # Nobody wants it any more when nobody waits for the lot.
        self.future.add_done_callback(lambda _: future.cancel())
        return self.request(block, future)

    def request(self, block: bytes, future: asyncio.Future[None]) -> Asked:
        """The request for one of them."""
        body = self.options + block
        return Asked(future, Code.PUT, body, b"", 0, len(body), None, False)

    def _take_alone(self, future: asyncio.Future[None]) -> None:
        if future.cancelled():
            self.future.cancel()
        elif (error := future.exception()) is not None:
            self.fail(error)
        else:
            self.answered()


class SentPart(NamedTuple):
    """Those blocks of a lot that were sent together, each under a token."""

    lot: Lot
    first: int
    """The token of the first as a number."""
    start: int
    """Which of the lot that is."""
    blocks: int
    weight: int
    """Bytes on the wire of all of them."""

    @property
    def future(self) -> asyncio.Future[None]:
        """What waits for the whole lot."""
        return self.lot.future

    def tokens(self) -> list[bytes]:
        """One for each, in order."""
        return [
            token.to_bytes(TOKEN_SIZE, "big")
            for token in range(self.first, self.first + self.blocks)
        ]

    def write(self, tokens: Sequence[bytes], output: list[bytes]) -> None:
        """Add their requests to what is to be sent, in pieces."""
        options = self.lot.options
        headers: dict[int, bytes] = {}
        blocks = self.lot.blocks[self.start : self.start + self.blocks]
        for token, block in zip(tokens, blocks, strict=True):
            header = headers.get(len(block))
            if header is None:
                header = format_header(Code.PUT, TOKEN_SIZE, len(options) + len(block))
                headers[len(block)] = header
            output += (header, token, options, block)

    def take(self, code: int, token: bytes, buffer: bytes, start: int, stop: int) -> int:
        """Take the answer to one of them; returns what that one weighed."""
        lot, block = self.lot, self.block(token)
        if code == _CREATED and start == stop:
            lot.answered()
        elif not lot.future.done():
            outcome = outcome_of(code, lot.request(block, lot.future), buffer, start, stop)
            if isinstance(outcome, ErisError):
                lot.fail(outcome)
            else:
                lot.answered()
        return len(lot.options) + len(block)

    def block(self, token: bytes) -> bytes:
        """The block that was sent under a token."""
        return self.lot.blocks[self.start + int.from_bytes(token, "big") - self.first]
