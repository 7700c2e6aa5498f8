"""Stores around a store, each with one fault or one habit, for tests."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

from eris import BlockNotFound, BlockSize, BlockWriter, Reference

__all__ = ["CorruptingStore", "FailingStore", "LossyStore", "RecordingStore", "ShuffledStore"]

_Result = TypeVar("_Result")


class _Wrapper:
    """Passes everything on."""

    def __init__(self, inner: BlockWriter) -> None:
        self._inner = inner

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        return await self._inner.get(reference, block_size)

    async def put(self, reference: Reference, block: bytes) -> None:
        await self._inner.put(reference, block)


class RecordingStore(_Wrapper):
    """Remembers what was asked of it, in order, and how many requests went on at once."""

    def __init__(self, inner: BlockWriter) -> None:
        super().__init__(inner)
        self.gets: list[Reference] = []
        self.puts: list[Reference] = []
        self.active = 0
        self.most_active = 0

    # Asking is the call, so that is remembered at once, before anything is awaited.
    def get(self, reference: Reference, block_size: BlockSize) -> Coroutine[Any, Any, bytes]:
        self.gets.append(reference)
        return self._during(partial(super().get, reference, block_size))

    def put(self, reference: Reference, block: bytes) -> Coroutine[Any, Any, None]:
        self.puts.append(reference)
        return self._during(partial(super().put, reference, block))

    async def _during(self, request: Callable[[], Awaitable[_Result]]) -> _Result:
        self.active += 1
        self.most_active = max(self.active, self.most_active)
        try:
            return await request()
        finally:
            self.active -= 1


class ShuffledStore(_Wrapper):
    """Completes the requests that are in flight in a random but repeatable order."""

    def __init__(self, inner: BlockWriter, seed: int) -> None:
        super().__init__(inner)
        self._random = random.Random(seed)
        self._waiting: list[asyncio.Future[None]] = []

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        await self._turn()
        return await super().get(reference, block_size)

    async def put(self, reference: Reference, block: bytes) -> None:
        await self._turn()
        await super().put(reference, block)

    async def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        loop.call_soon(self._release_one)
        await turn

    def _release_one(self) -> None:
        turn = self._waiting.pop(self._random.randrange(len(self._waiting)))
        if not turn.done():
            turn.set_result(None)


class FailingStore(_Wrapper):
    """Raises an error at the nth request, counted from 1; the others go through."""

    def __init__(self, inner: BlockWriter, nth: int, error: Exception) -> None:
        super().__init__(inner)
        self._left = nth
        self._error = error

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        self._count()
        return await super().get(reference, block_size)

    async def put(self, reference: Reference, block: bytes) -> None:
        self._count()
        await super().put(reference, block)

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise self._error


class LossyStore(_Wrapper):
    """Does not find certain blocks."""

    def __init__(self, inner: BlockWriter, lost: Collection[Reference]) -> None:
        super().__init__(inner)
        self._lost = frozenset(lost)

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        if reference in self._lost:
            raise BlockNotFound(reference)
        return await super().get(reference, block_size)


class CorruptingStore(_Wrapper):
    """Answers with other bytes for certain references."""

    def __init__(self, inner: BlockWriter, answers: Mapping[Reference, bytes]) -> None:
        super().__init__(inner)
        self._answers = dict(answers)

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        if reference in self._answers:
            return self._answers[reference]
        return await super().get(reference, block_size)
