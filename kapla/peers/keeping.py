"""What peers gave is kept, without holding up whoever waits for it.

Blocks that come within some milliseconds are kept together. As long as few bytes wait for the
store, whoever asked has a block before it is kept; beyond, afterwards: a peer may be faster than
the disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from eris.errors import ErisError
from eris.model import Reference

__all__ = ["Keeper", "Store"]

_log = logging.getLogger(__name__)

_MOST_WAITING: Final = 8 * 1024 * 1024
# What is kept together: a commit for a few is as dear as one for many.
_TOGETHER: Final = 256 * 1024
_LATEST_S: Final = 0.005

KeepDone = Callable[[Sequence[ErisError | None] | ErisError | None], None]


class Store(Protocol):
    """Where they are kept."""

    def keep(
        self, blocks: Mapping[Reference, bytes], done: KeepDone, *, lend: bool, group: object
    ) -> None:
        """Keep blocks that were compared with their references; `done` is called for certain."""
        ...


class Keeper:
    """Keeps blocks of peers; `group`: see the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._gathered: dict[bool, dict[Reference, bytes]] = {True: {}, False: {}}
        self._held: dict[Reference, tuple[bytes, bool]] = {}
        self._later: list[Callable[[], None]] = []
        self._gathered_bytes = 0
        self._planned: asyncio.TimerHandle | None = None
        self._waiting = 0
        """Bytes that are not kept yet."""

    def keep(
        self, reference: Reference, block: bytes, *, is_lent: bool, then: Callable[[], None]
    ) -> None:
        """Keep a block; `then` is called once it may be given to whoever waits."""
        self._gathered[is_lent][reference] = block
        self._held[reference] = (block, is_lent)
        self._waiting += len(block)
        self._gathered_bytes += len(block)
        is_much = self._waiting > _MOST_WAITING
        if is_much:
            self._later.append(then)
        if self._gathered_bytes >= _TOGETHER:
            self._flush()
        elif self._planned is None:
            self._planned = asyncio.get_running_loop().call_later(_LATEST_S, self._flush)
        if not is_much:
            then()

    def held(self, reference: Reference) -> tuple[bytes, bool] | None:
        """A block that is not kept yet, and whether it may be given on."""
        return self._held.get(reference)

    def _flush(self) -> None:
        if self._planned is not None:
            self._planned.cancel()
            self._planned = None
        self._gathered_bytes = 0
        later, self._later = self._later, []
        for is_lent, blocks in self._gathered.items():
            if blocks:
                self._gathered[is_lent] = {}
                self._hand_on(blocks, later, is_lent=is_lent)
                later = []

    def _hand_on(
        self, blocks: dict[Reference, bytes], then: list[Callable[[], None]], *, is_lent: bool
    ) -> None:
        size = sum(map(len, blocks.values()))

        def done(result: Sequence[ErisError | None] | ErisError | None) -> None:
            self._waiting -= size
            for reference in blocks:
                self._held.pop(reference, None)
            if isinstance(result, ErisError):
                # The store has said so in the log; whoever asked has the block all the same.
                _log.debug("What peers gave could not be kept: %s", result)
            for call in then:
                call()

        self._store.keep(blocks, done, lend=is_lent, group=self)
