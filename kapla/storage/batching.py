"""Group commit and batched reads: the asynchronous front of a synchronous store.

A hasher thread computes the references of large blocks, whose hash runs beside other threads; a
writer thread commits what arrived since its last commit in one transaction, and only then are those
PUTs answered; a reader thread answers waiting GETs some dozens at a time; a finder thread answers
what is asked by FETCH, and how large the store is. A store that serves more at a time has several
writers and readers. `kapla.storage.rounds` has what each does, `kapla.storage.worker` the threads.

The queues are bounded by those who fill them: a connection hands in no more than it may have
outstanding, and keeps its place until all of that is done. What nobody waits for any more is not
done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from eris.errors import ErisError
from eris.model import BlockSize, Reference
from eris.threads import in_thread
from kapla.storage.hashing import Hasher, Puts
from kapla.storage.opening import open_backend
from kapla.storage.pinning import Pinning
from kapla.storage.pins import Hold
from kapla.storage.port import Backend, Kept, Listing, Looker, StoreSettings
from kapla.storage.rounds import SIZE, Finding, HeldFind, Reading, Task, Writing
from kapla.storage.scrubbing import Scrubbing
from kapla.storage.worker import Lanes, Wanted, Worker, always, answered

__all__ = ["BatchedStorage", "FindDone", "GetDone", "PutDone", "Wanted", "always"]

_T = TypeVar("_T")

GetDone = Callable[[Sequence[bytes | None] | ErisError], None]
"""Called on the event loop with the blocks asked for, None for each that is not there."""

PutDone = Callable[[Sequence[ErisError | None] | ErisError | None], None]
"""Called on the event loop: None when all blocks are kept, else the error of all or of each."""

FindDone = Callable[[Sequence[bool] | ErisError], None]
"""Called on the event loop with whether each of the blocks is there."""


class BatchedStorage:
    """The block store of a daemon: used from one event loop, working in threads."""

    def __init__(self, settings: StoreSettings) -> None:
        self.pinning = Pinning(self)
        """What must stay, or may be given to others."""
        self.settings = settings
        self.scrubbing = Scrubbing(self, self._looker, settings.scrub_rate)
        """Looking at what is stored."""
        self.backend: Backend
        """What keeps the blocks, of an open store."""
        self._is_open = False
        self._started: list[Worker[Any] | Hasher] = []
        self._writers: list[Writing] = []
        self._size: asyncio.Future[int] | None = None

    async def open(self) -> None:
        """Open the database and start the threads; `close` also after this failed.

        Raises: StorageError.
        """
        await in_thread(self._open_backend)
        self._writers = [Writing(self.backend) for _ in range(self.backend.writers)]
        see_to = self._writers[0].worker.poke
        readers = [Reading(self.backend, see_to) for _ in range(self.backend.readers)]
        # Apart from the reader: a question about a thousand blocks must not delay one for a block.
        finder = Finding(self.backend, see_to)
        writing = [one.worker for one in self._writers]
        reading = [one.worker for one in readers]
        workers: list[Worker[Any]] = [*writing, *reading, finder.worker]
        for worker in workers:
            # Before it starts: it must be stopped whatever becomes of that.
            self._started.append(worker)
            await worker.start()
        self._writing, self._reading = Lanes(writing), Lanes(reading)
        self._finding = finder.worker
        self._hashing = Hasher(self._writing.submit)
        self._started.append(self._hashing)
        self.scrubbing.start()

    async def close(self) -> None:
        """Finish what was handed in, write what was put off, close the store."""
        self.pinning.end()
        await self.scrubbing.stop()
        while self._started:
            # Off the list only when it has ended: a close that is cancelled can be repeated.
            await self._started[-1].stop()
            self._started.pop()
        if self._is_open:
            self._is_open = False
            await in_thread(self.backend.close)

    def _open_backend(self) -> None:
        self.backend = open_backend(self.settings)
        # In here: it must be closed also where whoever waits for it is cancelled.
        self._is_open = True

    def _looker(self) -> Looker:
        return self.backend.looker()

    def get_many(
        self,
        references: Sequence[Reference],
        done: GetDone,
        wanted: Wanted = always,
        group: object = None,
    ) -> None:
        """Fetch blocks of either size; what is damaged beyond reading counts as not there.

        Of references that are `Lent` only what is lent is there; as for `find_many`.
        `group`: of those who ask, as a listener; here as below groups are served in turn.
        """
        self._reading.submit(references, done, wanted, group)  # type: ignore[arg-type]

    def find_many(
        self,
        references: Sequence[Reference],
        done: FindDone,
        wanted: Wanted = always,
        group: object = None,
        hold: Hold | None = None,
    ) -> None:
        """Tell which blocks are there; those are held, where there is a hold."""
        if hold is not None:
            references = HeldFind(references, hold)
        self._finding.submit(references, done, wanted, group)  # type: ignore[arg-type]

    def put_many(
        self,
        blocks: Sequence[bytes],
        done: PutDone,
        wanted: Wanted = always,
        group: object = None,
        hold: Hold | None = None,
    ) -> None:
        """Keep blocks, each 1024 or 32768 bytes; their references are computed here.

        Where there is a hold, they are held: also those that were there. If its owner may not pin
        so much the answer is StoreFull for all of them, and they may be there all the same.
        """
        lane = self._hashing if len(blocks[0]) == BlockSize.LARGE else self._writing
        lane.submit(Puts(blocks, hold), done, wanted, group)  # type: ignore[arg-type]

    def keep(
        self, blocks: Mapping[Reference, bytes], done: PutDone, *, lend: bool, group: object = None
    ) -> None:
        """Keep blocks that were compared with their references; `lend`: while they are there.

        They came from somebody who has them, to be at hand the next time: no pin has them.
        """
        puts = Puts(list(blocks.values()), None, list(blocks), lend=lend)
        self._writing.submit(puts, done, always, group)  # type: ignore[arg-type]

    async def do(self, call: Callable[[Any], _T], wanted: Wanted = always) -> _T:
        """Have the writer's thread do something between its commits, as to a pin.

        It should be short: everybody's PUTs wait meanwhile.
        Raises: what `call` raises of ErisError; StoreUnavailable, also for what the backend says.
        """
        task = Task(call, self.backend.failures)
        worker = self._writers[0].worker
        result = await answered(
            lambda done, is_wanted: worker.submit(task, done, is_wanted), wanted
        )
        return cast(_T, result)

    @property
    def new_blocks(self) -> int:
        """How many blocks were new since the start."""
        return sum(writer.new_blocks for writer in self._writers)

    @property
    def full_blocks(self) -> int:
        """How many were refused since the start, as the store is full."""
        return sum(writer.full_blocks for writer in self._writers)

    def kept(self) -> Kept:
        """How many blocks are pinned, kept and lent, of an open store."""
        return self.backend.kept()

    def listing(self) -> Listing:
        """The list of what an open store has."""
        return self.backend.listing()

    @property
    def path(self) -> Path | None:
        """The file of an open store; None: it is in none."""
        return self.backend.path

    async def totals(self) -> tuple[dict[int, int], int]:
        """How many blocks of each size there are, and the bytes of the database.

        All who ask at the same time share one look at the file.
        Raises: StoreUnavailable, while the blocks are counted anew.
        """
        if self._size is None:
            self._size = asyncio.get_running_loop().create_future()
            self._finding.submit(SIZE, self._set_size, always)
        size = await asyncio.shield(self._size)
        return self.backend.totals(), size

    @property
    def evicted_blocks(self) -> int:
        """How many made room for others since the start."""
        return self.backend.evicted_blocks

    def _set_size(self, result: object) -> None:
        size, self._size = self._size, None
        assert size is not None
        if isinstance(result, ErisError):
            size.set_exception(result)
            # Whoever asked may have gone.
            size.exception()
        else:
            assert isinstance(result, int)
            size.set_result(result)
