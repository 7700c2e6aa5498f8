"""The fetcher as the daemon sees it: commands from standard input, replies on descriptor 4.

A query never ends the program: whatever goes wrong with it, the answer is that nothing is
available, and the daemon builds. Each `substitute` is answered by exactly one line, also when it
fails. The daemon ends us with SIGKILL, at any moment; so nothing here needs to be cleaned up but
what lies at the destination, which the daemon does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from eris.threads import in_thread
from guix_glue.errors import FetchFailed
from guix_glue.fetch.dialogue import Command, CommandReader
from guix_glue.fetch.lookup import Found, Inquiry, Lookup
from guix_glue.fetch.refusals import Refusals, Unauthorized
from guix_glue.fetch.settings import FetchSettings
from guix_glue.fetch.traces import Messages
from guix_glue.sources.order import download_size, urn_is_readable
from guix_glue.sources.vouching import Candidate, Vouched, find_vouched, read_candidates
from guix_glue.trust.acl import Acl
from guix_glue.trust.authorities import Authorities

__all__ = ["Policy", "Session", "run_session"]

_T = TypeVar("_T")

_log = logging.getLogger(__name__)

_READ: Final = 64 * 1024
# Items judged in one go in a worker thread: 40 ms, then the loop has its turn.
_JUDGED_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class Policy:
    """What is believed, and by what an item can come."""

    store_dir: str
    acl: Acl
    eris: bool
    """Whether there is a store to ask for blocks."""
    settings: FetchSettings


class Session(ABC):
    """What both kinds of session do: find out what servers say of items."""

    def __init__(self, policy: Policy, lookup: Lookup, messages: Messages) -> None:
        self.policy = policy
        self.lookup = lookup
        self.messages = messages
        # What is damaged is not kept, so that a server can mend it.
        self.refusals = Refusals(messages, lookup.forget)

    @abstractmethod
    async def answer(self, command: Command) -> bytes:
        """The reply to a command; never an error."""

    async def judge(
        self, paths: Sequence[str], judge: Callable[[Sequence[Candidate]], _T | None]
    ) -> list[_T]:
        """Ask all servers for narinfos; returns what `judge`, in a worker thread, makes of them.

        It is called with the narinfos of one path, if there are any, and these are then let go:
        read, they take several times the memory of their texts.
        """
        result: list[_T] = []
        inquiry = self.lookup.inquire(paths)
        for portion in inquiry.portions:
            result += await self._judge_portion(inquiry, portion, judge)
        return result

    def ways(self, candidates: Sequence[Candidate]) -> Iterator[Vouched]:
        """The ways in which an item may be fetched; tells why, if there is none."""
        unauthorized = Unauthorized(self.refusals)
        authorities = Authorities(self.policy.acl)
        none = True
        for way in find_vouched(candidates, authorities, unauthorized.refuse):
            none = False
            if self.policy.eris and not urn_is_readable(way.narinfo):
                self.refuse(way, "ERIS: this is no URN that can be read; its nars are used")
            yield way
        if none:
            unauthorized.tell()

    def download_size(self, way: Vouched) -> int | None:
        """Bytes that will come, 0 if nobody knows; None, and a word, if there is nothing to get."""
        policy = self.policy
        size = download_size(way, eris=policy.eris, trust_hints=policy.settings.trust_hints)
        if size is None:
            self.refuse(way, "it names nothing that can be fetched")
        return size

    def refuse(self, way: Vouched, reason: str) -> None:
        """Tell why an item is not fetched by a narinfo that is believed."""
        self.refusals.refuse(way.candidates[0].server, way.item.path, FetchFailed(reason))

    async def _judge_portion(
        self,
        inquiry: Inquiry,
        portion: Sequence[str],
        judge: Callable[[Sequence[Candidate]], _T | None],
    ) -> list[_T]:
        return await self.judge_found(portion, await inquiry.find(portion), judge)

    async def judge_found(
        self,
        portion: Sequence[str],
        found: Found,
        judge: Callable[[Sequence[Candidate]], _T | None],
    ) -> list[_T]:
        """What `judge`, in a worker thread, makes of what servers said."""
        result: list[_T] = []
        for start in range(0, len(portion), _JUDGED_AT_ONCE):
            some = portion[start : start + _JUDGED_AT_ONCE]
            result += await in_thread(self._judge_some, some, found, judge)
        return result

    def _judge_some(
        self, paths: Sequence[str], found: Found, judge: Callable[[Sequence[Candidate]], _T | None]
    ) -> list[_T]:
        judged = (self._judge_one(path, found, judge) for path in paths)
        return [one for one in judged if one is not None]

    def _judge_one(
        self, path: str, found: Found, judge: Callable[[Sequence[Candidate]], _T | None]
    ) -> _T | None:
        try:
            candidates = read_candidates(path, self.policy.store_dir, found, self.refusals.refuse)
            return judge(candidates) if candidates else None
        except Exception as error:
            # Of our own making. The other items are there all the same.
            _log.debug("An item was not judged", exc_info=error)
            self.messages.warn(f"{path}: what is said of it cannot be judged")
            return None


async def run_session(session: Session, reply: Callable[[bytes], None]) -> None:
    """Answer commands on standard input until there are no more."""
    reader = CommandReader(session.policy.store_dir)
    async for data in _read(0):
        for command in reader.feed(data):
            reply(await session.answer(command))


async def _read(descriptor: int) -> AsyncIterator[bytes]:
    """Read what comes, by a thread that does not keep the program from ending.

    Pipes, files and terminals alike; the thread reads on only when what it read was taken.
    """
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    taken = threading.Semaphore(1)

    def read() -> None:
        data = b"-"
        while data:
            taken.acquire()
            try:
                data = os.read(descriptor, _READ)
            except OSError:
                data = b""
            try:
                loop.call_soon_threadsafe(pieces.put_nowait, data)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

    threading.Thread(target=read, name="commands", daemon=True).start()
    while data := await pieces.get():
        taken.release()
        yield data
