"""Look-ups that take a while, shared out among those who ask: a turn for each, and few ahead.

A look-up that somebody waits for goes before one that is only expected. Those who wait take turns,
and every other turn is for whoever asks for little and has not had one for a while: a client that
asks one thing waits for one place, however many others ask for how much. What is expected is looked
for a few dozen names ahead of the client's replies, in turn too, and never takes the last places.
What a client asked for that has gone is not looked for, unless that is under way or others wait for
it.

There is one look-up of a name at a time; that one of those who wait for it is cancelled is nothing
to the others.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Final, Generic, TypeVar

from guix_glue.errors import FetchFailed
from guix_glue.serving.clients import Client, ClientLeft

__all__ = ["Lookups"]

_T = TypeVar("_T")

_AT_ONCE: Final = 32
_EXPECTED_AT_ONCE: Final = 24
_AHEAD: Final = 32
"""Names of a client that are looked for before it is their turn."""
_REMEMBERED: Final = 1000
"""Names of a client that are known to come: what the stock client asks for in one go."""
_LITTLE: Final = 4
_A_WHILE_S: Final = 10.0


@dataclass(slots=True, eq=False)
class _Lookup(Generic[_T]):
    """One name. Whoever waits does so for `result`; the task only begins when it has a place."""

    name: str
    result: asyncio.Future[_T]
    waiting: int = 0
    task: asyncio.Task[_T] | None = None
    is_expected: bool = False


@dataclass(slots=True, eq=False)
class _Share:
    """What is known of one client: what it will ask for, in order, and when it last had a turn.

    `gone` is done when the client has gone.
    """

    gone: asyncio.Future[None]
    coming: OrderedDict[str, None] = field(default_factory=OrderedDict)
    ahead: set[str] = field(default_factory=set)
    served_at: float = float("-inf")

    @property
    def wants_more(self) -> bool:
        return bool(self.coming) and len(self.ahead) < _AHEAD

    def is_modest(self, now: float) -> bool:
        return len(self.coming) <= _LITTLE and now - self.served_at > _A_WHILE_S


class Lookups(Generic[_T]):
    """Runs `look_up(name)` for those who ask; `is_needed(name)` tells whether that is worth it."""

    def __init__(
        self, look_up: Callable[[str], Awaitable[_T]], is_needed: Callable[[str], bool]
    ) -> None:
        self._look_up = look_up
        self._is_needed = is_needed
        self._loop = asyncio.get_running_loop()
        self._lookups: dict[str, _Lookup[_T]] = {}
        self._running = 0
        self._running_expected = 0
        # Who waits, as one entry for each call, in the order of coming.
        self._modest: OrderedDict[object, tuple[_Share, _Lookup[_T]]] = OrderedDict()
        self._others: OrderedDict[object, tuple[_Share, _Lookup[_T]]] = OrderedDict()
        self._modest_next = True
        self._shares: dict[Client, _Share] = {}
        # Of whom more is expected, in turn.
        self._in_turn: OrderedDict[_Share, None] = OrderedDict()
        self._is_closed = False

    def expect(self, client: Client, names: Sequence[str]) -> None:
        """The client will ask for these, in this order."""
        share = self._share(client)
        room = max(0, _REMEMBERED - len(share.coming))
        share.coming.update(dict.fromkeys(islice(names, room)))
        self._queue_share(share)
        self._fill()

    def passed(self, client: Client, name: str) -> None:
        """It is this name's turn: the client may have another one ahead."""
        share = self._shares.get(client)
        if share is not None:
            share.coming.pop(name, None)
            share.ahead.discard(name)
            self._queue_share(share)
            # A moment later: what is about to be waited for goes first.
            self._loop.call_soon(self._fill)

    async def get(self, client: Client, name: str) -> _T:
        """The result for a name, when it is this client's turn.

        Raises: what the look-up raises; ClientLeft; FetchFailed, if this is closed meanwhile.
        """
        if self._is_closed:
            raise FetchFailed("the server is stopping")
        lookup = self._lookups.get(name) or self._add(name)
        ticket = object()
        share = self._share(client)
        if lookup.task is None:
            is_modest = share.is_modest(self._loop.time())
            (self._modest if is_modest else self._others)[ticket] = share, lookup
        lookup.waiting += 1
        try:
            self._fill()
            # Others may wait for the same: nothing happens to it when this one loses interest.
            await asyncio.wait((lookup.result, share.gone), return_when=asyncio.FIRST_COMPLETED)
            if not lookup.result.done():
                raise ClientLeft("the client has gone")
            return lookup.result.result()
        finally:
            lookup.waiting -= 1
            self._modest.pop(ticket, None)
            self._others.pop(ticket, None)
            if not lookup.waiting and lookup.task is None:
                self._lookups.pop(name, None)

    async def close(self) -> None:
        """Cancel what is under way; nobody waits any longer."""
        self._is_closed = True
        self._in_turn.clear()
        lookups = tuple(self._lookups.values())
        for lookup in lookups:
            _settle(lookup.result, FetchFailed("the server is stopping"))
            if lookup.task is not None:
                lookup.task.cancel()
        tasks = [lookup.task for lookup in lookups if lookup.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _share(self, client: Client) -> _Share:
        share = self._shares.get(client)
        if share is None:
            share = _Share(self._loop.create_future())
            if not client.has_left:
                self._shares[client] = share
                client.when_it_leaves(self._forget)
        return share

    def _forget(self, client: Client) -> None:
        share = self._shares.pop(client, None)
        if share is not None:
            self._in_turn.pop(share, None)
            share.coming.clear()
            share.gone.set_result(None)

    def _queue_share(self, share: _Share) -> None:
        if share.wants_more and not self._is_closed:
            self._in_turn.setdefault(share, None)

    def _add(self, name: str) -> _Lookup[_T]:
        lookup = self._lookups[name] = _Lookup[_T](name, self._loop.create_future())
        # Or asyncio complains when whoever asked has gone.
        lookup.result.add_done_callback(lambda done: done.cancelled() or done.exception())
        return lookup

    def _fill(self) -> None:
        """Give away the places that are free."""
        while self._running < _AT_ONCE and not self._is_closed:
            lookup = self._next_waited_for()
            if lookup is None and self._running_expected < _EXPECTED_AT_ONCE:
                lookup = self._next_expected()
            if lookup is None:
                return
            self._begin(lookup)

    def _next_waited_for(self) -> _Lookup[_T] | None:
        queues = (self._modest, self._others) if self._modest_next else (self._others, self._modest)
        for queue in queues:
            while queue:
                _, (share, lookup) = queue.popitem(last=False)
                # Another may have asked for the same, and had its turn.
                if lookup.task is None:
                    self._modest_next = queue is self._others
                    share.served_at = self._loop.time()
                    return lookup
        return None

    def _next_expected(self) -> _Lookup[_T] | None:
        while self._in_turn:
            share, _ = self._in_turn.popitem(last=False)
            if not share.wants_more:
                # Its turn came for all of that meanwhile.
                continue
            name, _ = share.coming.popitem(last=False)
            share.ahead.add(name)
            self._queue_share(share)
            if name not in self._lookups and self._is_needed(name):
                share.served_at = self._loop.time()
                lookup = self._add(name)
                lookup.is_expected = True
                return lookup
        return None

    def _begin(self, lookup: _Lookup[_T]) -> None:
        self._running += 1
        self._running_expected += lookup.is_expected
        lookup.task = asyncio.ensure_future(self._look_up(lookup.name))
        # A callback, since a task that is cancelled at once never comes to a `finally` of its own.
        lookup.task.add_done_callback(partial(self._end, lookup))

    def _end(self, lookup: _Lookup[_T], task: asyncio.Future[_T]) -> None:
        self._running -= 1
        self._running_expected -= lookup.is_expected
        del self._lookups[lookup.name]
        if task.cancelled():
            _settle(lookup.result, FetchFailed("the look-up was cancelled"))
        elif (error := task.exception()) is not None:
            _settle(lookup.result, error)
        elif not lookup.result.done():
            lookup.result.set_result(task.result())
        self._fill()


def _settle(future: asyncio.Future[_T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
