"""What each thread of a store does with what has arrived: one round of it at a time."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from eris.errors import ErisError, StoreFull, StoreUnavailable
from eris.model import Reference
from kapla.storage.hashing import LEAST_WEIGHT, Puts
from kapla.storage.lending import apart, lent_blocks, lent_names
from kapla.storage.pins import Hold
from kapla.storage.port import Backend, PartlyKept, Promise, PutResult, Reader, Writer
from kapla.storage.worker import Worker

__all__ = ["SIZE", "Finding", "HeldFind", "Reading", "Task", "Writing"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

# A round ends when this much has been gathered, or little more: a commit of 2 MiB, or of 512 small
# blocks; a query for 64 blocks. More would save nothing, and would leave peers waiting for all of
# it, with nothing under way meanwhile.
_COMMIT: Final = 2 * 1024 * 1024
_QUERY: Final = 64

SIZE: Final[tuple[Reference, ...]] = (Reference(b"database_bytes"),)
"""Beside references, the finder takes this: the bytes of the database are asked for."""


class Task(Generic[_T]):
    """Something else that a writer's thread is to do, on its session."""

    __slots__ = ("_failures", "call")

    def __init__(self, call: Callable[[Writer], _T], failures: tuple[type[Exception], ...]) -> None:
        self.call, self._failures = call, failures

    def __len__(self) -> int:
        """What it weighs beside blocks."""
        return LEAST_WEIGHT

    def do(self, writer: Writer) -> _T | ErisError:
        """Do it; an error is its result."""
        try:
            return self.call(writer)
        except ErisError as error:
            return error
        except self._failures as error:
            return StoreUnavailable(f"the store failed: {error}")


class HeldFind(list[Reference]):
    """A question about blocks that are to be held, if they are there."""

    __slots__ = ("hold",)

    def __init__(self, references: Sequence[Reference], hold: Hold) -> None:
        super().__init__(references)
        self.hold = hold


class _Asked(ABC):
    """What readers have in common: a session, in a thread that is asked for references.

    `see_to`: wakes the writer, which mends; it may be waiting for work.
    """

    def __init__(
        self,
        name: str,
        lent: Callable[[Reader, list[Sequence[Reference]]], list[object]],
        backend: Backend,
        see_to: Callable[[], None],
    ) -> None:
        self._backend, self._see_to = backend, see_to
        self._session: Reader
        self.worker: Worker[Sequence[Reference]] = Worker(
            name,
            _QUERY,
            apart(self._round, lambda batch: lent(self._session, batch), self._look),
            self._open,
            self._close,
        )

    def _open(self) -> None:
        self._session = self._backend.reader()

    def _close(self) -> None:
        self._session.close()

    @abstractmethod
    def _round(self, batch: list[Sequence[Reference]]) -> list[object]:
        """Answer what is asked at once."""

    def _look(self) -> None:
        if self._backend.is_writer_wanted:
            self._see_to()


class Reading(_Asked):
    """Fetches blocks."""

    def __init__(self, backend: Backend, see_to: Callable[[], None]) -> None:
        super().__init__("kapla-reader", lent_blocks, backend, see_to)

    def _round(self, batch: list[Sequence[Reference]]) -> list[object]:
        if len(batch) == 1:
            wanted = batch[0]
        else:
            wanted = [reference for references in batch for reference in references]
        found = self._session.get_many(wanted)
        self._look()
        return [list(map(found.get, references)) for references in batch]


class Finding(_Asked):
    """Tells which blocks there are, and how large the store is."""

    def __init__(self, backend: Backend, see_to: Callable[[], None]) -> None:
        super().__init__("kapla-finder", lent_names, backend, see_to)

    def _round(self, batch: list[Sequence[Reference]]) -> list[object]:
        asked = [
            name
            for part in batch
            if part is not SIZE and not isinstance(part, HeldFind)
            for name in part
        ]
        found = self._session.find_many(asked)
        self._look()
        return [self._answer(part, found) for part in batch]

    def _answer(self, part: Sequence[Reference], found: set[Reference]) -> object:
        if part is SIZE:
            return self._session.database_bytes()
        if isinstance(part, HeldFind):
            return self._hold(part)
        return [name in found for name in part]

    def _hold(self, asked: HeldFind) -> list[bool] | ErisError:
        try:
            found = self._session.hold_found(asked, asked.hold)
        except ErisError as error:
            return error
        self._look()
        return [name in found for name in asked]


class Writing:
    """Keeps blocks, and does what else is to be done between its commits."""

    def __init__(self, backend: Backend) -> None:
        self.new_blocks = 0
        """How many blocks were new since the start."""
        self.full_blocks = 0
        """How many were refused since the start, as the store is full."""
        self._backend = backend
        self._session: Writer
        self._is_full_told = False
        self.worker: Worker[Puts | Task[Any]] = Worker(
            "kapla-writer",
            _COMMIT,
            self._round,
            self._open,
            self._close,
            lambda is_idle: self._session.chore(is_idle=is_idle),
        )

    def _open(self) -> None:
        self._session = self._backend.writer()
        # What it found to be done goes on without a request.
        self.worker.poke()

    def _close(self) -> None:
        self._session.close()

    def _round(self, batch: list[Puts | Task[Any]]) -> list[object]:
        puts = [item for item in batch if isinstance(item, Puts)]
        if len(puts) == len(batch):
            return self._put(puts)
        try:
            put = iter(self._put(puts))
        except ErisError as error:
            # A full disk is no reason to do nothing else: it may be the way out.
            self.worker.complain(error)
            put = iter([error] * len(puts))
        return [item.do(self._session) if isinstance(item, Task) else next(put) for item in batch]

    def _put(self, batch: list[Puts]) -> list[object]:
        together: dict[Reference, bytes] = {}
        for puts in batch:
            if not puts.references:
                puts.hash()
            together.update(zip(puts.references, puts.blocks, strict=True))
        promises = [_promise_of(puts) for puts in batch]
        errors: dict[Reference, StoreUnavailable | StoreFull] = {}
        try:
            result: PutResult = self._session.put_many(
                together, [promise for promise in promises if promise is not None]
            )
        except PartlyKept as error:
            result = error.result
            errors |= error.failed
            self.worker.complain(error)
        self.new_blocks += result.added
        if result.refused:
            refusal = StoreFull(self._session.why_full())
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


def _promise_of(puts: Puts) -> Promise | None:
    if puts.hold is not None or puts.lend:
        return Promise(puts.hold, puts.references, puts.blocks)
    return None
