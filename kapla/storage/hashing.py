"""The blocks of PUTs, and a thread that computes their references ahead of the writer."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Final

from eris.crypto import reference_of
from eris.model import Reference
from kapla.storage.backlog import Backlog
from kapla.storage.pins import Hold
from kapla.storage.worker import Done, Wanted

__all__ = ["LEAST_WEIGHT", "Hasher", "Puts"]

_log = logging.getLogger(__name__)

LEAST_WEIGHT: Final = 4096
"""What a block weighs in a commit, if it has not more bytes."""


class Puts:
    """Blocks that want to be kept, and their references once they are known."""

    __slots__ = ("_weight", "blocks", "hold", "lend", "references")

    def __init__(
        self,
        blocks: Sequence[bytes],
        hold: Hold | None = None,
        references: Sequence[Reference] = (),
        *,
        lend: bool = False,
    ) -> None:
        self.blocks = blocks
        self.hold = hold
        self.lend = lend
        """Whether they may be lent while they are there."""
        self.references: list[Reference] = list(references)
        self._weight = sum(max(LEAST_WEIGHT, len(block)) for block in blocks)

    def __len__(self) -> int:
        """What they weigh in a commit, in bytes."""
        return self._weight

    def hash(self) -> None:
        """Compute the references."""
        self.references = list(map(reference_of, self.blocks))


class Hasher:
    """A thread that computes references ahead of the writer.

    The hash of a large block lets other threads run; that of a small one does not, and would only
    add a change of threads: the writer computes those.
    """

    def __init__(self, then: Callable[[Puts, Done, Wanted, object], None]) -> None:
        self._queue: queue.SimpleQueue[tuple[Puts, Done, Wanted, object] | None]
        self._queue = queue.SimpleQueue()
        self._then = then
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="kapla-hasher", daemon=True)
        self._thread.start()

    def submit(self, puts: Puts, done: Done, wanted: Wanted, group: object = None) -> None:
        """Hand in blocks; `then` gets them, hashed or not."""
        if self._is_stopped:
            # The writer refuses it.
            self._then(puts, done, wanted, group)
        else:
            self._queue.put((puts, done, wanted, group))

    async def stop(self) -> None:
        """Hand on everything handed in before, then end the thread."""
        self._is_stopped = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        backlog: Backlog[tuple[Puts, Done, Wanted, object]] = Backlog()
        is_ending = False
        while backlog or not is_ending:
            # All that has come, or the next that comes: then whoever had least is first.
            while not is_ending and not (backlog and self._queue.empty()):
                item = self._queue.get()
                if item is None:
                    is_ending = True
                else:
                    backlog.add(item[3], item, len(item[0]))
            if backlog:
                self._hash(*backlog.take())

    def _hash(self, puts: Puts, done: Done, wanted: Wanted, group: object) -> None:
        try:
            if wanted():
                puts.hash()
        except Exception:
            # The thread must live. The writer hashes what is not hashed, and tells what fails.
            _log.exception("Blocks could not be hashed ahead")
        self._then(puts, done, wanted, group)
