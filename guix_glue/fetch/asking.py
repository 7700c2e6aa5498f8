"""What is still to be asked of a server and of those to which it redirects, host by host.

Redirects are followed a few times each. What may be answered in a moment is asked again after a
pause, all of it together, a few times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import chain
from typing import Final

from guix_glue.errors import FetchFailed, TemporaryFailure
from guix_glue.servers.patience import Patience
from guix_glue.servers.url import InvalidServer, Origin

__all__ = ["Asking", "Paths"]

Paths = dict[str, list[str]]
"""Paths to ask for, and the hash parts that each stands for: several, after redirects."""

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
        self._now: dict[Origin, Paths] = {}
        self._later: dict[Origin, Paths] = {}
        self._asked_s = 0.0
        self._reasons: dict[str, FetchFailed] = {}
        self._redirects: dict[str, int] = {}

    def add(self, host: Origin, path: str, hash_part: str) -> None:
        """Ask a host for a path, which stands for a hash part."""
        _note(self._now, host, path, hash_part)

    def redirect(self, host: Origin, path: str, hash_part: str) -> None:
        """Ask elsewhere for a hash part.

        Raises: InvalidServer, if that has gone on for too long.
        """
        count = self._redirects[hash_part] = self._redirects.get(hash_part, 0) + 1
        if count > _REDIRECTS:
            raise InvalidServer("the server redirects again and again")
        self.add(host, path, hash_part)

    def postpone(self, host: Origin, path: str, hash_part: str, reason: TemporaryFailure) -> None:
        """Ask again later."""
        _note(self._later, host, path, hash_part)
        self._reasons[hash_part] = reason
        self._asked_s = max(self._asked_s, reason.pause_s or 0.0)

    async def take(self) -> dict[Origin, Paths]:
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
        later = chain.from_iterable(paths.values() for paths in self._later.values())
        parts = chain.from_iterable(later)
        return [(part, self._reasons[part]) for part in parts]

    def done(self) -> None:
        """A hash part has its answer."""
        self._answered()

    def complain(self, words: str) -> None:
        """Tell why a hash part has none, once."""
        if words not in self._complaints and len(self._complaints) < _COMPLAINTS:
            self._complaints.add(words)
            self._complain(words)


def _note(hosts: dict[Origin, Paths], host: Origin, path: str, hash_part: str) -> None:
    hosts.setdefault(host, {}).setdefault(path, []).append(hash_part)
