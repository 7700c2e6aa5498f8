"""Gets that are wanted in the same moment, grouped into POSTs.

What is wanted in one turn of the event loop goes out together at its end, up to 256 blocks in one
POST. Many small blocks are shared out between two POSTs at once, so that one comes while the other
is asked for. Large ones come by one POST after another: they fill one connection, and since
blocks are read in order the slowest of several would hold up the others. While as many are under
way as may be, what is wanted meanwhile gathers. Blocks are given to whoever waits as they come. A
block that two want is asked for once.

Whether a server has a batch is found out by the first one, and nothing else is asked meanwhile. One
that has none is asked for one block at a time from then on, as other programs' servers are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any, Final, Protocol

from eris.errors import BlockNotFound, CorruptBlock, ErisError, StoreUnavailable
from eris.model import BlockSize, Reference
from kapla.errors import WrongBlock
from kapla.http.asking.exchange import Answer, Exchange
from kapla.http.asking.failures import ConnectionLost, NoBatch, status_error
from kapla.http.asking.patience import Patience
from kapla.http.asking.single import Given, is_lent
from kapla.http.wire.batch import (
    BATCH_PATH,
    MAX_REFERENCES,
    BatchReader,
    InvalidBatch,
    format_request,
)

__all__ = ["Batches", "Fallback", "Make"]

_MOST_AT_ONCE: Final = 2
# What is less is not worth another connection.
_LEAST_SHARE: Final = 64
# What servers answer to a POST that they do not know, or do not let through.
_NO_BATCH: Final = (400, 403, 404, 405, 410, 411, 413, 415, 501)

Make = Callable[[Given], Any]
"""Makes of a block what is waited for. Raises: ErisError, which is then the answer."""


class Fallback(Protocol):
    """Fetches blocks where there is no batch."""

    def __call__(self, reference: Reference) -> asyncio.Future[Given]:
        """Fetch one. Raises, when awaited: BlockNotFound; WrongBlock; StoreUnavailable."""
        ...


class _Wish:
    """A block that is wanted, by whom, and for what."""

    __slots__ = ("post", "waiting")

    def __init__(self) -> None:
        self.waiting: list[tuple[asyncio.Future[Any], Make]] = []
        self.post: _Post | None = None
        """Which it is asked for by, when it is."""

    @property
    def is_wanted(self) -> bool:
        return any(not future.done() for future, _ in self.waiting)

    def give(self, given: Given) -> None:
        for future, make in self.waiting:
            if not future.done():
                try:
                    future.set_result(make(given))
                except ErisError as error:
                    future.set_exception(error)

    def fail(self, error: ErisError) -> None:
        for future, _ in self.waiting:
            if not future.done():
                future.set_exception(error)


class _Post:
    """What is asked for by one POST, and not answered yet."""

    __slots__ = ("left", "task")

    def __init__(self, references: Iterable[Reference]) -> None:
        self.left = dict.fromkeys(references)
        self.task: asyncio.Task[None] | None = None


class Batches:
    """Of one server: see above. `name` is what people call it."""

    def __init__(
        self, exchange: Exchange, patience: Patience, fallback: Fallback, name: str
    ) -> None:
        self._exchange = exchange
        self._patience = patience
        self._fallback = fallback
        self._name = name
        self._loop = asyncio.get_running_loop()
        # All that is wanted, in the order of asking; what no POST has yet is in the queue too.
        self._wishes: dict[Reference, _Wish] = {}
        self._queue: dict[Reference, None] = {}
        self._posts: set[_Post] = set()
        self._is_planned = False
        # Whether the last block was: a content has blocks of one size.
        self._are_large = False
        self.is_there: bool | None = None
        """Whether the server has a batch; None: that is not known yet."""

    def want(self, reference: Reference, make: Make) -> asyncio.Future[Any]:
        """Ask for a block; cancel the future to give up.

        Raises, when awaited: BlockNotFound; WrongBlock; StoreUnavailable; what `make` does.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        wish = self._wishes.get(reference)
        if wish is None:
            wish = self._wishes[reference] = _Wish()
            self._queue[reference] = None
            self._plan()
        wish.waiting.append((future, make))
        future.add_done_callback(lambda future: self._given_up(reference, future))
        return future

    async def close(self) -> None:
        """Fail what is still wanted."""
        tasks = [post.task for post in self._posts if post.task is not None]
        for task in tasks:
            task.cancel()
        self._fail(
            list(self._wishes), StoreUnavailable(f"the connection to {self._name} was closed")
        )
        if tasks:
            await asyncio.wait(tasks)

    # what is wanted

    def _given_up(self, reference: Reference, future: asyncio.Future[Any]) -> None:
        if not future.cancelled():
            return
        wish = self._wishes.get(reference)
        if wish is None or wish.is_wanted:
            return
        self._strike(reference)
        post = wish.post
        if post is not None and not post.left and post.task is not None:
            # Nobody waits for any of it.
            post.task.cancel()

    def _strike(self, reference: Reference) -> _Wish | None:
        """It is not wanted any more, or about to be answered."""
        wish = self._wishes.pop(reference, None)
        self._queue.pop(reference, None)
        if wish is not None and wish.post is not None:
            wish.post.left.pop(reference, None)
        return wish

    def _fail(self, references: Iterable[Reference], error: ErisError) -> None:
        for reference in references:
            wish = self._strike(reference)
            if wish is not None:
                wish.fail(error)

    # POSTs

    def _plan(self) -> None:
        """Send at the end of this turn of the loop, with whatever else is wanted in it."""
        if not self._is_planned:
            self._is_planned = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._is_planned = False
        if self.is_there is False:
            self._fetch_singly(list(self._queue))
        while self._queue and (free := self._free()) > 0:
            post = _Post(islice(self._queue, self._share(free)))
            for reference in post.left:
                del self._queue[reference]
                self._wishes[reference].post = post
            self._posts.add(post)
            post.task = self._loop.create_task(self._ask(post))
            post.task.add_done_callback(partial(self._ended, post))

    def _free(self) -> int:
        """How many more POSTs may be under way."""
        is_one_enough = self._are_large or not self.is_there
        return (1 if is_one_enough else _MOST_AT_ONCE) - len(self._posts)

    def _share(self, free: int) -> int:
        """How many of what waits go by one POST, where so many more may be under way."""
        return min(max(-(-len(self._queue) // free), _LEAST_SHARE), MAX_REFERENCES)

    def _ended(self, post: _Post, task: asyncio.Task[None]) -> None:
        self._posts.discard(post)
        error = None if task.cancelled() else task.exception()
        left = list(post.left)
        if isinstance(error, NoBatch):
            self.is_there = False
            self._fetch_singly(left)
        elif isinstance(error, ErisError):
            self._fail(left, error)
        else:
            self._fail(left, StoreUnavailable(f"{self._name} could not be asked"))
            if error is not None:
                self._loop.call_exception_handler({"message": "a batch failed", "exception": error})
        if self._queue:
            self._plan()

    async def _ask(self, post: _Post) -> None:
        """Ask until all is answered: each try settles one block at least, or raises."""
        while post.left:
            await self._patience.run(lambda: self._try(post))

    async def _try(self, post: _Post) -> None:
        before = len(post.left)
        reader = BatchReader(list(post.left))
        body = format_request(reader.left)
        try:
            async with self._exchange.ask("POST", BATCH_PATH, body=body) as answer:
                self._check(answer)
                await self._take(answer, reader)
        except CorruptBlock as error:
            # Where the next entry begins nobody knows: the rest is asked for anew.
            self._fail([Reference(error.reference)], WrongBlock(error.reference, self._name))
        except InvalidBatch as error:
            if self.is_there is None:
                raise NoBatch(str(error)) from error
            if len(post.left) == before:
                raise StoreUnavailable(f"{self._name}: {error}") from error
        except ConnectionLost:
            if len(post.left) == before:
                raise

    async def _take(self, answer: Answer, reader: BatchReader) -> None:
        lent = is_lent(answer)
        async for piece in answer.pieces():
            reader.feed(piece)
            is_first = True
            for reference, data in reader.entries():
                self.is_there = True
                if is_first:
                    is_first = False
                    answer.progressed()
                wish = self._strike(reference)
                if wish is None:
                    continue
                if data is None:
                    wish.fail(BlockNotFound(reference))
                else:
                    self._are_large = len(data) == BlockSize.LARGE
                    wish.give(Given(data, lent))
        reader.finish()

    def _check(self, answer: Answer) -> None:
        if answer.status in _NO_BATCH or (answer.status == 200 and answer.is_page):
            raise NoBatch(f"{self._name} has no batch")
        if answer.status != 200:
            raise status_error(self._name, answer.status, answer.headers.get("Retry-After"))

    # without a batch

    def _fetch_singly(self, references: Iterable[Reference]) -> None:
        for reference in references:
            wish = self._strike(reference)
            if wish is not None:
                _pass_on(self._fallback(reference), wish)


def _pass_on(asked: asyncio.Future[Given], wish: _Wish) -> None:
    """Let those who wait have what comes of this; when all have given up it is too."""

    def came(asked: asyncio.Future[Given]) -> None:
        if asked.cancelled():
            wish.fail(StoreUnavailable("the request was given up"))
        elif (error := asked.exception()) is None:
            wish.give(asked.result())
        elif isinstance(error, ErisError):
            wish.fail(error)
        else:
            wish.fail(StoreUnavailable("the request failed"))
            raise error

    def given_up(_: object) -> None:
        if not wish.is_wanted:
            asked.cancel()

    asked.add_done_callback(came)
    for future, _ in wish.waiting:
        future.add_done_callback(given_up)
