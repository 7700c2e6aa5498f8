"""Asks all servers at once for the narinfos of some items. Signatures are checked elsewhere.

Each server has its own connection and its own deadline, so that a slow one delays the others by no
more than that; one that fails is as if it had nothing. Many items are asked for in portions, as
many at a time as there is memory for the largest answers: whatever servers send, it is that much.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from guix_glue.errors import FetchFailed
from guix_glue.fetch.narinfo_client import LARGEST_ANSWER, NarinfoClient
from guix_glue.fetch.settings import DEFAULT_TIMEOUTS, Timeouts
from guix_glue.fetch.traces import Messages
from guix_glue.formats.store_path import hash_part_of
from guix_glue.servers.proxies import NO_PROXIES, Proxies
from guix_glue.servers.url import Server

__all__ = ["DEFAULT_MEMORY", "Found", "Inquiry", "Lookup"]

DEFAULT_MEMORY: Final = 128 * 1024 * 1024
"""Bytes of answers that are kept, of all servers together: usually some 80,000."""

Found = Sequence[tuple[Server, Mapping[str, bytes]]]
"""For each server, what it has: narinfos by hash part, unread."""


class Lookup:
    """The servers, in the order of preference; close it at the end."""

    def __init__(
        self,
        servers: Sequence[Server],
        messages: Messages,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        *,
        memory: int = DEFAULT_MEMORY,
        proxies: Proxies = NO_PROXIES,
    ) -> None:
        share = max(LARGEST_ANSWER, memory // max(1, len(servers)))
        self._at_once = share // LARGEST_ANSWER
        self._clients = [
            NarinfoClient(server, timeouts, memory=share, proxies=proxies) for server in servers
        ]
        self._messages = messages

    def inquire(self, paths: Sequence[str]) -> Inquiry:
        """Begin to ask for the narinfos of some items."""
        hash_parts = [hash_part_of(path) for path in paths]
        asked = [_Asked(client, hash_parts, self._messages) for client in self._clients]
        starts = range(0, len(paths), self._at_once)
        return Inquiry([paths[start : start + self._at_once] for start in starts], asked)

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.close()


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


class _Asked:
    """One server and all that one command wants of it: its time for that, and how far it is."""

    def __init__(
        self, client: NarinfoClient, hash_parts: Sequence[str], messages: Messages
    ) -> None:
        self.server = client.server
        self._client = client
        self._messages = messages
        self._total = len(client.unknown(hash_parts))
        self._left_s = client.allowance_s(self._total)
        self._done = 0
        self._show = messages.looking(client.server.shown)

    async def ask(self, hash_parts: Sequence[str]) -> Mapping[str, bytes]:
        """What the server has of some of the items."""
        client = self._client
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            return await client.fetch(hash_parts, self._answered, self._left_s, self._complain)
        except FetchFailed as error:
            self._complain(str(error))
            return client.known(hash_parts)
        finally:
            self._left_s -= loop.time() - began

    def _complain(self, words: str) -> None:
        self._messages.warn(f"{self.server.shown}: {words}")

    def _answered(self) -> None:
        self._done += 1
        # What was known for too short a time is asked again, beyond the total.
        if self._done <= self._total:
            self._show(self._done, self._total)
