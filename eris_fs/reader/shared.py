"""Values fetched once for all who want them, and kept while there is room.

Who waits for a fetch can go at any time; only when nobody is left is it given up. What fails is
told to all who wait, and not kept, so that the next one who wants it tries again. What is fetched
ahead, for nobody yet, goes on by itself, and is bounded in bytes.

Who waits does so on a future of its own: a cancellation takes that one away and no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from eris.errors import StoreUnavailable
from eris.threads import settle
from eris_fs.reader.lru import LeastRecent

__all__ = ["Claim", "Shared", "Start"]

V = TypeVar("V")

Start = tuple[asyncio.Future[Any], Callable[[Any], V]]
"""What brings a value: what is awaited, and what makes the value of it, or raises."""


class Claim(Generic[V]):
    """One wait for a value: `await claim.future`, and `release()` in any case."""

    __slots__ = ("_fetch", "future")

    def __init__(self, fetch: _Fetch[V]) -> None:
        self.future: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._fetch = fetch
        fetch.waiting.add(self.future)

    def release(self) -> None:
        """Go: if nobody else waits, what is under way is given up."""
        if not self.future.done():
            self.future.cancel()
        elif not self.future.cancelled():
            # Looked at, or asyncio complains that nobody saw its exception.
            self.future.exception()
        self._fetch.leave(self.future)


class Shared(Generic[V]):
    """A table of values, up to `limit` bytes, and of what is under way.

    `size_of` tells the bytes of a value. What is fetched ahead is up to `ahead` bytes at a time.
    """

    def __init__(self, limit: int, size_of: Callable[[V], int], ahead: int = 0) -> None:
        self.kept: LeastRecent[V] = LeastRecent(limit)
        self._size_of = size_of
        self._room_ahead = ahead
        self._under_way: dict[Hashable, _Fetch[V]] = {}
        # All futures that have not ended, those that were given up too.
        self._futures: set[asyncio.Future[Any]] = set()
        self._closed = False

    def has(self, key: Hashable) -> bool:
        """Whether a value is there or under way."""
        return key in self.kept or key in self._under_way

    async def take(self, key: Hashable, start: Callable[[], Start[V]]) -> V:
        """Give a value, fetched by `start` if it is neither there nor under way.

        Raises: whatever fetching raises; StoreUnavailable, when this is closed meanwhile.
        """
        value = self.kept.get(key)
        if value is not None:
            return value
        claim = self.claim(key, start)
        try:
            return await claim.future
        finally:
            claim.release()

    def claim(self, key: Hashable, start: Callable[[], Start[V]]) -> Claim[V]:
        """Have a value fetched, or wait with others for it; to be released in any case.

        Raises: what `start` raises; StoreUnavailable, when this is closed.
        """
        fetch = self._under_way.get(key)
        if fetch is not None:
            return Claim(fetch)
        value = self.kept.get(key)
        if value is not None:
            claim = Claim(_Fetch(self, key, 0))
            claim.future.set_result(value)
            return claim
        return Claim(self._begin(key, start, 0))

    def fetch_ahead(self, key: Hashable, start: Callable[[], Start[V]], size: int) -> bool:
        """Have a value of about so many bytes fetched for nobody yet; False if there is no room."""
        if self.has(key):
            return True
        if size > self._room_ahead or self._closed:
            return False
        try:
            self._begin(key, start, size)
        except Exception:
            # Told to whoever wants it.
            return False
        return True

    async def aclose(self) -> None:
        """Give up all that is under way; returns when it has ended. Nothing can be fetched then."""
        self._closed = True
        for fetch in list(self._under_way.values()):
            fetch.give_up(StoreUnavailable("the reader was closed"))
        self.kept.clear()
        await settle(*self._futures)

    def _begin(self, key: Hashable, start: Callable[[], Start[V]], ahead: int) -> _Fetch[V]:
        if self._closed:
            raise StoreUnavailable("the reader was closed")
        future, finish = start()
        fetch = self._under_way[key] = _Fetch(self, key, ahead)
        self._room_ahead -= ahead
        fetch.future = future
        self._futures.add(future)
        # It counts as under way until it has ended, however it ends.
        future.add_done_callback(lambda _: self._ended(fetch, finish))
        return fetch

    def _ended(self, fetch: _Fetch[V], finish: Callable[[Any], V]) -> None:
        future = fetch.future
        assert future is not None
        self._futures.discard(future)
        self._room_ahead += fetch.ahead
        self.forget(fetch)
        try:
            if future.cancelled():
                raise StoreUnavailable("the store gave up a request")
            value = finish(future.result())
        except BaseException as error:
            # Of whatever kind: the event loop would tell nobody who waits.
            fetch.fail(error)
            return
        if not self._closed:
            self.kept.put(fetch.key, value, self._size_of(value))
        fetch.succeed(value)

    def forget(self, fetch: _Fetch[V]) -> None:
        """From now on another one is begun for whoever wants this."""
        if self._under_way.get(fetch.key) is fetch:
            del self._under_way[fetch.key]


class _Fetch(Generic[V]):
    """One value on its way, and who waits for it."""

    __slots__ = ("_table", "ahead", "future", "key", "waiting")

    def __init__(self, table: Shared[V], key: Hashable, ahead: int) -> None:
        self._table = table
        self.key = key
        self.ahead = ahead
        """Bytes that it counts for among what is fetched ahead."""
        self.future: asyncio.Future[Any] | None = None
        self.waiting: set[asyncio.Future[V]] = set()

    def leave(self, waiter: asyncio.Future[V]) -> None:
        self.waiting.discard(waiter)
        if not self.waiting and not self.ahead and self.future is not None:
            self._cancel(self.future)

    def give_up(self, error: BaseException) -> None:
        self.fail(error)
        assert self.future is not None
        self._cancel(self.future)

    def fail(self, error: BaseException) -> None:
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_exception(error)

    def succeed(self, value: V) -> None:
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_result(value)

    def _cancel(self, future: asyncio.Future[Any]) -> None:
        if not future.done():
            self._table.forget(self)
            future.cancel()
