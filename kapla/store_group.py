"""A group of stores with the same blocks and pins, as the front ends of one database, as one store.

Blocks are got from all members, by whoever owes the least. Whatever else is asked goes over one
connection, as an open pin belongs to one; which member has it is by chance, so that clients spread.

A member that cannot be reached, breaks off, or cannot work now is left alone for a while, and what
it was asked is asked at the next one, unless it might do harm to do it twice. An open pin is gone
on with there, by its token. Only where all members fail that is an error; and where they worked
before, they are waited for, as a single store is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from eris.errors import StoreUnavailable
from eris.model import BlockSize, EncodedBlock, Reference
from kapla.coap.asked import Asked
from kapla.coap.frame import Code
from kapla.coap.requester import Requester
from kapla.errors import PinLost
from kapla.remote_store import RemoteStore
from kapla.urls import StoreUrl

__all__ = ["GroupStore"]

_T = TypeVar("_T")

_FIRST_ABSENCE_S: Final = 0.5
_LONGEST_ABSENCE_S: Final = 30.0
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0


class _Unable(StoreUnavailable):
    """An answer that says that a store cannot work now."""

    def __init__(self, code: int, payload: bytes) -> None:
        super().__init__("the store cannot do this now")
        self.answer = code, payload


class _Member:
    """One store of the group, and until when it is left alone. `store` is for getting blocks."""

    def __init__(self, store: RemoteStore) -> None:
        self.store = store
        self._failed_at = self._absent_until = 0.0
        self._absence_s = _FIRST_ABSENCE_S

    @property
    def is_absent(self) -> bool:
        """Whether it is left alone now."""
        return asyncio.get_running_loop().time() < self._absent_until

    @property
    def rank(self) -> tuple[bool, float]:
        """Who is asked first: those that are there, then whoever failed the longest time ago."""
        return (True, self._failed_at) if self.is_absent else (False, 0.0)

    def answered(self) -> None:
        """It works."""
        self._absence_s = _FIRST_ABSENCE_S

    def set_aside(self) -> None:
        """Leave it alone; of many requests that fail together the first says for how long."""
        self._failed_at = now = asyncio.get_running_loop().time()
        if now >= self._absent_until:
            self._absent_until = now + self._absence_s
            self._absence_s = min(2 * self._absence_s, _LONGEST_ABSENCE_S)


class _Patience:
    """How often one request is tried: at each member once, then for so long, with pauses."""

    def __init__(self, members: int, for_s: float) -> None:
        self._at_once = members - 1
        self._for_s = for_s
        self._until: float | None = None
        self._pause_s = _FIRST_PAUSE_S

    async def is_left(self) -> bool:
        """Whether it is tried once more, and now."""
        if self._at_once:
            self._at_once -= 1
            return True
        now = asyncio.get_running_loop().time()
        self._until = now + self._for_s if self._until is None else self._until
        if now >= self._until:
            return False
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        return True


class GroupStore(RemoteStore):
    """The members of a group as one store: see above. `said`: what `RemoteStore` takes besides."""

    def __init__(
        self,
        url: StoreUrl,
        *,
        reconnect_s: float = 0.0,
        on_lost: Callable[[StoreUrl, float], None] | None = None,
        has_others: bool = False,
        **said: Any,
    ) -> None:
        super().__init__(url, reconnect_s=reconnect_s, has_others=has_others, **said)
        members = [_Member(RemoteStore(one, has_others=True, **said)) for one in url.members]
        first = random.randrange(len(members))
        self._members = members[first:] + members[:first]
        self._at = self._members[0]
        self._reconnect_s = reconnect_s
        self._has_others = has_others
        self._on_lost = on_lost
        self._is_lost_told = False
        self._was_there = False
        # Counts those that were made for all.
        self._connections = 0
        # Counts how often it was closed: what waits then waits no more.
        self._closings = 0
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def stores(self) -> list[RemoteStore]:
        """Its connections: the one for all, and those by which blocks are got."""
        return [self, *(member.store for member in self._members if member.store.connected)]

    @property
    def owed(self) -> int:
        """How many requests have no answer so far, those that wait for a connection included."""
        return super().owed + sum(member.store.owed for member in self._members)

    def stay_here(self) -> None:
        """From now on GETs are for what these stores have themselves."""
        super().stay_here()
        for member in self._members:
            member.store.stay_here()

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        """Fetch a block from whichever member owes the least: see `eris.store.BlockReader`."""
        return self._get(reference, block_size)

    def put(self, reference: Reference, block: bytes) -> Awaitable[None]:
        """Keep a block: see `eris.store.BlockWriter`."""
        return self.put_all([(reference, block)])

    def put_all(self, blocks: Sequence[EncodedBlock]) -> Awaitable[None]:
        """Keep blocks: see `eris.store.ManyWriter`."""
        return self._anywhere(partial(RemoteStore.put_all, self, blocks))

    async def find(
        self, references: Sequence[Reference], *, with_peers: bool = False
    ) -> list[bool]:
        """Tell which blocks are there: see `eris.store.BlockFinder`."""
        find = partial(RemoteStore.find, self, references, with_peers=with_peers)
        return await self._anywhere(find)

    async def takes_blocks(self) -> bool:
        """Ask whether these stores let us put blocks. Raises: StoreUnavailable."""
        return await self._anywhere(partial(RemoteStore.takes_blocks, self))

    async def stat(self) -> dict[str, Any]:
        """Ask a member what there is, and how it is itself. Raises: StoreError."""
        return await self._anywhere(partial(RemoteStore.stat, self))

    async def ask(
        self, code: int, body: bytes, *, may_be_repeated: bool = False, only_reads: bool = False
    ) -> tuple[int, bytes]:
        """Send any request: see `RemoteStore.ask`. One that says that it cannot did nothing."""
        repeats = code != Code.POST or may_be_repeated or only_reads

        async def once() -> tuple[int, bytes]:
            answer = await RemoteStore.ask(
                self, code, body, may_be_repeated=may_be_repeated, only_reads=only_reads
            )
            if answer[0] == Code.SERVICE_UNAVAILABLE:
                raise _Unable(*answer)
            return answer

        try:
            return await self._anywhere(once, StoreUnavailable if repeats else _Unable)
        except _Unable as error:
            return error.answer

    async def close(self) -> None:
        """Fail what is still waiting, and close all connections; the next request makes others."""
        self._closings += 1
        for member in self._members:
            await member.store.close()
        await super().close()
        if self._ending:
            await asyncio.wait(self._ending)

    async def _get(self, reference: Reference, block_size: BlockSize) -> bytes:
        patience, closings = self._patience(is_get=True), self._closings
        while True:
            member = self._idlest()
            try:
                block = await member.store.get(reference, block_size)
            except StoreUnavailable:
                member.set_aside()
                if self._closings != closings or not await patience.is_left():
                    raise
            else:
                self._was_there = True
                member.answered()
                return block

    async def _anywhere(
        self, call: Callable[[], Awaitable[_T]], kind: type[StoreUnavailable] = StoreUnavailable
    ) -> _T:
        """Ask over the connection for all; after an error of this kind at another member."""
        patience, closings = self._patience(), self._closings
        while True:
            # The one that there is, or the next.
            connection = self._connections + (not self.connected)
            try:
                result = await call()
            except PinLost:
                raise
            except kind:
                self._leave(connection)
                if self._closings != closings or not await patience.is_left():
                    raise
            else:
                self._at.answered()
                return result

    def _patience(self, *, is_get: bool = False) -> _Patience:
        # Those that were never there are not waited for, nor for blocks that others may have.
        is_waited_for = self._was_there and not (is_get and self._has_others)
        return _Patience(len(self._members), self._reconnect_s if is_waited_for else 0.0)

    def _idlest(self) -> _Member:
        return min(self._members, key=lambda member: (*member.rank, member.store.owed))

    def _leave(self, connection: int) -> None:
        """Use this connection no more, if it is still the one: its store cannot work now."""
        wire = self._wire
        if wire is None or not wire.usable or connection != self._connections:
            return
        self._at.set_aside()
        self._wire = None
        # It ends now: the store gives up the pin that is to be gone on with elsewhere.
        ending = asyncio.ensure_future(wire.close())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def _lost(self, wire: Requester, requests: list[Asked]) -> list[Asked]:
        if wire is self._wire:
            self._at.set_aside()
        return super()._lost(wire, requests)

    async def _connect(self) -> Requester:
        """Connect to the first member that lets us. Raises: StoreUnavailable; PinLost."""
        failure: StoreUnavailable | None = None
        for member in sorted(self._members, key=lambda member: member.rank):
            try:
                wire = await self._connect_to(member.store.url)
            except PinLost:
                raise
            except StoreUnavailable as error:
                member.set_aside()
                failure = error
            else:
                self._at, self._was_there, self._is_lost_told = member, True, False
                self._connections += 1
                return wire
        self._tell_lost()
        assert failure is not None
        raise failure

    def _tell_lost(self) -> None:
        """All are away: it may take a while."""
        if self.reconnecting and self._on_lost is not None and not self._is_lost_told:
            self._is_lost_told = True
            self._on_lost(self.url, self._reconnect_s)
