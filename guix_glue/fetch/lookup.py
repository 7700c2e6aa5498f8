"""Asks all servers at once for the narinfos of some items. Signatures are checked elsewhere.

Each server has its own connection and its own deadline, so that a slow one delays the others by no
more than that; one that fails is as if it had nothing, and is told of once. Many
items are asked for in portions, as many at a time as there is memory for the largest answers:
whatever servers send, it is that much. What a server said before, to another process, is
known from a cache on disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from eris.threads import in_thread
from guix_glue.errors import FetchFailed
from guix_glue.fetch.narinfo_cache import Answer, NarinfoCache
from guix_glue.fetch.narinfo_client import LARGEST_ANSWER, NarinfoClient
from guix_glue.fetch.refusals import Refusals
from guix_glue.fetch.settings import DEFAULT_TIMEOUTS, Timeouts
from guix_glue.fetch.traces import Messages
from guix_glue.formats.store_path import hash_part_of
from guix_glue.servers.proxies import NO_PROXIES, Proxies
from guix_glue.servers.url import Server

_log = logging.getLogger(__name__)

__all__ = ["DEFAULT_MEMORY", "Found", "Inquiry", "Lookup"]

DEFAULT_MEMORY: Final = 128 * 1024 * 1024
"""Bytes of answers that are kept, of all servers together: usually some 80,000."""

Found = Sequence[tuple[Server, Mapping[str, bytes]]]
"""For each server, what it has: narinfos by hash part, unread."""


class Lookup:
    """The servers, in the order of preference; close it at the end.

    `cache` is what is known from before, if anything is kept. `announce` tells the user that a
    server is asked; where another process has asked for all items of a build, that is known.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        messages: Messages,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        *,
        memory: int = DEFAULT_MEMORY,
        proxies: Proxies = NO_PROXIES,
        cache: NarinfoCache | None = None,
        announce: bool = True,
    ) -> None:
        share = max(LARGEST_ANSWER, memory // max(1, len(servers)))
        self._at_once = share // LARGEST_ANSWER
        self._clients = [_client(server, timeouts, share, proxies) for server in servers]
        self._messages = messages
        self._refusals = Refusals(messages)
        self._cache = cache
        self._announce = announce

    def inquire(self, paths: Sequence[str]) -> Inquiry:
        """Begin to ask for the narinfos of some items."""
        hash_parts = [hash_part_of(path) for path in paths]
        asked = [self._asked(client, hash_parts) for client in self._clients]
        starts = range(0, len(paths), self._at_once)
        return Inquiry([paths[start : start + self._at_once] for start in starts], asked)

    def forget(self, server: Server, path: str) -> None:
        """Keep nothing for later of what a server said of an item: it is damaged. By any thread."""
        if self._cache is not None:
            self._cache.forget(server, hash_part_of(path))

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.close()

    def _asked(self, client: NarinfoClient, hash_parts: Sequence[str]) -> _Asked:
        show = self._messages.looking(client.server.shown) if self._announce else _show_nothing
        return _Asked(client, hash_parts, self._refusals, show, self._cache_for(client.server))

    def _cache_for(self, server: Server) -> NarinfoCache | None:
        # A directory needs no copy. In another network another server has the address of this one.
        return None if server.origin is None or server.nearby else self._cache


class Inquiry:
    """All that one command wants to know, in `portions` of the paths.

    Let go what was found of one before asking for the next: that is how much there is memory for.
    """

    def __init__(self, portions: Sequence[Sequence[str]], asked: Sequence[_Asked]) -> None:
        self.portions = portions
        self._asked = asked

    async def find(self, portion: Sequence[str]) -> Found:
        """Ask all servers for some of the items; never an error."""
        some = [hash_part_of(path) for path in portion]
        answers = await asyncio.gather(*(one.ask(some) for one in self._asked))
        return [(one.server, answer) for one, answer in zip(self._asked, answers, strict=True)]

    async def find_again(self, portion: Sequence[str], found: Found) -> Found | None:
        """Ask once more those who answered before this command; None if they say the same."""
        for one in self._asked:
            one.doubt(map(hash_part_of, portion))
        again = await self.find(portion)
        return None if again == found else again


class _Asked:
    """One server and all that one command wants of it: its time for that, and how far it is."""

    def __init__(
        self,
        client: NarinfoClient,
        hash_parts: Sequence[str],
        refusals: Refusals,
        show: Callable[[int, int], None],
        cache: NarinfoCache | None,
    ) -> None:
        self.server = client.server
        self._client = client
        self._refusals = refusals
        self._total = len(client.unknown(hash_parts))
        self._left_s = client.allowance_s(self._total)
        self._done = 0
        self._show = show
        self._cache = cache
        # Of which there is nothing newer to know.
        self._settled: set[str] = set()

    def doubt(self, hash_parts: Iterable[str]) -> None:
        """Ask the server again for what it was not asked by this command."""
        for one in hash_parts:
            if one not in self._settled:
                self._settled.add(one)
                self._client.doubt(one)

    async def ask(self, hash_parts: Sequence[str]) -> Mapping[str, bytes]:
        """What the server has of some of the items."""
        await self._recall(hash_parts)
        if self._client.unknown(hash_parts) and not self._done:
            self._show(0, max(1, self._total))
        answers = await self._fetch(hash_parts)
        await self._keep()
        return answers

    async def _fetch(self, hash_parts: Sequence[str]) -> Mapping[str, bytes]:
        client = self._client
        loop = asyncio.get_running_loop()
        began = loop.time()
        # Also those that it fails to answer: it is not asked twice as much for being in trouble.
        self._settled.update(client.unknown(hash_parts))
        try:
            return await client.fetch(hash_parts, self._answered, self._left_s, self._complain)
        except FetchFailed as error:
            self._complain(str(error))
        except Exception as error:
            # Of our own making. The other servers answer all the same.
            _log.debug("A server was not asked", exc_info=error)
            self._complain(type(error).__name__)
            client.close()
        finally:
            self._left_s -= loop.time() - began
        return client.known(hash_parts)

    async def _recall(self, hash_parts: Sequence[str]) -> None:
        """Take what is known from before: the server need not be asked for it."""
        wanted = [one for one in hash_parts if one not in self._settled]
        if self._cache is None or not (wanted := self._client.outdated(wanted)):
            return
        unknown = len(self._client.unknown(hash_parts))
        for hash_part, answer in (await in_thread(self._cache.read, self.server, wanted)).items():
            self._client.recall(hash_part, answer.text, answer.left_s)
        self._total -= unknown - len(self._client.unknown(hash_parts))
        if 0 < self._total <= self._done:
            self._show(self._total, self._total)

    async def _keep(self) -> None:
        fresh = self._client.fresh
        if self._cache is not None and fresh:
            answers = {one: Answer(text, ttl_s) for one, (text, ttl_s) in fresh.items()}
            await in_thread(self._cache.write, self.server, answers)

    def _complain(self, words: str) -> None:
        self._refusals.tell(self.server, words, f"{self.server.shown}: {words}")

    def _answered(self) -> None:
        self._done += 1
        # What was known for too short a time is asked again, beyond the total.
        if self._done <= self._total:
            self._show(self._done, self._total)


def _client(server: Server, timeouts: Timeouts, memory: int, proxies: Proxies) -> NarinfoClient:
    if server.nearby:
        # What is on this network no proxy reaches better.
        timeouts, proxies = timeouts.for_nearby(), NO_PROXIES
    return NarinfoClient(server, timeouts, memory=memory, proxies=proxies)


def _show_nothing(done: int, total: int) -> None:
    """Nobody is told."""
