"""Asking servers whether items are public: each item once, some at a time, in no hurry.

What they answer is kept on disk, so that the next start asks nothing again. A server that cannot be
asked says nothing about an item: that is asked about later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol

from eris.threads import in_thread
from guix_glue.errors import FetchFailed
from guix_glue.formats.narinfo import Narinfo
from guix_glue.kept.public_items import PublicItems
from guix_glue.kept.public_notes import PublicNotes
from guix_glue.local.store_list import ValidItem
from guix_glue.seed.consent import Answers

__all__ = ["Asking", "Known", "Servers"]

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 4
_PAUSE_S: Final = 0.2
# When to ask those that could not be asked.
_AGAIN_S: Final = 600.0
_FAILURES: Final = 8
"""In a row, after which nobody is asked for a while."""


class _Answer(Protocol):
    @property
    def narinfo(self) -> Narinfo:
        """What it says, signed by somebody who is authorized."""
        ...


class Servers(Protocol):
    """Those who may be asked: as `guix_glue.upstream.servers.Upstream`."""

    async def narinfo(self, hash_part: str) -> _Answer | None:
        """The narinfo that is authorized; None if all say that there is none.

        Raises: FetchFailed, if they cannot be asked.
        """
        ...


class Known:
    """What is known of items, on disk: `noted` by those who fetched, and answers in `directory`.

    `asked` tells who is asked, and whose signatures count, from others: that an item is not public
    is what these say, and others may know better.
    """

    def __init__(self, noted: Iterable[Path], directory: Path, asked: str = "") -> None:
        self._noted = [PublicNotes(str(path)) for path in noted]
        self._yes = PublicNotes(str(directory / "public"))
        self._directory = directory
        self._name = f"not-public{asked and '-'}{asked}"
        self._no = PublicItems(directory / self._name)

    def forget_others(self) -> None:
        """Remove what others said, who were asked before."""
        for path in self._directory.glob("not-public*"):
            if path.name != self._name:
                path.unlink(missing_ok=True)

    def read(self) -> Answers:
        """What is known now; synchronous."""
        noted = frozenset[bytes]().union(*(one.items.read() for one in self._noted))
        return Answers(noted, self._yes.items.read(), self._no.read())

    def urns(self) -> dict[bytes, bytes]:
        """The read capabilities of items, in binary, by their marks; synchronous."""
        found: dict[bytes, bytes] = {}
        for one in (*self._noted, self._yes):
            found.update(one.urns.read_all())
        return found

    def stamp(self) -> object:
        """Is another when there is something new."""
        return [*(one.stamp() for one in (*self._noted, self._yes)), self._no.stamp()]

    def note(self, item: ValidItem, narinfo: Narinfo | None) -> None:
        """Keep an answer: a narinfo that is signed, if there is one; synchronous."""
        if narinfo is not None and narinfo.item.nar_hash == item.nar_hash:
            self._yes.note(narinfo)
        else:
            # Another build of it is another content.
            self._no.note(item.hash_part, item.nar_hash)


class Asking:
    """Asks about items; `sleep` as that of asyncio."""

    def __init__(
        self,
        servers: Servers,
        known: Known,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._servers = servers
        self._known = known
        self._sleep = sleep
        self._failed = 0

    async def ask(self, items: Iterable[ValidItem]) -> bool:
        """Ask about all of these; returns whether all were answered.

        After some failures in a row the rest is left for another time: see `again_s`.
        """
        self._failed = 0
        left = iter(items)
        all_answered = True
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._work(left)) for _ in range(_AT_ONCE)]
        for task in tasks:
            all_answered &= task.result()
        return all_answered

    @property
    def again_s(self) -> float:
        """When to ask about those that were not answered."""
        return _AGAIN_S

    async def _work(self, left: Iterator[ValidItem]) -> bool:
        all_answered = True
        for item in left:
            if self._failed >= _FAILURES:
                return False
            try:
                answer = await self._servers.narinfo(item.hash_part)
            except FetchFailed as error:
                self._failed += 1
                all_answered = False
                _log.debug("An item could not be asked about: %s", error)
                continue
            self._failed = 0
            narinfo = None if answer is None else answer.narinfo
            await in_thread(self._known.note, item, narinfo)
            await self._sleep(_PAUSE_S)
        return all_answered
