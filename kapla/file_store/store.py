"""The store behind a URL `file://`: a client's store whose other end is a file.

Blocks are read and put at the storage itself; what else there is to ask, as for pins, is answered
in this process as a daemon would (`kapla.file_store.inside`). Reading needs no lock, and goes on
beside a daemon. With the first thing that is to be written the lock is taken, and kept until the
store is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from eris.errors import (
    CorruptBlock,
    StoreRefused,
    StoreUnavailable,
)
from eris.model import BlockSize, EncodedBlock, Reference
from kapla.coap.frame import Code
from kapla.file_store.place import Place
from kapla.remote_store import DEFAULT_CONNECT_TIMEOUT_S, RemoteStore
from kapla.urls import FileEndpoint, StoreUrl

if TYPE_CHECKING:
    from kapla.file_store.inside import Asker
    from kapla.storage.access import BlockAccess
    from kapla.storage.pins import Hold

__all__ = ["FileStore"]

_T = TypeVar("_T")

_SIZES: Final = frozenset(map(int, BlockSize))


class FileStore(RemoteStore):
    """A store in a file. Use as an asynchronous context, or `close()` it.

    `connect_timeout_s`: how long the lock is waited for; `on_wait` is called once, when that takes
    longer than a second. What is answered is as durable as with a daemon.
    """

    def __init__(
        self,
        url: StoreUrl,
        *,
        connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S,
        on_wait: Callable[[StoreUrl], None] | None = None,
    ) -> None:
        super().__init__(url)
        assert isinstance(url.endpoint, FileEndpoint)
        self._path = url.endpoint.path
        self._lock_timeout_s = connect_timeout_s
        self._on_lock_wait = on_wait
        self._place_used: Place | None = None
        self._asker: Asker | None = None
        self._is_closed = False
        self._owed = 0
        self._running: set[asyncio.Future[Any]] = set()
        self.blocks = self.bytes = 0
        """What it has given so far."""
        self.put_blocks = self.put_bytes = 0
        """What was put so far."""

    @property
    def connected(self) -> bool:
        """Whether the file is open."""
        return self._place_used is not None and self._place_used.access is not None

    @property
    def reconnecting(self) -> bool:
        """A file does not go away for a moment: never."""
        return False

    @property
    def owed(self) -> int:
        """How many blocks are under way."""
        return self._owed

    def stay_here(self) -> None:
        """From now on GETs are for what this store has itself: it never has others."""

    async def connect(self) -> None:
        """Open the file to read it, if it is there: it may be one that is only to be made.

        Raises: StoreUnavailable.
        """
        if self._place().is_there or not self.url.allows("put"):
            await self._place().read()

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        """Fetch a block: see `eris.store.BlockReader`."""
        return self._begin(self._get(reference, block_size))

    def put(self, reference: Reference, block: bytes) -> Awaitable[None]:
        """Keep a block: see `eris.store.BlockWriter`. It is on disk when it is answered."""
        return self.put_all([(reference, block)])

    def put_all(self, blocks: Sequence[EncodedBlock]) -> Awaitable[None]:
        """Keep blocks: see `eris.store.ManyWriter`. They are on disk when it is answered."""
        return self._begin(self._put_all(blocks), len(blocks))

    async def find(
        self, references: Sequence[Reference], *, with_peers: bool = False
    ) -> list[bool]:
        """Tell which blocks are there: see `eris.store.BlockFinder`.

        `with_peers` makes no difference: a file has none. One that is only to be made has nothing.
        """
        self._check("get")
        if not references or self._is_to_be_made():
            return [False] * len(references)
        access, hold = await self._place().read(), self._hold()
        found = await access.find(references, hold=hold)
        self.found += sum(found)
        if self.held is not None:
            self.held.update(compress(references, found))
        return found

    async def takes_blocks(self) -> bool:
        """Whether blocks can be put: takes the lock, since they are about to be.

        Raises: StoreUnavailable, if another program has it; ConfigError.
        """
        if not self.url.allows("put"):
            return False
        try:
            await self._to_write()
        except StoreRefused:
            return False
        return True

    async def stat(self) -> dict[str, Any]:
        """What the store holds. Raises: StoreUnavailable."""
        return await self._place().report()

    async def ask(
        self, code: int, body: bytes, *, may_be_repeated: bool = False, only_reads: bool = False
    ) -> tuple[int, bytes]:
        """Answer any request, as a daemon's own user is answered; code and payload.

        What may change something takes the lock. Raises: StoreUnavailable, StoreRefused.
        """
        place = self._place()
        if code == Code.GET or only_reads:
            await place.read()
        else:
            await self._to_write()
        inside = place.inside()
        if self._asker is None:
            from kapla.file_store.inside import Asker

            self._asker = Asker()
        return await inside.ask(self._asker, code, body)

    async def close(self) -> None:
        """Finish what was put, give the lock back, and close the file, for good."""
        self._is_closed = True
        running = [task for task in self._running if not task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        if self._asker is not None:
            self._asker.pin.leave()
        place, self._place_used = self._place_used, None
        if place is not None:
            await place.leave()

    def _request(self, code: int, body: bytes, reference: bytes, size: int) -> asyncio.Future[Any]:
        """What `RemoteStore` asks for, beside blocks: the payload of a good answer."""
        return self._begin(self._good(code, body))

    async def _good(self, code: int, body: bytes) -> bytes:
        from kapla.pin_messages import good_answer

        return good_answer(*await self.ask(code, body))

    async def _get(self, reference: Reference, block_size: BlockSize) -> bytes:
        self._check("get")
        access = await self._place().read()
        block = await access.fetch(reference)
        if len(block) != block_size:
            raise CorruptBlock(reference, size=len(block), expected_size=int(block_size))
        self.blocks += 1
        self.bytes += len(block)
        return block

    async def _put_all(self, blocks: Sequence[EncodedBlock]) -> None:
        self._check("put")
        for reference, block in blocks:
            if len(block) not in _SIZES:
                raise CorruptBlock(reference, size=len(block), expected_size=int(BlockSize.SMALL))
        access = await self._to_write()
        if self.held is not None:
            self.held.update(reference for reference, _ in blocks)
        await access.put_all(blocks, hold=self._hold())
        self.put_blocks += len(blocks)
        self.put_bytes += sum(len(block) for _, block in blocks)

    def _begin(self, work: Coroutine[Any, Any, _T], requests: int = 1) -> asyncio.Task[_T]:
        """Begin something at once, whenever it is awaited."""

        def ended(task: asyncio.Future[Any]) -> None:
            self._owed -= requests
            self._running.discard(task)

        task = asyncio.ensure_future(work)
        self._owed += requests
        self._running.add(task)
        task.add_done_callback(ended)
        return task

    def _check(self, right: str) -> None:
        if not self.url.allows(right):
            raise StoreRefused(f"the URL of this store does not allow {right}")

    def _is_to_be_made(self) -> bool:
        return not self._place().is_there and self.url.allows("put")

    def _hold(self) -> Hold | None:
        return None if self._asker is None else self._asker.pin.hold

    def _place(self) -> Place:
        if self._is_closed:
            raise StoreUnavailable(f"the store {self.url} is closed")
        if self._place_used is None:
            self._place_used = Place.of(self._path)
        return self._place_used

    async def _to_write(self) -> BlockAccess:
        self._check("put")
        return await self._place().write(self._lock_timeout_s, self._say_waiting_for_lock)

    def _say_waiting_for_lock(self) -> None:
        if self._on_lock_wait is not None:
            self._on_lock_wait(self.url)
