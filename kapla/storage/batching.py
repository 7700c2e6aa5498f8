"""Group commit and batched reads: the asynchronous front of the synchronous store.

A hasher thread computes the references of large blocks, whose hash runs beside other threads; a
writer thread commits what arrived since its last commit in one transaction, and only then are those
PUTs answered; a reader thread answers waiting GETs some dozens at a time; a finder thread answers
what is asked by FETCH, and how large the store is. `kapla.storage.worker` has the threads.

The queues are bounded by those who fill them: a connection hands in no more than it may have
outstanding, and keeps its place until all of that is done. What nobody waits for any more is not
done.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar, cast

from eris.errors import ErisError, StoreFull, StoreUnavailable
from eris.model import BlockSize, Reference
from kapla.storage.hashing import LEAST_WEIGHT, Hasher, Puts
from kapla.storage.pinning import Pinning
from kapla.storage.sqlite.care.scrubbing import Scrubbing
from kapla.storage.sqlite.database import Database, SqliteSettings, open_database, opening
from kapla.storage.sqlite.keeping.promises import promise_of
from kapla.storage.sqlite.keeping.state import Hold, Keeping
from kapla.storage.sqlite.lending import LentReader, apart, lent_blocks, lent_names
from kapla.storage.sqlite.writer import PartlyDamaged, PutResult, SqliteReader, SqliteWriter
from kapla.storage.worker import Wanted, Worker, always, answered, to_its_end

__all__ = ["BatchedStorage", "FindDone", "GetDone", "PutDone", "Wanted", "always"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

# A round ends when this much has been gathered, or little more: a commit of 2 MiB, or of 512 small
# blocks; a query for 64 blocks. More would save nothing, and would leave peers waiting for all of
# it, with nothing under way meanwhile.
_COMMIT: Final = 2 * 1024 * 1024
_QUERY: Final = 64

GetDone = Callable[[Sequence[bytes | None] | ErisError], None]
"""Called on the event loop with the blocks asked for, None for each that is not there."""

PutDone = Callable[[Sequence[ErisError | None] | ErisError | None], None]
"""Called on the event loop: None when all blocks are kept, else the error of all or of each."""

FindDone = Callable[[Sequence[bool] | ErisError], None]
"""Called on the event loop with whether each of the blocks is there."""


class _Task(Generic[_T]):
    """Something else that the writer's thread is to do, on its session."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[SqliteWriter], _T]) -> None:
        self.call = call

    def __len__(self) -> int:
        """What it weighs beside blocks."""
        return LEAST_WEIGHT

    def do(self, writer: SqliteWriter) -> _T | ErisError:
        try:
            return self.call(writer)
        except ErisError as error:
            return error
        except sqlite3.Error as error:
            return StoreUnavailable(f"the store failed: {error}")


class _HeldFind(list[Reference]):
    """A question about blocks that are to be held, if they are there."""

    __slots__ = ("hold",)

    def __init__(self, references: Sequence[Reference], hold: Hold) -> None:
        super().__init__(references)
        self.hold = hold


# Beside references, the finder takes this: the bytes of the database are asked for.
_SIZE: Final[tuple[Reference, ...]] = (Reference(b"database_bytes"),)


