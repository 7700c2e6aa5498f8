"""Stores that behave as networks do: out of order, failing, never answering."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from eris import BlockSize, BlockWriter, MemoryStore, Reference

T = TypeVar("T")


class BackwardStore:
    """Answers what was asked in one turn of the event loop in reverse order; counts."""

    def __init__(self, store: BlockWriter) -> None:
        self._store = store
        self._asked: list[tuple[Callable[[], Awaitable[Any]], asyncio.Future[Any]]] = []
        self._answering: asyncio.Task[None] | None = None
        self.in_flight = 0
        self.most_in_flight = 0
        self.turns = 0

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        """Fetch a block, some time."""
        return self._ask(lambda: self._store.get(reference, block_size))

    def put(self, reference: Reference, block: bytes) -> Awaitable[None]:
        """Keep a block, some time."""
        return self._ask(lambda: self._store.put(reference, block))

    def _ask(self, action: Callable[[], Awaitable[T]]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._asked.append((action, future))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        if self._answering is None:
            self._answering = asyncio.ensure_future(self._answer())
        return future

    async def _answer(self) -> None:
        while self._asked:
            await asyncio.sleep(0)
            self.turns += 1
            asked, self._asked = self._asked[::-1], []
            for action, future in asked:
                result = await action()
                self.in_flight -= 1
                if not future.cancelled():
                    future.set_result(result)
        self._answering = None


class HookedStore:
    """Calls a function before each request, told its number from 0; the function may raise."""

    def __init__(self, store: BlockWriter, hook: Callable[[int], None]) -> None:
        self._store = store
        self._hook = hook
        self.requests = 0

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        """Fetch a block."""
        self._count()
        return await self._store.get(reference, block_size)

    async def put(self, reference: Reference, block: bytes) -> None:
        """Keep a block."""
        self._count()
        await self._store.put(reference, block)

    def _count(self) -> None:
        number, self.requests = self.requests, self.requests + 1
        self._hook(number)


class SilentStore:
    """Answers so many requests, then never again; `stuck` is set when the first is left."""

    def __init__(self, store: MemoryStore, answers: int) -> None:
        self._store = store
        self._answers = answers
        self.stuck = asyncio.Event()

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        """Fetch a block, or hang."""
        await self._maybe()
        return await self._store.get(reference, block_size)

    async def put(self, reference: Reference, block: bytes) -> None:
        """Keep a block, or hang."""
        await self._maybe()
        await self._store.put(reference, block)

    async def _maybe(self) -> None:
        self._answers -= 1
        if self._answers < 0:
            self.stuck.set()
            await asyncio.get_running_loop().create_future()


class NothingKnown:
    """A cache that knows nothing, and a store that is asked in vain."""

    def content_key(self, content: bytes) -> bytes:
        """The key of a content: any."""
        return bytes(32)

    def start_key(self) -> Any:
        """Begin one."""
        return self

    def update(self, piece: bytes) -> None:
        """Go on with it."""

    def digest(self) -> bytes:
        """End it."""
        return bytes(32)

    def recall(self, keys: Any) -> list[None]:
        """Nothing."""
        return [None for _ in keys]

    def remember(self, contents: Any) -> None:
        """Forget."""

    async def find(self, references: Any) -> list[bool]:
        """Nothing is there."""
        return [False for _ in references]
