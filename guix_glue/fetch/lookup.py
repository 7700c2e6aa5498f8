"""Asks all servers at once for the narinfos of some items. Signatures are checked elsewhere.

Each server has its own connection and its own deadline, so that a slow one delays the others by no
more than that; one that fails is as if it had nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from guix_glue.errors import FetchFailed
from guix_glue.fetch.narinfo_client import NarinfoClient
from guix_glue.fetch.narinfos import hash_part_of
from guix_glue.fetch.pipeline import DEFAULT_TIMEOUTS, Timeouts
from guix_glue.fetch.servers import Server
from guix_glue.fetch.traces import Messages

__all__ = ["Lookup"]


class Lookup:
    """The servers, in the order of preference; close it at the end."""

    def __init__(
        self,
        servers: Sequence[Server],
        messages: Messages,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        self._clients = [NarinfoClient(server, timeouts) for server in servers]
        self._messages = messages

    async def find(self, paths: Sequence[str]) -> list[tuple[Server, Mapping[str, bytes]]]:
        """For each server, what it has of the items: narinfos by hash part, unread."""
        hash_parts = [hash_part_of(path) for path in paths]
        answers = await asyncio.gather(*(self._ask(one, hash_parts) for one in self._clients))
        return [
            (client.server, answer) for client, answer in zip(self._clients, answers, strict=True)
        ]

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.close()

    async def _ask(self, client: NarinfoClient, hash_parts: Sequence[str]) -> Mapping[str, bytes]:
        asked = client.unknown(hash_parts)
        if not asked:
            return client.known(hash_parts)
        shown = client.server.shown
        progress = self._messages.looking(shown)
        try:
            return await client.fetch(hash_parts, progress)
        except FetchFailed as error:
            self._messages.warn(f"{shown}: {error}")
            return client.known(hash_parts)
