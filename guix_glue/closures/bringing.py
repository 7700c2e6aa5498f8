"""Items brought one after the other, references first, each compared with its hash before the next.

Small ones are made whole in memory, several at once, ahead of their turn: then a store that is far
away keeps nobody waiting for each of them, and nothing wrong of them goes anywhere. Large ones go
where they belong as they come; what went there of a wrong one is taken back, and the next way is
tried.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol, Self

from eris.errors import ErisError
from eris.threads import in_thread, settle
from guix_glue.closures.nars import Nars, Way
from guix_glue.closures.wanted import Wanted
from guix_glue.errors import FetchFailed, HashMismatch, reason_of
from guix_glue.formats.export import item_end, signature_part
from guix_glue.model import StoreItem

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["ItemSink", "Sign", "bring", "end_of"]

_log = logging.getLogger(__name__)

_SMALL: Final = 1024 * 1024
"""Bytes of a nar that may be made in memory."""
_AT_ONCE: Final = 32
# Of large ones there may be any number between small ones.
_LOOKED_AHEAD: Final = 256
_REASONS: Final = 3

Sign = Callable[[Wanted, bytes], bytes | None]
"""The signature of an item for an archive, of which the SHA-256 is given; None for none."""


class ItemSink(Protocol):
    """Where items go: an archive, or a store that takes one."""

    async def begin(self, item: StoreItem) -> None:
        """The nar of an item is about to come."""

    async def write(self, piece: bytes) -> None:
        """Take the next bytes of it."""

    async def complete(self, end: bytes) -> None:
        """The nar is whole and right; `end` is what stands behind it in an archive."""

    async def take_back(self) -> None:
        """The item is not to be, as far as it came. Raises: FetchFailed, if it is too late."""


class _SinkFailed(Exception):
    """It is not what comes that is wrong, but where it goes; the cause says what."""


def end_of(wanted: Wanted, state: _Hash, sign: Sign) -> bytes:
    """What stands behind the nar of an item in an archive; `state` is the SHA-256 of the nar."""
    end = item_end(wanted.item)
    whole = state.copy()
    whole.update(end)
    return end + signature_part(sign(wanted, whole.digest()))


async def bring(
    wanted: Sequence[Wanted], nars: Nars, sink: ItemSink, sign: Sign, done: Callable[[int], None]
) -> None:
    """Bring all of them into the sink. `done` is told of bytes of nars.

    Raises: FetchFailed, for an item that cannot be had: the cause is the error of the first way;
    whatever the sink raises.
    """
    bringing = _Bringing(nars, sink, sign, done)
    async with _Ahead(wanted, bringing.make).begun() as ahead:
        for place, one in enumerate(wanted):
            making = ahead.take(place)
            try:
                if making is None:
                    await bringing.stream(one)
                else:
                    await bringing.put(one, await making)
            except _SinkFailed as error:
                assert error.__cause__ is not None
                raise error.__cause__ from None


class _Ahead:
    """Small items that are being made before their turn."""

    def __init__(
        self, wanted: Sequence[Wanted], make: Callable[[Wanted], Awaitable[bytes]]
    ) -> None:
        self._wanted = wanted
        self._make = make
        self._next = 0
        self._making: dict[int, asyncio.Task[bytes]] = {}

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[Self]:
        """Nothing is made any more behind the context."""
        try:
            yield self
        finally:
            for task in self._making.values():
                task.cancel()
            await settle(*self._making.values())

    def take(self, place: int) -> Awaitable[bytes] | None:
        """The nar of the item at this place; None for one that is not small."""
        last = min(place + _LOOKED_AHEAD, len(self._wanted))
        while self._next < last and len(self._making) < _AT_ONCE:
            one = self._wanted[self._next]
            if one.item.nar_size <= _SMALL:
                self._making[self._next] = asyncio.create_task(_made(self._make, one))
            self._next += 1
        return self._given(place) if place in self._making else None

    async def _given(self, place: int) -> bytes:
        # Until it is there it is one of those that are ended with the rest.
        nar = await asyncio.shield(self._making[place])
        del self._making[place]
        return nar


async def _made(make: Callable[[Wanted], Awaitable[bytes]], wanted: Wanted) -> bytes:
    return await make(wanted)


class _Bringing:
    """The ways of one item after the other."""

    def __init__(self, nars: Nars, sink: ItemSink, sign: Sign, done: Callable[[int], None]) -> None:
        self._nars = nars
        self._sink = sink
        self._sign = sign
        self._done = done

    async def make(self, wanted: Wanted) -> bytes:
        """A small nar, whole and right. Raises: FetchFailed."""
        pieces: list[bytes] = []

        async def keep(piece: bytes) -> None:
            pieces.append(piece)

        async def attempt(way: Way) -> None:
            pieces.clear()
            await self._copy(way, wanted, keep)

        await self._try_all(wanted, attempt)
        return b"".join(pieces)

    async def put(self, wanted: Wanted, nar: bytes) -> None:
        """Have a nar that is whole and right go where it belongs."""
        try:
            await self._sink.begin(wanted.item)
            await self._sink.write(nar)
            await self._complete(wanted, hashlib.sha256(nar))
        except Exception as error:
            raise _SinkFailed from error
        self._done(len(nar))

    async def stream(self, wanted: Wanted) -> None:
        """Bring a large item as it comes. Raises: FetchFailed; _SinkFailed."""
        sent = 0

        async def send(piece: bytes) -> None:
            nonlocal sent
            await _sunk(self._sink.write(piece))
            sent += len(piece)
            self._done(len(piece))

        async def attempt(way: Way) -> None:
            nonlocal sent
            await _sunk(self._sink.begin(wanted.item))
            try:
                state = await self._copy(way, wanted, send)
            except _SinkFailed:
                raise
            except BaseException:
                self._done(-sent)
                sent = 0
                await _sunk(self._sink.take_back())
                raise
            await _sunk(self._complete(wanted, state))

        await self._try_all(wanted, attempt)

    async def _complete(self, wanted: Wanted, state: _Hash) -> None:
        end = await in_thread(end_of, wanted, state, self._sign)
        await self._sink.complete(end)

    async def _try_all(self, wanted: Wanted, attempt: Callable[[Way], Awaitable[None]]) -> None:
        failures: list[Exception] = []
        for way in await self._nars.ways(wanted):
            try:
                await attempt(way)
            except (ErisError, TimeoutError) as error:
                _log.debug("A way to an item failed", exc_info=error)
                failures.append(error)
                await self._nars.failed(way, wanted, error)
            else:
                return
        name = wanted.item.base_name
        if not failures:
            raise FetchFailed(f"{name}: nobody says where it can be had from")
        reasons = dict.fromkeys(map(_reason, failures[:_REASONS]))
        raise FetchFailed(f"{name}: {'; '.join(reasons)}") from failures[0]

    async def _copy(
        self, way: Way, wanted: Wanted, take: Callable[[bytes], Awaitable[None]]
    ) -> _Hash:
        """Get the nar by a way, hand it on in pieces, and compare its hash."""
        item = wanted.item
        state, size = hashlib.sha256(), 0
        async with (
            self._nars.watch(way) as watch,
            aclosing(self._nars.pieces(way, wanted, watch)) as pieces,
        ):
            async for piece in pieces:
                size += len(piece)
                if size > item.nar_size:
                    raise FetchFailed(f"more comes than the {item.nar_size} bytes of its nar")
                # While we work on it nobody else keeps us waiting.
                watch.pause()
                await in_thread(state.update, piece)
                await take(piece)
                watch.resume()
        if state.digest() != item.nar_hash:
            raise HashMismatch(item.nar_hash, state.digest())
        if size != item.nar_size:
            raise FetchFailed(f"its nar has {size} bytes, and should have {item.nar_size}")
        return state


async def _sunk(work: Awaitable[None]) -> None:
    try:
        await work
    except Exception as error:
        raise _SinkFailed from error


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "nothing comes any more"
    return reason_of(error)
