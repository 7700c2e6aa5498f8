"""Group commit and batched reads: the asynchronous front of the synchronous store.

A hasher thread computes the references of large blocks, whose hash runs beside other threads; a
writer thread commits what arrived since its last commit in one transaction, and only then are those
PUTs answered; a reader thread answers waiting GETs some dozens at a time; a finder thread answers
what is asked by FETCH. Work arrives as lists with a callback, and results come back to the event
loop once a round, so that the cost of threads and wake-ups is paid by the batch and not by the
block.

The queues are bounded by those who fill them: a connection hands in no more than it may have
outstanding, and keeps its place until all of that is done. What nobody waits for any more is not
done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence, Sized
from typing import Any, Final, Generic, TypeVar

from eris.crypto import reference_of
from eris.errors import ErisError, StoreFull, StoreUnavailable
from eris.model import BlockSize, Reference
from kapla.storage.database import SqliteSettings, open_database, opening
from kapla.storage.sqlite import DamagedStore, PutResult, SqliteReader, SqliteWriter

__all__ = ["BatchedStorage", "FindDone", "GetDone", "PutDone", "Wanted", "always"]

_log = logging.getLogger(__name__)

# A round ends when this much has been gathered, or little more: a commit of 2 MiB, or of 512 small
# blocks; a query for 64 blocks. More would save nothing, and would leave peers waiting for all of
# it, with nothing under way meanwhile.
_COMMIT: Final = 2 * 1024 * 1024
_LEAST_WEIGHT: Final = 4096
_QUERY: Final = 64

GetDone = Callable[[Sequence[bytes | None] | ErisError], None]
"""Called on the event loop with the blocks asked for, None for each that is not there."""

PutDone = Callable[[Sequence[ErisError | None] | ErisError | None], None]
"""Called on the event loop: None when all blocks are kept, else the error of all or of each."""

FindDone = Callable[[Sequence[bool] | ErisError], None]
"""Called on the event loop with whether each of the blocks is there."""

Wanted = Callable[[], bool]
"""Tells, from any thread, whether somebody still waits: if not, it is not done."""

_Requests = TypeVar("_Requests", bound=Sized)
_Done = Callable[[object], None]
_Item = tuple[_Requests, _Done, Wanted]


def always() -> bool:
    """Somebody waits until it is done, whatever happens."""
    return True


class _Worker(Generic[_Requests]):
    """A thread that gathers what has arrived, works on it at once, and reports back."""

    def __init__(
        self,
        name: str,
        round_size: int,
        work: Callable[[list[_Requests]], list[object]],
        prepare: Callable[[], None],
        finish: Callable[[], None],
    ) -> None:
        self._queue: queue.SimpleQueue[_Item[_Requests] | None] = queue.SimpleQueue()
        self._round_size = round_size
        self._work, self._prepare, self._finish = work, prepare, finish
        self._last_failure = ""
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    async def start(self) -> None:
        self._thread.start()
        await self._ready

    def submit(self, requests: _Requests, done: _Done, wanted: Wanted) -> None:
        self._queue.put((requests, done, wanted))

    async def stop(self) -> None:
        """Finish everything handed in before that is wanted, then end the thread."""
        self._queue.put(None)
        await self._ended
        self._thread.join()

    def _run(self) -> None:
        try:
            self._prepare()
        except BaseException as error:
            self._loop.call_soon_threadsafe(self._ready.set_exception, error)
            return
        self._loop.call_soon_threadsafe(self._ready.set_result, None)
        try:
            while self._round():
                pass
            self._finish()
        finally:
            # Whoever waits for the end must not wait for ever.
            self._loop.call_soon_threadsafe(self._ended.set_result, None)

    def _round(self) -> bool:
        item = self._queue.get()
        batch: list[_Requests] = []
        dones: list[_Done] = []
        given_up: list[_Done] = []
        count = 0
        while item is not None:
            requests, done, wanted = item
            if wanted():
                batch.append(requests)
                dones.append(done)
                count += len(requests)
            else:
                given_up.append(done)
                count += 1
            if count >= self._round_size:
                break
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
        results = self._results(batch) if batch else []
        if given_up:
            dones += given_up
            results += [StoreUnavailable("nobody waits for this any more")] * len(given_up)
        if dones:
            self._loop.call_soon_threadsafe(self._deliver, dones, results)
        return item is not None

    def _results(self, batch: list[_Requests]) -> list[object]:
        try:
            results = self._work(batch)
            self._last_failure = ""
            return results
        except ErisError as error:
            if isinstance(error, DamagedStore) and len(batch) > 1:
                # Only those who ask for what is damaged are to suffer from it.
                return [self._results([requests])[0] for requests in batch]
            if str(error) != self._last_failure:
                # Once, however many peers go on trying.
                self._last_failure = str(error)
                _log.error("The store failed: %s", error)
            return [error] * len(batch)
        except Exception as error:
            # Whatever it is, every waiting peer must get an answer and the thread must live.
            _log.exception("The store failed")
            failure = StoreUnavailable(f"the store failed: {type(error).__name__}")
            return [failure] * len(batch)

    @staticmethod
    def _deliver(dones: list[_Done], results: list[object]) -> None:
        for done, result in zip(dones, results, strict=True):
            try:
                try:
                    done(result)
                except Exception:
                    # It waits all the same.
                    done(StoreUnavailable("the store gave something that cannot be sent"))
                    raise
            except Exception:
                # One peer's trouble must not keep the answers of others.
                _log.exception("An answer could not be delivered")


class _Puts:
    """Blocks that want to be kept, and their references once they are known."""

    __slots__ = ("blocks", "references")

    def __init__(self, blocks: Sequence[bytes]) -> None:
        self.blocks = blocks
        self.references: list[Reference] = []

    def __len__(self) -> int:
        """What they weigh in a commit, in bytes."""
        return sum(max(_LEAST_WEIGHT, len(block)) for block in self.blocks)

    def hash(self) -> None:
        self.references = list(map(reference_of, self.blocks))


class _Hasher:
    """A thread that computes references ahead of the writer.

    The hash of a large block lets other threads run; that of a small one does not, and would only
    add a change of threads: the writer computes those.
    """

    def __init__(self, then: Callable[[_Puts, _Done, Wanted], None]) -> None:
        self._queue: queue.SimpleQueue[_Item[_Puts] | None] = queue.SimpleQueue()
        self._then = then
        self._thread = threading.Thread(target=self._run, name="kapla-hasher", daemon=True)
        self._thread.start()

    def submit(self, puts: _Puts, done: _Done, wanted: Wanted) -> None:
        self._queue.put((puts, done, wanted))

    async def stop(self) -> None:
        """Hand on everything handed in before, then end the thread."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while item := self._queue.get():
            puts, done, wanted = item
            try:
                if wanted():
                    puts.hash()
            except Exception:
                # The thread must live. The writer hashes what is not hashed, and tells what fails.
                _log.exception("Blocks could not be hashed ahead")
            self._then(puts, done, wanted)