class BatchedStorage:
    """The block store of a daemon: used from one event loop, working in four threads."""

    def __init__(self, settings: SqliteSettings) -> None:
        self.new_blocks = 0
        """How many blocks were new since the start."""
        self.full_blocks = 0
        """How many were refused since the start, as the store is full."""
        self.pinning = Pinning(self)
        """What must stay, or may be given to others."""
        self.settings = settings
        self.scrubbing = Scrubbing(self, settings, settings.scrub_rate)
        """Looking at what is stored."""
        self._started: list[Worker[Any] | Hasher] = []
        self._database: Database
        self._reader: LentReader | None = None
        self._finder: LentReader | None = None
        self._writer: SqliteWriter | None = None
        self._is_full_told = False
        self._size: asyncio.Future[int] | None = None

    async def open(self) -> None:
        """Open the database and start the threads; `close` also after this failed.

        Raises: StorageError.
        """
        self._database = await to_its_end(lambda: open_database(self.settings))
        self._writing: Worker[Puts | _Task[Any]] = Worker(
            "kapla-writer",
            _COMMIT,
            self._put_round,
            self._open_writer,
            self._close_writer,
            self._keep,
        )
        mend = self._see_to_damage
        self._reading: Worker[Sequence[Reference]] = Worker(
            "kapla-reader",
            _QUERY,
            apart(self._get_round, lambda batch: lent_blocks(self._reader, batch), mend),
            self._open_reader,
            self._close_reader,
        )
        # Apart from the reader: a question about a thousand blocks must not delay one for a block.
        self._finding: Worker[Sequence[Reference]] = Worker(
            "kapla-finder",
            _QUERY,
            apart(self._find_round, lambda batch: lent_names(self._finder, batch), mend),
            self._open_finder,
            self._close_finder,
        )
        for worker in (self._writing, self._reading, self._finding):
            # Before it starts: it must be stopped whatever becomes of that.
            self._started.append(worker)
            await worker.start()
        self._hashing = Hasher(self._writing.submit)
        self._started.append(self._hashing)
        self.scrubbing.start()

    async def close(self) -> None:
        """Finish what was handed in, move the WAL into the database, close it."""
        self.pinning.end()
        await self.scrubbing.stop()
        while self._started:
            # Off the list only when it has ended: a close that is cancelled can be repeated.
            await self._started[-1].stop()
            self._started.pop()

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
            references = _HeldFind(references, hold)
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
        worker = self._hashing if len(blocks[0]) == BlockSize.LARGE else self._writing
        worker.submit(Puts(blocks, hold), done, wanted, group)  # type: ignore[arg-type]

    def keep(
        self, blocks: Mapping[Reference, bytes], done: PutDone, *, lend: bool, group: object = None
    ) -> None:
        """Keep blocks that were compared with their references; `lend`: while they are there.

        They came from somebody who has them, to be at hand the next time: no pin has them.
        """
        puts = Puts(list(blocks.values()), None, list(blocks), lend=lend)
        self._writing.submit(puts, done, always, group)  # type: ignore[arg-type]

    async def do(self, call: Callable[[SqliteWriter], _T], wanted: Wanted = always) -> _T:
        """Have the writer's thread do something between its commits, as to a pin.

        It should be short: everybody's PUTs wait meanwhile.
        Raises: what `call` raises of ErisError; StoreUnavailable, also for what SQLite says.
        """
        result = await answered(
            lambda done, is_wanted: self._writing.submit(_Task(call), done, is_wanted), wanted
        )
        return cast(_T, result)

    @property
    def keeping(self) -> Keeping:
        """What is kept, held and lent, of an open store."""
        return self._database.keeping

    async def totals(self) -> tuple[dict[int, int], int]:
        """How many blocks of each size there are, and the bytes of the database.

        All who ask at the same time share one look at the file.
        Raises: StoreUnavailable, while the blocks are counted anew.
        """
        if self._size is None:
            self._size = asyncio.get_running_loop().create_future()
            self._finding.submit(_SIZE, self._set_size, always)
        size = await asyncio.shield(self._size)
        if self._database.totals is None:
            raise StoreUnavailable("the totals were damaged, and the blocks are counted anew")
        return dict(self._database.totals), size

    @property
    def evicted_blocks(self) -> int:
        """How many made room for others since the start."""
        return self._database.evicted_blocks

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

    def _open_reader(self) -> None:
        with opening(self.settings.path):
            self._reader = LentReader(self._database)

    def _close_reader(self) -> None:
        assert self._reader is not None
        self._reader.close()

    def _open_finder(self) -> None:
        with opening(self.settings.path):
            self._finder = LentReader(self._database)

    def _close_finder(self) -> None:
        assert self._finder is not None
        self._finder.close()

    def _open_writer(self) -> None:
        with opening(self.settings.path):
            self._writer = SqliteWriter(self._database)
        # What it found to be done goes on without a request.
        self._writing.poke()

    def _close_writer(self) -> None:
        assert self._writer is not None
        started = time.monotonic()
        try:
            self._writer.finish()
        except Exception as error:
            _log.warning("What is lent without a pin could not be written: %s", error)
        try:
            self._writer.checkpoint()
            _log.debug("Checkpoint took %.2f s", time.monotonic() - started)
        except Exception as error:
            # The WAL keeps what the checkpoint could not move.
            _log.warning("The WAL could not be emptied: %s", error)
        self._writer.close()

    def _keep(self, is_idle: bool) -> float | None:
        assert self._writer is not None
        return self._writer.chore(is_idle=is_idle)

    def _get_round(self, batch: list[Sequence[Reference]]) -> list[object]:
        assert self._reader is not None
        if len(batch) == 1:
            wanted = batch[0]
        else:
            wanted = [reference for references in batch for reference in references]
        found = self._reader.get_many(wanted)
        self._see_to_damage()
        return [list(map(found.get, references)) for references in batch]

    def _find_round(self, batch: list[Sequence[Reference]]) -> list[object]:
        assert self._finder is not None
        asked = [
            name
            for part in batch
            if part is not _SIZE and not isinstance(part, _HeldFind)
            for name in part
        ]
        found = self._finder.find_many(asked)
        self._see_to_damage()
        return [self._answer(self._finder, part, found) for part in batch]

    def _answer(
        self, finder: SqliteReader, part: Sequence[Reference], found: set[Reference]
    ) -> object:
        if part is _SIZE:
            return finder.database_bytes()
        if isinstance(part, _HeldFind):
            return self._hold(finder, part)
        return [name in found for name in part]

    def _hold(self, finder: SqliteReader, asked: _HeldFind) -> list[bool] | ErisError:
        assert self._writer is not None
        quota = self._writer.pins.quota
        try:
            found = finder.hold_many(asked, lambda places: quota.hold_found(asked.hold, places))
        except ErisError as error:
            return error
        self._see_to_damage()
        return [name in found for name in asked]

    def _see_to_damage(self) -> None:
        """The writer mends; it may be waiting for work."""
        if self._database.is_rebuild_wanted:
            self._writing.poke()

    def _put_round(self, batch: list[Puts | _Task[Any]]) -> list[object]:
        puts = [item for item in batch if isinstance(item, Puts)]
        if len(puts) == len(batch):
            return self._put(puts)
        writer = self._writer
        assert writer is not None
        try:
            put = iter(self._put(puts))
        except ErisError as error:
            # A full disk is no reason to do nothing else: it may be the way out.
            self._writing.complain(error)
            put = iter([error] * len(puts))
        return [item.do(writer) if isinstance(item, _Task) else next(put) for item in batch]

    def _put(self, batch: list[Puts]) -> list[object]:
        assert self._writer is not None
        together: dict[Reference, bytes] = {}
        for puts in batch:
            if not puts.references:
                puts.hash()
            together.update(zip(puts.references, puts.blocks, strict=True))
        promises = [promise_of(puts.hold, puts.references, lend=puts.lend) for puts in batch]
        errors: dict[Reference, StoreUnavailable | StoreFull] = {}
        try:
            result: PutResult = self._writer.put_many(
                together, [promise for promise in promises if promise is not None]
            )
        except PartlyDamaged as error:
            result = error.result
            errors |= error.failed
            self._writing.complain(error)
        self.new_blocks += result.added
        if result.refused:
            refusal = StoreFull(self._writer.why_full())
            self._tell_full(len(result.refused), refusal)
            errors |= dict.fromkeys(result.refused, refusal)
        elif result.added:
            self._is_full_told = False
        if not errors:
            return [promise and promise.error for promise in promises]
        return [
            (promise and promise.error) or [errors.get(name) for name in puts.references]
            for puts, promise in zip(batch, promises, strict=True)
        ]

    def _tell_full(self, refused: int, why: StoreFull) -> None:
        self.full_blocks += refused
        if not self._is_full_told:
            # Once, until there was room again: peers go on trying.
            self._is_full_told = True
            _log.warning("New blocks are refused: %s", why)
