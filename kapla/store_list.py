"""Several stores as one, each with a place in a list.

Blocks are looked for on this machine first, in the order of the list, and then in all the others at
once: in whichever has them, and is quick. They are put into one: the first that can be reached and
takes them. It stays the one as long as it can be reached, so that what belongs together lies
together. A store that fails to answer is left alone for a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

from eris.base32 import short
from eris.crypto import reference_of
from eris.errors import (
    BlockNotFound,
    CorruptBlock,
    ErisError,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from eris.model import BlockSize, EncodedBlock, Reference
from kapla.errors import NotAllowed, StoreSilent
from kapla.urls import FileEndpoint, HttpEndpoint, UnixEndpoint

if TYPE_CHECKING:
    from kapla.http.asking.store import HttpStore
    from kapla.peers.live import Live, LiveSources
    from kapla.peers.runner import Runner
    from kapla.remote_store import RemoteStore
    from kapla.urls import StoreUrl

__all__ = ["StoreList"]

_log = logging.getLogger(__name__)

_TRY_AGAIN_S: Final = 30.0
_TRY_AGAIN_AT_LAST_S: Final = 1800.0


class _Member:
    """A store of the list, and until when it is left alone.

    A host that swallows what is sent to it would cost a time-out for every block; so it is not
    asked again at once, and each time it fails the pause is longer.
    """

    def __init__(self, store: RemoteStore | HttpStore) -> None:
        self.store = store
        self.is_closed = False
        near = (UnixEndpoint, FileEndpoint)
        self.is_near = all(isinstance(url.endpoint, near) for url in store.url.members)
        """Whether it is on this machine."""
        self.may_take = store.url.allows("put")
        self.has_taken = False
        self._absent_until = 0.0
        self._pause_s = 0.0

    async def connect(self) -> None:
        """Connect, unless that was tried in vain a moment ago.

        Raises: StoreUnavailable.
        """
        if self.is_closed:
            # Else a request that goes on to the next store would connect to it once more.
            raise StoreUnavailable(f"the connection to {self.store.url} was closed")
        if asyncio.get_running_loop().time() < self._absent_until:
            raise StoreUnavailable(f"{self.store.url} did not answer a moment ago")
        if self.store.connected:
            return
        if self.store.reconnecting:
            raise StoreUnavailable(f"the connection to {self.store.url} was lost a moment ago")
        try:
            await self.store.connect()
        except StoreUnavailable:
            self.set_aside()
            raise

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        """Fetch a block, and see that it is the right one.

        Raises: BlockNotFound; CorruptBlock; StoreError.
        """
        try:
            await self.connect()
            block = await self.store.get(reference, block_size)
        except BlockNotFound:
            self.answered()
            raise
        except ErisError as error:
            self.failed(error)
            raise
        # Whoever decodes checks too, but can no longer ask the next store.
        if reference_of(block) != reference:
            raise CorruptBlock(reference)
        self.answered()
        return block

    async def find(self, references: Sequence[Reference]) -> list[bool]:
        """Ask which blocks it has. Raises: StoreError."""
        try:
            await self.connect()
            return await self.store.find(references)
        except StoreError as error:
            self.failed(error)
            raise

    def answered(self) -> None:
        """It works: the next pause is a short one again."""
        self._pause_s = 0.0

    def failed(self, error: ErisError) -> None:
        """A request came to nothing: of one that said nothing the next would not know more."""
        if isinstance(error, StoreSilent):
            self.set_aside()

    def set_aside(self) -> None:
        """Leave it alone for a while; of many requests that fail together the first decides."""
        now = asyncio.get_running_loop().time()
        if now >= self._absent_until:
            self._pause_s = min(2 * self._pause_s or _TRY_AGAIN_S, _TRY_AGAIN_AT_LAST_S)
            self._absent_until = now + self._pause_s


class StoreList:
    """Several stores as one: see above. `on_taker` is told which one the blocks go to, once chosen.

    It is called with the URL of that store, and with those before it that do not take blocks.
    """

    def __init__(
        self,
        stores: Sequence[RemoteStore | HttpStore],
        *,
        on_taker: Callable[[StoreUrl, Sequence[StoreUrl]], None] | None = None,
    ) -> None:
        if not stores:
            raise ValueError("no store")
        self._members = tuple(map(_Member, stores))
        may_get = [member for member in self._members if member.store.url.allows("get")]
        self._near = [member for member in may_get if member.is_near]
        self._far = [member for member in may_get if not member.is_near]
        self._sources: LiveSources | None = None
        self._runner: Runner | None = None
        self._on_taker = on_taker
        self._taker: _Member | None = None
        self._choosing: asyncio.Task[_Member] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def urls(self) -> list[StoreUrl]:
        """Where the stores are, in order."""
        return [member.store.url for member in self._members]

    @property
    def stores(self) -> list[RemoteStore | HttpStore]:
        """Each by itself, in order."""
        return [member.store for member in self._members]

    async def close(self) -> None:
        """Close every connection, for good."""
        for member in self._members:
            member.is_closed = True
        if self._choosing is not None:
            self._choosing.cancel()
            await asyncio.wait([self._choosing])
        if self._runner is not None:
            self._runner.close(f"the connection to {self._far[0].store.url} was closed")
        for member in self._members:
            await member.store.close()

    async def connect(self) -> None:
        """Connect to all stores now, all at once, those that can be reached.

        Raises: StoreUnavailable, if none can.
        """
        tried = (member.connect() for member in self._members)
        failures = await asyncio.gather(*tried, return_exceptions=True)
        if all(failures):
            assert failures[0] is not None
            raise failures[0]

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        """Fetch a block from a store on this machine, else from another that has it.

        When none has it but one could not be asked, that one's error is raised: it may have it.
        """
        return self._get(reference, block_size)

    async def _get(self, reference: Reference, block_size: BlockSize) -> bytes:
        failure: ErisError | None = None
        for member in self._near:
            try:
                return await member.get(reference, block_size)
            except BlockNotFound as error:
                failure = failure or error
            except (StoreError, CorruptBlock) as error:
                _log.debug("Block %s from %s: %s", short(reference), member.store.url, error)
                failure = error
        if not self._far:
            raise failure or StoreRefused("no store in the list allows get")
        try:
            return (await self._session().fetch(reference, block_size)).data
        except BlockNotFound as error:
            raise failure or error from None

    def _session(self) -> Runner:
        """The session that asks the stores of other machines; made when it is first needed."""
        if self._runner is None:
            # Loaded only here: most lists have one store, which is asked without a session.
            from kapla.peers.live import LiveSources
            from kapla.peers.remote import StoreSource
            from kapla.peers.runner import Runner
            from kapla.peers.session import Standing

            sources = LiveSources(on_distrust=self._lied)
            for member in self._far:
                # Over HTTP nothing is cheaper than to ask for the blocks.
                tells = not isinstance(member.store.url.endpoint, HttpEndpoint)
                source = StoreSource(str(member.store.url), member)
                sources.add(source, Standing(tells=tells))
            self._sources = sources
            # Each store has a time-out of its own.
            self._runner = Runner(sources, patience_s=float("inf"))
        return self._runner

    def _lied(self, number: int, live: Live) -> None:
        """A store that is listed stays so: it is left alone for a while."""
        if self._sources is not None:
            self._sources.add(live.source, live.standing)

    async def put(self, reference: Reference, block: bytes) -> None:
        """Keep a block in the first store that can be reached and takes blocks."""
        await self.put_all([(reference, block)])

    async def put_all(self, blocks: Sequence[EncodedBlock]) -> None:
        """Likewise keep blocks: see `eris.store.ManyWriter`."""
        member = await self._chosen()
        try:
            # No URL of HTTP allows put.
            await cast("RemoteStore", member.store).put_all(blocks)
        except NotAllowed:
            # It had not said so when it was asked, as some programs do not.
            member.may_take = member.has_taken
            if member.has_taken or not any(other.may_take for other in self._members):
                raise
            self._taker = None if self._taker is member else self._taker
            await self.put_all(blocks)
            return
        except StoreError as error:
            member.failed(error)
            raise
        member.has_taken = True
        member.answered()

    async def find(self, references: Sequence[Reference]) -> list[bool]:
        """Ask the store that puts go to which blocks it has: the others' do not count."""
        member = await self._chosen()
        try:
            return await member.store.find(references)
        except StoreError as error:
            member.failed(error)
            raise

    async def taker(self) -> RemoteStore:
        """The store that puts go to, chosen and connected.

        Raises: StoreError.
        """
        # No URL of HTTP allows put.
        return cast("RemoteStore", (await self._chosen()).store)

    async def stat(self) -> dict[str, Any]:
        """Ask the first store that can be reached what it holds."""
        failure: StoreUnavailable | None = None
        for member in self._members:
            try:
                await member.connect()
                return await member.store.stat()
            except StoreUnavailable as error:
                member.failed(error)
                failure = error
        assert failure is not None
        raise failure

    async def _chosen(self) -> _Member:
        """The store that blocks go to, connected."""
        if self._taker is not None:
            if self._taker.store.connected:
                return self._taker
            try:
                if self._taker.store.reconnecting:
                    # What belongs together lies together: it is waited for.
                    await self._taker.store.connect()
                await self._taker.connect()
                return self._taker
            except StoreUnavailable as error:
                _log.debug("Blocks go to another store: %s", error)
        if self._choosing is None:
            self._choosing = asyncio.ensure_future(self._choose())
            self._choosing.add_done_callback(self._choice_ended)
        choosing = self._choosing
        # One task chooses for all; that one of them loses interest does not stop it.
        await asyncio.wait([choosing])
        if choosing.cancelled():
            raise StoreUnavailable("the connections to the stores were closed")
        return choosing.result()

    def _choice_ended(self, task: asyncio.Task[_Member]) -> None:
        self._choosing = None
        if not task.cancelled() and task.exception() is None:
            self._taker = task.result()

    async def _choose(self) -> _Member:
        """Find the first store that can be reached and takes blocks."""
        failure: StoreError | None = None
        may = [member for member in self._members if member.may_take]
        refusing = [member.store.url for member in self._members if not member.may_take]
        for member in may:
            try:
                await member.connect()
                # Where there is no other, its own words for a refusal say more.
                if len(may) == 1 or await member.store.takes_blocks():
                    if self._on_taker is not None:
                        self._on_taker(member.store.url, refusing)
                    return member
                refusing.append(member.store.url)
            except StoreUnavailable as error:
                _log.debug("No blocks to %s: %s", member.store.url, error)
                member.failed(error)
                failure = error
        raise failure or StoreRefused("no store in the list takes blocks: they are read-only here")
