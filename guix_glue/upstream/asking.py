"""Whom of several servers to ask for one thing, and when: one after the other, or all at once.

One after the other: the first is asked, and the next one too when it takes its time. For a while
nobody waits for one that was slower than others by far.

All at once: whoever has a good answer first wins. Those who are still to answer are not cut off, as
a connection that is closed costs both sides more than one that is used again; but one that owes
many answers that nobody waits for is passed over, unless the others have nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from eris.threads import settle
from guix_glue.errors import FetchFailed, TemporaryFailure
from guix_glue.servers.outage import Outage
from guix_glue.servers.url import Server

__all__ = ["Ask", "AtOnce", "InOrder", "Question", "Way"]

_T = TypeVar("_T")

_log = logging.getLogger(__name__)

_PATIENCE_S: Final = 3.0
"""Until the next server is asked, too: clients wait for ten seconds."""
_SLOW_S: Final = 60.0
_MOST_OWED: Final = 16
"""Answers of one server that nobody waits for any more: each takes a connection until it comes."""

Ask = Callable[[Server, str], Awaitable[_T | None]]
"""Asks a server for a name; None, if it has nothing. Raises: FetchFailed."""


@dataclass(slots=True)
class Question(Generic[_T]):
    """What is asked for, of whom still, what came, and who could not be asked."""

    name: str
    servers: list[Server]
    is_good: Callable[[_T], bool]
    of_all: bool = False
    """Whether all who are asked at once are waited for, as far as they answer."""
    answers: dict[Server, _T | None] = field(default_factory=dict)
    failed: set[Server] = field(default_factory=set)
    _pauses: list[float] = field(default_factory=list)

    def begin(self) -> list[Server]:
        """Those to ask now."""
        servers, self.servers, self._pauses = self.servers, [], []
        return servers

    def note(self, server: Server, task: asyncio.Future[_T | None]) -> bool:
        """A server has answered, or cannot; returns whether the answer is good."""
        error = task.exception()
        if isinstance(error, FetchFailed):
            self.failed.add(server)
            if isinstance(error, TemporaryFailure):
                self.servers.append(server)
                self._pauses.append(error.pause_s or 0.0)
            return False
        self.failed.discard(server)
        self.answers[server] = task.result()
        return self.has_good(server)

    def has_good(self, server: Server) -> bool:
        """Whether a server has given a good answer."""
        answer = self.answers.get(server)
        return answer is not None and self.is_good(answer)

    def first(self, servers: Iterable[Server], will_do: Callable[[_T], bool]) -> Server | None:
        """The first of some servers whose answer will do, if not be good."""
        answers = ((server, self.answers.get(server)) for server in servers)
        return next(
            (one for one, answer in answers if answer is not None and will_do(answer)), None
        )

    def end(self) -> None:
        """Nothing good came. Raises: TemporaryFailure, if somebody may do better in a moment."""
        if self.servers:
            raise TemporaryFailure("some may do better in a moment", min(self._pauses))


class Way(Protocol[_T]):
    """In which way several are asked."""

    async def first_good(self, question: Question[_T]) -> Server | None:
        """Who has a good answer, which is in `answers`; None if nobody has.

        Raises: TemporaryFailure, if nobody has, but those who are left to ask may in a moment.
        """

    async def close(self) -> None:
        """End what is under way."""


class InOrder(Generic[_T]):
    """One after the other."""

    def __init__(self, servers: Iterable[Server], ask: Ask[_T]) -> None:
        self._ask = ask
        self._slow = {server: Outage(_SLOW_S) for server in servers}

    async def close(self) -> None:
        """Nothing is under way but what somebody waits for."""

    async def first_good(self, question: Question[_T]) -> Server | None:
        """As of `Way`."""
        tasks: dict[asyncio.Future[_T | None], Server] = {}
        waiting = question.begin()
        try:
            while waiting or tasks:
                if waiting:
                    server = waiting.pop(0)
                    tasks[asyncio.ensure_future(self._ask(server, question.name))] = server
                    patience_s = 0.0 if self._slow[server].left_s else _PATIENCE_S
                done, _ = await asyncio.wait(
                    tasks,
                    timeout=patience_s if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    server = tasks.pop(task)
                    if question.note(server, task):
                        self._note_slow(tasks.values())
                        return server
        finally:
            for task in tasks:
                task.cancel()
            await settle(*tasks)
        question.end()
        return None

    def _note_slow(self, servers: Iterable[Server]) -> None:
        """Others were faster than these, by far: for a while nobody waits before asking those."""
        for server in servers:
            if not self._slow[server].left_s and self._slow[server].begin("slow"):
                _log.info("%s takes its time: the next server is asked, too", server.shown)


class AtOnce(Generic[_T]):
    """All at once. With `first` the order counts: whoever is first of those that have it."""

    def __init__(self, servers: Iterable[Server], ask: Ask[_T], *, first: bool) -> None:
        self._ask = ask
        self._first = first
        self._owed: dict[Server, set[asyncio.Future[_T | None]]] = {one: set() for one in servers}

    async def close(self) -> None:
        """End what nobody waits for."""
        tasks = [task for owed in self._owed.values() for task in owed]
        for task in tasks:
            task.cancel()
        await settle(*tasks)

    async def first_good(self, question: Question[_T]) -> Server | None:
        """As of `Way`."""
        servers = question.begin()
        prompt = [one for one in servers if len(self._owed[one]) < _MOST_OWED]
        late = [one for one in servers if one not in prompt]
        for some in (prompt, late):
            found = await self._among(some, question)
            if found is not None:
                return found
        question.end()
        return None

    async def _among(self, servers: Sequence[Server], question: Question[_T]) -> Server | None:
        tasks = {asyncio.ensure_future(self._ask(one, question.name)): one for one in servers}
        try:
            while tasks:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    question.note(tasks.pop(task), task)
                if tasks and question.of_all:
                    continue
                found = self._winner(servers, set(tasks.values()), question)
                if found is not None:
                    return found
        finally:
            for task, server in tasks.items():
                self._let_go(task, server)
        return None

    def _winner(
        self, servers: Sequence[Server], open_still: set[Server], question: Question[_T]
    ) -> Server | None:
        for server in servers:
            if server in open_still and self._first:
                return None
            if question.has_good(server):
                return server
        return None

    def _let_go(self, task: asyncio.Future[_T | None], server: Server) -> None:
        """Nobody waits for this answer."""
        self._owed[server].add(task)
        task.add_done_callback(partial(self._came, server))

    def _came(self, server: Server, task: asyncio.Future[_T | None]) -> None:
        self._owed[server].discard(task)
        # Why it failed was noted where it was asked; asyncio wants it to be looked at.
        if not task.cancelled():
            task.exception()
