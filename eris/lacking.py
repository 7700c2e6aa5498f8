"""Sending only what a store lacks: it is asked first, for as long as that saves anything.

Of an upload that broke off the beginning is there, and of a second one all. Of a new content
nothing is: the more often a question finds nothing the more is sent without one, so that asking
costs next to nothing there. What need not be asked about is not held up by a question before it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import compress
from types import TracebackType
from typing import Final, Self

from eris.errors import StoreError
from eris.model import PAIR_SIZE, EncodedBlock
from eris.store import BlockFinder
from eris.threads import withdraw

__all__ = ["Kept", "Lacking", "content_share", "content_shares"]

Kept = Callable[[int], None]
"""Told that a store has so many more bytes of content."""

_log = logging.getLogger(__name__)

# Bytes of blocks that a question is about at least, but for the last one.
_LEAST: Final = 512 * 1024
# So few are sent as quickly as they are asked about.
_NOT_WORTH_IT: Final = 64 * 1024
# Questions under way. Their blocks wait here: some MiB, as many as a link of 100 ms needs.
_AT_ONCE: Final = 8
# How many portions go unasked between two questions at most: what is there behind so much that is
# not, is sent again in vain.
_RAREST: Final = 16


def content_share(block_size: int) -> int:
    """How many bytes of content there are for each block of this size, internal nodes included.

    One block in so many is an internal node as an internal node has pairs. Padding is not known.
    """
    return block_size - PAIR_SIZE


def content_shares(blocks: Sequence[EncodedBlock]) -> int:
    """The same of many blocks together."""
    return sum([len(block) for _, block in blocks]) - PAIR_SIZE * len(blocks)


class Lacking:
    """Passes on to `put` those of the blocks it is given that a store does not have.

    Not in order, and each portion as soon as there is an answer, even where nothing more comes for
    an hour. Without a `finder` it passes on all. `found` is told of those that are there. As an
    asynchronous context it leaves no question behind.
    """

    def __init__(
        self,
        finder: BlockFinder | None,
        put: Callable[[Sequence[EncodedBlock]], Awaitable[None]],
        found: Kept | None = None,
    ) -> None:
        self._finder = finder
        self._found = found
        self._put = put
        self._held: list[EncodedBlock] = []
        self._size = 0
        self._asked: deque[asyncio.Future[None]] = deque()
        # Answers come at any time, and `put` is for one caller.
        self._passing = asyncio.Lock()
        # Portions to pass on unasked: after a question that finds nothing, and from now on.
        self._pause = self._unasked = 0
        # How often something was learnt: what was asked before that teaches the same once more.
        self._learnt = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        withdraw(self._asked)

    async def add(self, blocks: Sequence[EncodedBlock]) -> None:
        """Pass these on, now or later, if they are lacking; one caller at a time.

        Raises: what `put` raises.
        """
        if self._finder is None:
            await self._pass_on(blocks)
            return
        self._held += blocks
        self._size += sum(len(block) for _, block in blocks)
        if self._size >= _LEAST:
            await self._settle()
        await self._take(_AT_ONCE)

    async def finish(self, blocks: Sequence[EncodedBlock]) -> None:
        """Pass on the last ones, and whatever still waits for an answer.

        Raises: what `put` raises.
        """
        await self.add(blocks)
        if self._held:
            if self._size <= _NOT_WORTH_IT:
                self._unasked = 1
            await self._settle()
        await self._take(0)

    async def _settle(self) -> None:
        """Ask about what is held, or pass it on."""
        blocks, self._held, self._size = self._held, [], 0
        if self._finder is None:
            await self._pass_on(blocks)
        elif self._unasked:
            self._unasked -= 1
            await self._pass_on(blocks)
        else:
            self._asked.append(asyncio.ensure_future(self._ask(self._finder, blocks)))

    async def _take(self, most: int) -> None:
        """Wait until no more than `most` questions are under way, and learn what went wrong."""
        while self._asked and (len(self._asked) > most or self._asked[0].done()):
            # Awaited where it stands, so that an interruption finds it in the queue.
            await self._asked[0]
            self._asked.popleft()

    async def _ask(self, finder: BlockFinder, blocks: list[EncodedBlock]) -> None:
        await self._pass_on(await self._lacking(finder, blocks))

    async def _pass_on(self, blocks: Sequence[EncodedBlock]) -> None:
        async with self._passing:
            await self._put(blocks)

    async def _lacking(self, finder: BlockFinder, blocks: list[EncodedBlock]) -> list[EncodedBlock]:
        before = self._learnt
        try:
            found = await finder.find([reference for reference, _ in blocks])
        except StoreError as error:
            # The error may name the store's URL, which is not for every log.
            _log.info("The store does not tell what it has, so all is sent")
            _log.debug("It does not tell: %s", error)
            self._finder = None
            return blocks
        self._learn(any(found), before)
        if self._found is not None:
            shares = (content_share(len(block)) for _, block in compress(blocks, found))
            self._found(sum(shares))
        return [one for one, is_there in zip(blocks, found, strict=True) if not is_there]

    def _learn(self, is_any_there: bool, before: int) -> None:
        """Take it from an answer how often to ask, and from those to questions together once."""
        if is_any_there:
            self._pause = 0
        elif before == self._learnt:
            self._pause = min(2 * self._pause or 1, _RAREST)
        else:
            return
        self._unasked = self._pause
        self._learnt += 1
