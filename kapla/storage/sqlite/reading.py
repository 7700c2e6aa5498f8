"""The asynchronous front of a store that is only read: what `BatchedStorage` is to a daemon.

One thread answers, some dozens of blocks at a time. Of the rest of what a store can do there is
what changes nothing: listing its blocks and its pins, and telling how much there is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from eris.errors import ErisError, StoreRefused
from eris.model import Reference
from kapla.errors import StorageError
from kapla.storage.batching import FindDone, GetDone, PutDone
from kapla.storage.pinning import Pinning
from kapla.storage.pins import Hold
from kapla.storage.port import Listing
from kapla.storage.sqlite.damage import unreadable
from kapla.storage.sqlite.files import check_kind
from kapla.storage.sqlite.listing import pages_of
from kapla.storage.sqlite.state import SqliteSettings
from kapla.storage.sqlite.viewing import View
from kapla.storage.worker import Wanted, Worker, always, answered

__all__ = ["ReadingStorage"]

_T = TypeVar("_T")

_QUERY: Final = 64


class _Work:
    """Some references that are asked for, or something else to do with the view."""

    __slots__ = ("call", "finds", "references")

    def __init__(
        self,
        references: Sequence[Reference],
        *,
        finds: bool = False,
        call: Callable[[View], object] | None = None,
    ) -> None:
        self.references, self.finds, self.call = references, finds, call

    def __len__(self) -> int:
        """What it weighs: a block is more than the word that it is there."""
        return len(self.references) // (8 if self.finds else 1) + 1


class ReadingStorage:
    """A store that is read: used from one event loop, working in a thread."""

    def __init__(self, settings: SqliteSettings) -> None:
        self.settings = settings
        self.pinning = Pinning(self)
        """What is pinned, to be told of alone."""
        self._view: View | None = None
        self._worker: Worker[_Work] | None = None

    async def open(self) -> None:
        """Open the file and start the thread; `close` also after this failed.

        Raises: StorageError.
        """
        check_kind(self.settings.path)
        self._worker = Worker("kapla-reader", _QUERY, self._round, self._open, self._close)
        await self._worker.start()

    async def close(self) -> None:
        """Finish what was handed in, and close the file."""
        if self._worker is not None:
            await self._worker.stop()

    def get_many(
        self,
        references: Sequence[Reference],
        done: GetDone,
        wanted: Wanted = always,
        group: object = None,
    ) -> None:
        """Fetch blocks: see `BatchedStorage`."""
        self._hand_in(_Work(references), done, wanted)

    def find_many(
        self,
        references: Sequence[Reference],
        done: FindDone,
        wanted: Wanted = always,
        group: object = None,
        hold: Hold | None = None,
    ) -> None:
        """Tell which blocks are there: see `BatchedStorage`. Nothing can be held."""
        assert hold is None
        self._hand_in(_Work(references, finds=True), done, wanted)

    def put_many(
        self,
        blocks: Sequence[bytes],
        done: PutDone,
        wanted: Wanted = always,
        group: object = None,
        hold: Hold | None = None,
    ) -> None:
        """Refuse blocks."""
        done(StoreRefused("this store is open to be read only"))

    async def do(self, call: Callable[[Any], _T], wanted: Wanted = always) -> _T:
        """Have the thread do something that reads, as with the pins.

        Raises: what `call` raises of ErisError; StoreUnavailable, also for what SQLite says.
        """
        work = _Work((), call=call)
        result = await answered(
            lambda done, is_wanted: self._hand_in(work, done, is_wanted), wanted
        )
        return cast(_T, result)

    def listing(self) -> Listing:
        """The list of the blocks."""
        return pages_of(self.settings)

    @property
    def path(self) -> Path:
        """The file."""
        return self.settings.path

    async def totals(self) -> tuple[dict[int, int], int]:
        """How many blocks of each size there are, and the bytes of the database.

        Raises: StoreUnavailable.
        """
        return await self.do(lambda view: cast(View, view).totals())

    def _hand_in(self, work: _Work, done: Callable[[Any], None], wanted: Wanted) -> None:
        assert self._worker is not None
        self._worker.submit(work, done, wanted)

    def _open(self) -> None:
        self._view = View(self.settings)

    def _close(self) -> None:
        assert self._view is not None
        self._view.close()

    def _round(self, batch: list[_Work]) -> list[object]:
        assert self._view is not None
        view = self._view
        got = [name for work in batch if not work.finds for name in work.references]
        asked = [name for work in batch if work.finds for name in work.references]
        blocks = view.get_many(got) if got else {}
        there = view.find_many(asked) if asked else set()
        return [self._answer(view, work, blocks, there) for work in batch]

    @staticmethod
    def _answer(
        view: View, work: _Work, blocks: dict[Reference, bytes], there: set[Reference]
    ) -> object:
        if work.call is not None:
            return _done(view, work.call)
        if work.finds:
            return [name in there for name in work.references]
        return [blocks.get(name) for name in work.references]


def _done(view: View, call: Callable[[View], object]) -> object:
    try:
        return call(view)
    except ErisError as error:
        return error
    except StorageError as error:
        return StoreRefused(str(error))
    except sqlite3.Error as error:
        return unreadable(error)
