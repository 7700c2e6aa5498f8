"""The narinfos of one server: asked for together, remembered for a while, also when there are none.

A server that fails is not asked again for a minute: the daemon asks for many items one by one, and
each would wait for it anew. What it is only just now unable to answer is asked for a few times
more, and redirects are followed a few times. Nothing that comes is believed here: these are bytes
until somebody parses them, and there is a limit to those that are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Final

from eris.threads import in_thread
from guix_glue.errors import FetchFailed, TemporaryFailure
from guix_glue.fetch.asking import Asking, Paths
from guix_glue.fetch.http_wire import MAX_BODY, Response
from guix_glue.fetch.pipeline import Pipeline
from guix_glue.fetch.settings import DEFAULT_TIMEOUTS, Timeouts
from guix_glue.local.files import open_regular
from guix_glue.servers.encodings import decode_body, encoding_name
from guix_glue.servers.failures import status_failure
from guix_glue.servers.limits import ABSENCE_AGE_S, NARINFO_AGE_S, max_age_s
from guix_glue.servers.proxies import NO_PROXIES, Proxies, Proxy
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

# Other hosts to which a server may send us: each is a connection.
_MAX_HOSTS: Final = 8
# From when on a failure costs more than to ask again, and for how long a server rests at most then.
_WAITED_S: Final = 1.0
_LONGEST_REST_S: Final = 1800.0

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
        self,
        server: Server,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        *,
        memory: int,
        proxies: Proxies = NO_PROXIES,
    ) -> None:
        self.server = server
        self._timeouts = timeouts
        self._proxies = proxies
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
        return self._timeouts.total_s * (1 + count / (20 if self._is_asked_one_by_one() else 200))

    def _is_asked_one_by_one(self) -> bool:
        try:
            origin = self.server.origin
            proxy = None if origin is None else self._proxies.choose(origin)
        except InvalidServer:
            # Which will be told when it is asked.
            return False
        return origin is not None and origin.scheme == "http" and proxy is not None

    async def fetch(
        self,
        hash_parts: Sequence[str],
        answered: Callable[[], None],
        allowed_s: float,
        complain: Callable[[str], None] = lambda _: None,
    ) -> dict[str, bytes]:
        """Get narinfos by hash part; those that the server does not have are left out.

        Calls `answered` for each answer of a host, and `complain` once for each way in which some
        have no answer that can be used; takes `allowed_s` at most.
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
                    await self._ask(asked, Asking(answered, complain))
            except (FetchFailed, InvalidServer, TimeoutError) as error:
                self._rest(asyncio.get_running_loop().time() - began)
                self.close()
                raise FetchFailed(str(error) or "the server takes too long") from None
            self._pause_s = float(_FAILED_S)
            self._close_oldest()
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

    def _close_oldest(self) -> None:
        """A server may send us to others each time."""
        while len(self._pipelines) > _MAX_HOSTS:
            oldest = next(host for host in self._pipelines if host != self.server.origin)
            self._pipelines.pop(oldest).close()

    async def _ask(self, hash_parts: Sequence[str], asking: Asking) -> None:
        if self.server.origin is None:
            directory = self.server.path
            for hash_part in hash_parts:
                text = await in_thread(_read_narinfo, f"{directory}/{hash_part}.narinfo")
                self._remember(hash_part, text, 0.0)
            return
        for hash_part in hash_parts:
            asking.add(self.server.origin, self.server.narinfo_path(hash_part), hash_part)
        while hosts := await asking.take():
            for host, paths in hosts.items():
                await self._ask_host(host, paths, asking)
        for hash_part, reason in asking.given_up():
            self._fail(asking, hash_part, reason)

    async def _ask_host(self, host: Origin, paths: Paths, asking: Asking) -> None:
        """Ask the server, or one to which it sends us; takes away the paths that are answered."""
        pipeline = self._pipeline(host)
        try:
            await pipeline.ask(tuple(paths), partial(self._answered, asking, pipeline, paths))
            reason = "an answer of the server is too long, or no HTTP"
        except FetchFailed as error:
            if host == self.server.origin:
                raise
            reason = f"it redirects to {host.netloc}: {error}"
        for hash_part in chain.from_iterable(paths.values()):
            self._fail(asking, hash_part, FetchFailed(reason))

    def _answered(
        self, asking: Asking, pipeline: Pipeline, paths: Paths, path: str, response: Response
    ) -> None:
        for hash_part in paths.pop(path):
            self._take(asking, pipeline, path, hash_part, response)

    def _take(
        self, asking: Asking, pipeline: Pipeline, path: str, hash_part: str, response: Response
    ) -> None:
        """Take an answer for a hash part."""
        try:
            if response.status in REDIRECT_CODES:
                self._redirect(asking, f"{pipeline.origin.url}{path}", hash_part, response)
                return
            self._keep(hash_part, response, pipeline.asked_proxy)
        except TemporaryFailure as error:
            asking.postpone(pipeline.origin, path, hash_part, error)
        except (FetchFailed, InvalidServer) as error:
            self._fail(asking, hash_part, error)
        else:
            asking.done()

    def _redirect(self, asking: Asking, url: str, hash_part: str, response: Response) -> None:
        host, path = redirect_target(url, response.headers.get("location", ""))
        if self.server.nearby and host != self.server.origin:
            raise InvalidServer("a server that was found redirects to another one")
        if host not in self._pipelines and len(self._pipelines) >= 2 * _MAX_HOSTS:
            raise InvalidServer("the server redirects to too many hosts")
        self._pipeline(host)
        asking.redirect(host, path, hash_part)

    def _fail(self, asking: Asking, hash_part: str, failure: Exception) -> None:
        asking.complain(str(failure))
        self._remember(hash_part, None, _FAILED_S)
        asking.done()

    def _pipeline(self, origin: Origin) -> Pipeline:
        if origin not in self._pipelines:
            # The password is for the server itself, not for where it sends us.
            own = origin == self.server.origin
            secret = self.server.authorization if own else None
            proxy = self._proxies.choose(origin)
            self._pipelines[origin] = Pipeline(origin, secret, proxy=proxy, timeouts=self._timeouts)
        return self._pipelines[origin]

    def _keep(self, hash_part: str, response: Response, proxy: Proxy | None) -> None:
        headers = response.headers
        stated = max_age_s(headers.get("cache-control", ""))
        text: bytes | None
        match response.status:
            case 200:
                encoding = encoding_name(headers.get("content-encoding", ""))
                text, usual = decode_body(encoding, response.body, MAX_BODY), NARINFO_AGE_S
            case 404 | 202:
                text, usual = None, ABSENCE_AGE_S
            case 403 | 410 if proxy is None:
                # How some say that they have it not, or not any more.
                text, usual, stated = None, _FAILED_S, None
            case status:
                raise status_failure(status, headers.get("retry-after", ""), proxy)
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


def _read_narinfo(path: str) -> bytes | None:
    try:
        with open(open_regular(path), "rb") as file:
            text = file.read(MAX_BODY + 1)
    except OSError:
        return None
    return text if len(text) <= MAX_BODY else None
