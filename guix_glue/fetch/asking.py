"""What is still to be asked of a server and of those to which it redirects, host by host.

Redirects are followed a few times each. What may be answered in a moment is asked again after a
pause, all of it together, a few times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from guix_glue.errors import FetchFailed, TemporaryFailure
from guix_glue.servers.patience import Patience
from guix_glue.servers.url import InvalidServer, Origin

__all__ = ["Asking", "Hosts"]

Hosts = dict[Origin, dict[str, str]]
"""For each host the paths to ask for, each standing for a hash part."""

_REDIRECTS: Final = 4
# A query waits for it, and there are other servers.
_TRIES: Final = 2
_WAITING_S: Final = 10.0
# Different ones, of one server.
_COMPLAINTS: Final = 4


class Asking:
    """One command's worth; `answered` is called for each hash part that is done with."""

    def __init__(self, answered: Callable[[], None], complain: Callable[[str], None]) -> None:
        self._answered = answered
        self._complain = complain
        self._complaints: set[str] = set()
        self._patience = Patience(_WAITING_S, _TRIES)
        self._now: Hosts = {}
        self._later: Hosts = {}
        self._asked_s = 0.0
        self._reasons: dict[str, FetchFailed] = {}
        self._redirects: dict[str, int] = {}

    def add(self, host: Origin, paths: dict[str, str]) -> None:
        """Ask a host for paths, each standing for a hash part."""
        self._now.setdefault(host, {}).update(paths)

    def redirect(self, host: Origin, path: str, hash_part: str) -> None:
        """Ask elsewhere for a hash part.

        Raises: InvalidServer, if that has gone on for too long.
        """
        count = self._redirects[hash_part] = self._redirects.get(hash_part, 0) + 1
        if count > _REDIRECTS:
            raise InvalidServer("the server redirects again and again")
        self.add(host, {path: hash_part})

    def postpone(self, host: Origin, path: str, hash_part: str, reason: TemporaryFailure) -> None:
        """Ask again later."""
        self._later.setdefault(host, {})[path] = hash_part
        self._reasons[hash_part] = reason
        self._asked_s = max(self._asked_s, reason.pause_s or 0.0)

    async def take(self) -> Hosts:
        """What is to be asked now, after a pause if it is only what was postponed."""
        if not self._now and self._later:
            pause_s = self._patience.pause_s(self._asked_s)
            if pause_s is None:
                return {}
            await asyncio.sleep(pause_s)
            self._now, self._later, self._asked_s = self._later, {}, 0.0
        hosts, self._now = self._now, {}
        return hosts

    def given_up(self) -> list[tuple[str, FetchFailed]]:
        """Hash parts that were postponed too often, and why the last time."""
        parts = [part for paths in self._later.values() for part in paths.values()]
        return [(part, self._reasons[part]) for part in parts]

    def done(self) -> None:
        """A hash part has its answer."""
        self._answered()

    def complain(self, words: str) -> None:
        """Tell why a hash part has none, once."""
        if words not in self._complaints and len(self._complaints) < _COMPLAINTS:
            self._complaints.add(words)
            self._complain(words)
