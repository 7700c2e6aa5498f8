"""The narinfos of one server: asked for together, remembered for a while, also when there are none.

A server that fails is not asked again for a minute: the daemon asks for many items one by one, and
each would wait for it anew. Redirects are followed a few times. Nothing that comes is believed
here: these are bytes until somebody parses them, and there is a limit to those that are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from eris.threads import in_thread
from guix_glue.errors import FetchFailed
from guix_glue.fetch.http_wire import MAX_BODY, Response
from guix_glue.fetch.pipeline import Pipeline
from guix_glue.fetch.settings import DEFAULT_TIMEOUTS, Timeouts
from guix_glue.local.files import open_regular
from guix_glue.servers.limits import ABSENCE_AGE_S, NARINFO_AGE_S, max_age_s
from guix_glue.servers.url import (
    REDIRECT_CODES,
    InvalidServer,
    Origin,
    Server,
    redirect_target,
)

__all__ = ["LARGEST_ANSWER", "NarinfoClient"]

# What it takes to remember an answer, beside its text.
_ENTRY: Final = 512

LARGEST_ANSWER: Final = MAX_BODY + _ENTRY
"""Bytes of memory that one answer takes at most."""

# How long a failure holds, and anything at most, in seconds.
_FAILED_S: Final = 60
_LONGEST_S: Final = 365 * 86400

# From when on a failure costs more than to ask again, and for how long a server rests at most then.
_WAITED_S: Final = 1.0
_LONGEST_REST_S: Final = 1800.0

_REDIRECTS: Final = 4

# A narinfo, there is none, and there is none yet; all else is trouble that passes.
_ANSWERS: Final = frozenset({200, 202, 404})


@dataclass(frozen=True, slots=True)
class _Known:
    text: bytes | None
    until: float

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return _ENTRY + len(self.text or b"")


class NarinfoClient:
    """Asks one server; close it at the end.

    At most `memory` bytes of answers are kept, those that were wanted last: no more items may be
    asked for at once than have room in it, of `LARGEST_ANSWER` each.
    """

    def __init__(
        self, server: Server, timeouts: Timeouts = DEFAULT_TIMEOUTS, *, memory: int
    ) -> None:
        self.server = server
        self._timeouts = timeouts
        self._memory = memory
        self._kept = 0
        self.fresh: dict[str, tuple[bytes | None, float]] = {}
        """What the last `fetch` was answered, and for how many seconds it is good."""
        # In the order in which they were last wanted.
        self._known: dict[str, _Known] = {}
        self._pipelines: dict[Origin, Pipeline] = {}
        self._down_until = 0.0
        self._pause_s = float(_FAILED_S)

    def unknown(self, hash_parts: Iterable[str]) -> list[str]:
        """Those that the server would have to be asked for now."""
        now = asyncio.get_running_loop().time()
        return [] if now < self._down_until else self.outdated(hash_parts)

    def outdated(self, hash_parts: Iterable[str]) -> list[str]:
        """Those of which nothing is known that is good still."""
        now = asyncio.get_running_loop().time()
        return [one for one in hash_parts if one not in self._known or self._known[one].until < now]

    def recall(self, hash_part: str, text: bytes | None, left_s: float) -> None:
        """Remember what the server said before, for as long as that is good."""
        self._remember(hash_part, text, left_s)

    def doubt(self, hash_part: str) -> None:
        """Ask for this one the next time, though it may be good still."""
        known = self._known.get(hash_part)
        if known is not None:
            self._known[hash_part] = replace(known, until=float("-inf"))

    def allowance_s(self, count: int) -> float:
        """How long the server may take for so many items, together."""
        return self._timeouts.total_s * (1 + count / 200)

    async def fetch(
        self, hash_parts: Sequence[str], answered: Callable[[], None], allowed_s: float
    ) -> dict[str, bytes]:
        """Get narinfos by hash part; those that the server does not have are left out.

        Calls `answered` for each answer of a host; takes `allowed_s` at most.
        Raises: FetchFailed, if the server failed; what it had answered is kept for the next time.
        """
        self.fresh.clear()
        asked = self.unknown(hash_parts)
        for one in hash_parts:
            self._want(one)
        if asked:
            began = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(allowed_s):
                    await self._ask(asked, answered)
            except (FetchFailed, TimeoutError) as error:
                self._rest(asyncio.get_running_loop().time() - began)
                self.close()
                raise FetchFailed(str(error) or "the server takes too long") from None
            self._pause_s = float(_FAILED_S)
        return self.known(hash_parts)

    def _rest(self, waited_s: float) -> None:
        """Leave it alone for a while, and longer each time that it let us wait."""
        self._down_until = asyncio.get_running_loop().time() + self._pause_s
        if waited_s >= _WAITED_S:
            self._pause_s = min(2 * self._pause_s, _LONGEST_REST_S)

    def known(self, hash_parts: Iterable[str]) -> dict[str, bytes]:
        """The narinfos that were got before, by hash part."""
        found = ((one, self._known.get(one)) for one in hash_parts)
        return {one: known.text for one, known in found if known and known.text is not None}

    def close(self) -> None:
        """Close the connections."""
        for pipeline in self._pipelines.values():
            pipeline.close()

    async def _ask(self, hash_parts: Sequence[str], answered: Callable[[], None]) -> None:
        if self.server.origin is None:
            directory = self.server.path
            for hash_part in hash_parts:
                text = await in_thread(_read_narinfo, f"{directory}/{hash_part}.narinfo")
                self._remember(hash_part, text, 0.0)
        else:
            await self._ask_host(self.server.origin, hash_parts, answered)

    async def _ask_host(
        self, origin: Origin, hash_parts: Sequence[str], answered: Callable[[], None]
    ) -> None:
        """Ask the server, then those to which it redirects, if it does."""
        asking = _Asking(answered)
        asking.add(origin, {self.server.narinfo_path(one): one for one in hash_parts})
        for _ in range(_REDIRECTS):
            for host, paths in asking.take().items():
                take = partial(self._answered, asking, host, paths)
                await self._pipeline(host).ask(paths, take)

    def _answered(
        self, asking: _Asking, host: Origin, paths: dict[str, str], path: str, response: Response
    ) -> None:
        if response.status in REDIRECT_CODES:
            url = f"{host.scheme}://{host.netloc}{path}"
            with suppress(InvalidServer):
                target = redirect_target(url, response.headers.get("location", ""))
                asking.add(target[0], {target[1]: paths[path]})
        else:
            self._keep(paths[path], response)
            asking.answered()

    def _pipeline(self, origin: Origin) -> Pipeline:
        if origin not in self._pipelines:
            # The password is for the server itself, not for where it sends us.
            own = origin == self.server.origin
            secret = self.server.authorization if own else None
            self._pipelines[origin] = Pipeline(origin, secret, timeouts=self._timeouts)
        return self._pipelines[origin]

    def _keep(self, hash_part: str, response: Response) -> None:
        stated = max_age_s(response.headers.get("cache-control", ""))
        text: bytes | None
        match response.status:
            case 200:
                text, usual = response.body, NARINFO_AGE_S
            case 404 | 202:
                text, usual = None, ABSENCE_AGE_S
            case _:
                text, usual, stated = None, _FAILED_S, None
        ttl_s = usual if stated is None else stated
        if response.status in _ANSWERS:
            self.fresh[hash_part] = text, ttl_s
        self._remember(hash_part, text, ttl_s)

    def _remember(self, hash_part: str, text: bytes | None, ttl_s: float) -> None:
        until = asyncio.get_running_loop().time() + min(ttl_s, _LONGEST_S)
        self._forget(hash_part)
        self._known[hash_part] = known = _Known(text, until)
        self._kept += known.size
        while self._kept > self._memory:
            self._forget(next(iter(self._known)))

    def _want(self, hash_part: str) -> None:
        """Forget all others before this one."""
        known = self._known.pop(hash_part, None)
        if known is not None:
            self._known[hash_part] = known

    def _forget(self, hash_part: str) -> None:
        known = self._known.pop(hash_part, None)
        if known is not None:
            self._kept -= known.size


class _Asking:
    """What is still to be asked, host by host; `answered` is called for what is not any more."""

    def __init__(self, answered: Callable[[], None]) -> None:
        self._hosts: dict[Origin, dict[str, str]] = {}
        self.answered = answered

    def add(self, host: Origin, paths: dict[str, str]) -> None:
        """Ask a host for paths, each standing for a hash part."""
        self._hosts.setdefault(host, {}).update(paths)

    def take(self) -> dict[Origin, dict[str, str]]:
        """What is to be asked now."""
        hosts, self._hosts = self._hosts, {}
        return hosts


def _read_narinfo(path: str) -> bytes | None:
    try:
        with open(open_regular(path), "rb") as file:
            text = file.read(MAX_BODY + 1)
    except OSError:
        return None
    return text if len(text) <= MAX_BODY else None