class BatchedStorage:
    """The block store of a daemon: used from one event loop, working in four threads."""

    def __init__(self, settings: SqliteSettings) -> None:
        self.new_blocks = 0
        """How many blocks were new since the start."""
        self._settings = settings
        self._damage_told = False
        self._started: list[_Worker[Any] | _Hasher] = []
        self._reader: SqliteReader | None = None
        self._finder: SqliteReader | None = None
        self._writer: SqliteWriter | None = None

    async def open(self) -> None:
        """Open the database and start the threads.

        Raises: StorageError.
        """
        self._database = await asyncio.to_thread(open_database, self._settings)
        self._writing: _Worker[_Puts] = _Worker(
            "kapla-writer", _COMMIT, self._put_round, self._open_writer, self._close_writer
        )
        self._reading: _Worker[Sequence[Reference]] = _Worker(
            "kapla-reader", _QUERY, self._get_round, self._open_reader, self._close_reader
        )
        # Apart from the reader: a question about a thousand blocks must not delay one for a block.
        self._finding: _Worker[Sequence[Reference]] = _Worker(
            "kapla-finder", _QUERY, self._find_round, self._open_finder, self._close_finder
        )
        for worker in (self._writing, self._reading, self._finding):
            await worker.start()
            self._started.append(worker)
        self._hashing = _Hasher(self._writing.submit)
        self._started.append(self._hashing)

    async def close(self) -> None:
        """Finish what was handed in, move the WAL into the database, close it."""
        while self._started:
            await self._started.pop().stop()

    def get_many(
        self, references: Sequence[Reference], done: GetDone, wanted: Wanted = always
    ) -> None:
        """Fetch blocks of either size; what is damaged beyond reading counts as not there."""
        self._reading.submit(references, done, wanted)  # type: ignore[arg-type]

    def find_many(
        self, references: Sequence[Reference], done: FindDone, wanted: Wanted = always
    ) -> None:
        """Tell which blocks are there."""
        self._finding.submit(references, done, wanted)  # type: ignore[arg-type]

    def put_many(self, blocks: Sequence[bytes], done: PutDone, wanted: Wanted = always) -> None:
        """Keep blocks, each 1024 or 32768 bytes; their references are computed here."""
        worker = self._hashing if len(blocks[0]) == BlockSize.LARGE else self._writing
        worker.submit(_Puts(blocks), done, wanted)  # type: ignore[arg-type]

    async def totals(self) -> tuple[dict[int, int], int]:
        """How many blocks of each size there are, and the bytes of the database."""

        def ask() -> tuple[dict[int, int], int]:
            reader = SqliteReader(self._database)
            try:
                return reader.totals(), reader.database_bytes()
            finally:
                reader.close()

        return await asyncio.to_thread(ask)

    def _open_reader(self) -> None:
        with opening(self._settings.path):
            self._reader = SqliteReader(self._database)

    def _close_reader(self) -> None:
        assert self._reader is not None
        self._reader.close()

    def _open_finder(self) -> None:
        with opening(self._settings.path):
            self._finder = SqliteReader(self._database)

    def _close_finder(self) -> None:
        assert self._finder is not None
        self._finder.close()

    def _open_writer(self) -> None:
        with opening(self._settings.path):
            self._writer = SqliteWriter(self._database)

    def _close_writer(self) -> None:
        assert self._writer is not None
        started = time.monotonic()
        try:
            self._writer.checkpoint()
            _log.debug("Checkpoint took %.2f s", time.monotonic() - started)
        except Exception as error:
            # The WAL keeps what the checkpoint could not move.
            _log.warning("The WAL could not be emptied: %s", error)
        self._writer.close()

    def _get_round(self, batch: list[Sequence[Reference]]) -> list[object]:
        assert self._reader is not None
        if len(batch) == 1:
            wanted = batch[0]
        else:
            wanted = [reference for references in batch for reference in references]
        try:
            found = self._reader.get_many(wanted)
        except DamagedStore as error:
            self._tell_damage(error)
            found = self._get_readable(wanted)
        return [list(map(found.get, references)) for references in batch]

    def _get_readable(self, wanted: Sequence[Reference]) -> dict[Reference, bytes]:
        """Fetch one by one, leaving out what cannot be read."""
        assert self._reader is not None
        found = {}
        for reference in wanted:
            with contextlib.suppress(DamagedStore):
                found.update(self._reader.get_many([reference]))
        return found

    def _tell_damage(self, error: DamagedStore) -> None:
        if not self._damage_told:
            # Once: peers may ask for it again and again.
            self._damage_told = True
            _log.error("Some blocks cannot be read and count as not there: %s", error)

    def _find_round(self, batch: list[Sequence[Reference]]) -> list[object]:
        assert self._finder is not None
        found = self._finder.find_many([reference for part in batch for reference in part])
        return [[reference in found for reference in references] for references in batch]

    def _put_round(self, batch: list[_Puts]) -> list[object]:
        assert self._writer is not None
        together: dict[Reference, bytes] = {}
        for puts in batch:
            if not puts.references:
                puts.hash()
            together.update(zip(puts.references, puts.blocks, strict=True))
        result: PutResult = self._writer.put_many(together)
        self.new_blocks += result.added
        if not result.refused:
            return [None] * len(batch)
        refusal = StoreFull("the store is full: it has reached max-size")
        return [
            [refusal if name in result.refused else None for name in puts.references]
            for puts in batch
        ]
