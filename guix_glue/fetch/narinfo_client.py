"""The narinfos of one server: asked for together, remembered for a while, also when there are none.

A server that fails is not asked again for a minute: the daemon asks for many items one by one, and
each would wait for it anew. Redirects are followed a few times. Nothing that comes is believed
here: these are bytes until somebody parses them.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from eris_fs.threads import in_thread
from guix_glue.errors import FetchFailed
from guix_glue.fetch.http_wire import MAX_BODY, Response
from guix_glue.fetch.pipeline import DEFAULT_TIMEOUTS, Pipeline, Timeouts
from guix_glue.fetch.servers import InvalidServer, Origin, Server, redirect_target

__all__ = ["NarinfoClient", "Progress", "open_regular"]

Progress = Callable[[int, int], None]
"""Is called with the number of answers so far, and of questions."""

# How long answers hold, in seconds: as the stock client has it.
_FOUND_S: Final = 36 * 3600.0
_MISSING_S: Final = 120.0
_FAILED_S: Final = 60.0
_LONGEST_S: Final = 365 * 86400.0

_REDIRECTS: Final = 4
_REDIRECT_CODES: Final = frozenset({301, 302, 303, 307, 308})
_MAX_AGE: Final = re.compile(r"(?:^|[,\s])max-age=([0-9]{1,12})(?:$|[,\s])")
# Answers that are remembered: 150,000 take some hundred megabytes; the daemon asks for far fewer.
_MOST_KNOWN: Final = 100_000


@dataclass(frozen=True, slots=True)
class _Known:
    text: bytes | None
    until: float


class NarinfoClient:
    """Asks one server; close it at the end."""

    def __init__(self, server: Server, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self.server = server
        self._timeouts = timeouts
        self._known: dict[str, _Known] = {}
        self._pipelines: dict[Origin, Pipeline] = {}
        self._down_until = 0.0

    def unknown(self, hash_parts: Iterable[str]) -> list[str]:
        """Those that the server would have to be asked for now."""
        now = asyncio.get_running_loop().time()
        if now < self._down_until:
            return []
        return [one for one in hash_parts if one not in self._known or self._known[one].until < now]

    async def fetch(
        self, hash_parts: Sequence[str], progress: Progress | None = None
    ) -> dict[str, bytes]:
        """Get narinfos by hash part; those that the server does not have are left out.

        Raises: FetchFailed, if the server failed; what it had answered is kept for the next time.
        """
        asked = self.unknown(hash_parts)
        if asked:
            try:
                async with asyncio.timeout(self._timeouts.total_s * (1 + len(asked) / 200)):
                    await self._ask(asked, progress)
            except (FetchFailed, TimeoutError) as error:
                self._down_until = asyncio.get_running_loop().time() + _FAILED_S
                self.close()
                raise FetchFailed(str(error) or "the server takes too long") from None
        return self.known(hash_parts)

    def known(self, hash_parts: Iterable[str]) -> dict[str, bytes]:
        """The narinfos that were got before, by hash part."""
        found = ((one, self._known.get(one)) for one in hash_parts)
        return {one: known.text for one, known in found if known and known.text is not None}

    def close(self) -> None:
        """Close the connections."""
        for pipeline in self._pipelines.values():
            pipeline.close()

    async def _ask(self, hash_parts: Sequence[str], progress: Progress | None) -> None:
        if self.server.origin is None:
            directory = self.server.path
            for hash_part in hash_parts:
                text = await in_thread(_read_narinfo, f"{directory}/{hash_part}.narinfo")
                self._remember(hash_part, text, 0.0)
        else:
            await self._ask_host(self.server.origin, hash_parts, progress)

    async def _ask_host(
        self, origin: Origin, hash_parts: Sequence[str], progress: Progress | None
    ) -> None:
        """Ask the server, then those to which it redirects, if it does."""
        asking = _Asking(len(hash_parts), progress)
        asking.add(origin, {self.server.narinfo_path(one): one for one in hash_parts})
        for _ in range(_REDIRECTS):
            for host, paths in asking.take().items():
                answered = partial(self._answered, asking, host, paths)
                await self._pipeline(host).ask(paths, answered)

    def _answered(
        self, asking: _Asking, host: Origin, paths: dict[str, str], path: str, response: Response
    ) -> None:
        if response.status in _REDIRECT_CODES:
            url = f"{host.scheme}://{host.netloc}{path}"
            with suppress(InvalidServer):
                target = redirect_target(url, response.headers.get("location", ""))
                asking.add(target[0], {target[1]: paths[path]})
        else:
            self._keep(paths[path], response)
            asking.count()

    def _pipeline(self, origin: Origin) -> Pipeline:
        if origin not in self._pipelines:
            # The password is for the server itself, not for where it sends us.
            own = origin == self.server.origin
            secret = self.server.authorization if own else None
            self._pipelines[origin] = Pipeline(origin, secret, timeouts=self._timeouts)
        return self._pipelines[origin]

    def _keep(self, hash_part: str, response: Response) -> None:
        stated = _MAX_AGE.search(response.headers.get("cache-control", ""))
        text: bytes | None
        match response.status:
            case 200:
                text, usual = response.body, _FOUND_S
            case 404 | 202:
                text, usual = None, _MISSING_S
            case _:
                text, usual, stated = None, _FAILED_S, None
        self._remember(hash_part, text, float(stated[1]) if stated else usual)

    def _remember(self, hash_part: str, text: bytes | None, ttl_s: float) -> None:
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        until = asyncio.get_running_loop().time() + min(ttl_s, _LONGEST_S)
        self._known[hash_part] = _Known(text, until)


class _Asking:
    """What is still to be asked, host by host, and how far that is."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._hosts: dict[Origin, dict[str, str]] = {}
        self._total = total
        self._done = 0
        self._progress = progress

    def add(self, host: Origin, paths: dict[str, str]) -> None:
        """Ask a host for paths, each standing for a hash part."""
        self._hosts.setdefault(host, {}).update(paths)

    def take(self) -> dict[Origin, dict[str, str]]:
        """What is to be asked now."""
        hosts, self._hosts = self._hosts, {}
        return hosts

    def count(self) -> None:
        """One more answer is there."""
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _read_narinfo(path: str) -> bytes | None:
    try:
        with open(open_regular(path), "rb") as file:
            return file.read(MAX_BODY)
    except OSError:
        return None


def open_regular(path: str) -> int:
    """Open a file to read, if it is a regular one; returns the descriptor.

    Anybody may name a directory as substitute server, and root reads it: merely to open a device
    or a named pipe can do something, so they are not even opened.
    Raises: OSError.
    """
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise IsADirectoryError(f"not a regular file: {path}")
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(handle)
