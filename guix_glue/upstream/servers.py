"""Other substitute servers, as a mirror or a proxy asks them: for narinfos, and for nars.

Whatever they say is checked before it counts: a narinfo by its signatures, a nar by the hash that
the narinfo signs. So it does not matter who they are, only what they may cost: time, size and
redirects are bounded, and one that does not answer is left alone for a while. Where no key is
configured at all nothing can be checked but nars, and the order of the servers decides.

A URL may hold a user name and a password: that very server is sent them, and nobody else sees them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import aiohttp

from eris.errors import ErisError
from guix_glue.errors import (
    FetchFailed,
    NoConnection,
    ProtocolError,
    SignatureRejected,
    TemporaryFailure,
)
from guix_glue.formats.narinfo import DEFAULT_NARINFO_LIMITS, Narinfo, parse_narinfo
from guix_glue.servers.complaints import Complaints
from guix_glue.servers.encodings import decode_body, encoding_name
from guix_glue.servers.http import HttpClient, read_body
from guix_glue.servers.limits import NARINFO_AGE_S, max_age_s
from guix_glue.servers.nar_stream import nar_pieces
from guix_glue.servers.nars import NarEnd, NarSource, nar_sources
from guix_glue.servers.outage import Outage
from guix_glue.servers.patience import Patience, first_success
from guix_glue.servers.proxies import NO_PROXIES, Proxies
from guix_glue.servers.url import InvalidServer, Server
from guix_glue.sources.vouching import Candidate, says_the_same
from guix_glue.trust.authorities import Authorities, disbelieved
from guix_glue.upstream.asking import AtOnce, InOrder, Question, Way

__all__ = ["Choice", "NotAllAsked", "Upstream", "UpstreamNarinfo"]

_log = logging.getLogger(__name__)

_NARINFO_TIMEOUT_S: Final = 15.0
# Where others were asked at the same time, and nobody is left to ask then. Clients wait for ten.
_AT_ONCE_TIMEOUT_S: Final = 8.0
# A client waits for it.
_WAITING_S: Final = 5.0
_TRIES: Final = 2
_PAUSE_S: Final = 60.0
_FIRST_PAUSE_S: Final = 2.0
_COMPLAINTS: Final = 1000
_LONGEST_TTL_S: Final = 30 * 86_400


class Choice(Enum):
    """Whose narinfo is taken where several servers have one."""

    IN_ORDER = auto()
    """That of the first server; the next one is asked too when it takes its time."""
    FASTEST = auto()
    """All are asked at once, and the first that is believed counts, its size included, or else the
    first that is but for that; without any key, the order."""


@dataclass(frozen=True, slots=True)
class UpstreamNarinfo:
    """A narinfo that is authorized, and the server it is from; `ttl_s` is how long it is good.

    `others` are those that said the same by then, authorized or not.
    """

    server: Server
    narinfo: Narinfo
    ttl_s: int
    others: tuple[Candidate, ...] = ()


class NotAllAsked(FetchFailed):
    """Nobody who could be asked has a narinfo; `is_settled`: asking again soon is of no use.

    So it is where some have answered that they have none, and the others are known not to answer.
    """

    def __init__(self, *, is_settled: bool) -> None:
        super().__init__("not all upstream servers can be asked")
        self.is_settled = is_settled


@dataclass(frozen=True, slots=True)
class _Answer:
    """A narinfo, and why it is not believed, if it is not."""

    narinfo: Narinfo
    ttl_s: int
    refusal: SignatureRejected | None = None

    @property
    def size_is_signed(self) -> bool:
        return "NarSize" in self.narinfo.signed_fields


class Upstream:
    """Servers in order of preference. `close()` it.

    `age_s` is how long a narinfo is good when its server does not say.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        authorities: Authorities,
        store_dir: str,
        proxies: Proxies = NO_PROXIES,
        *,
        age_s: int = NARINFO_AGE_S,
        choice: Choice = Choice.IN_ORDER,
    ) -> None:
        self._age_s = min(age_s, _LONGEST_TTL_S)
        self._servers = tuple(servers)
        self._authorities = authorities
        self._anybody = choice is Choice.FASTEST and not authorities.has_keys
        # Who is fastest and lies about a size that nobody signed would have all nars refused.
        self._any_size = choice is Choice.IN_ORDER or self._anybody
        self._store_dir = store_dir
        # A machine that starts, or wakes up, has no network yet; a proxy may be all that there is.
        first_s = None if choice is Choice.IN_ORDER else _FIRST_PAUSE_S
        self._outages = {one: Outage(_PAUSE_S, first_s=first_s) for one in self._servers}
        self._complaints = Complaints(_log, length=_COMPLAINTS)
        self._timeout_s = _NARINFO_TIMEOUT_S if choice is Choice.IN_ORDER else _AT_ONCE_TIMEOUT_S
        self._way: Way[_Answer]
        if choice is Choice.IN_ORDER:
            self._way = InOrder(self._servers, self._try)
        else:
            self._way = AtOnce(self._servers, self._try, first=self._anybody)
        # Nars take connections for long: look-ups do not wait for those.
        self._client = HttpClient(proxies=proxies)
        self._nars = HttpClient(proxies=proxies)

    async def close(self) -> None:
        """Close all connections."""
        await self._way.close()
        await self._client.close()
        await self._nars.close()

    @property
    def resting(self) -> int:
        """How many servers are left alone for now."""
        return sum(1 for server in self._servers if self._outages[server].left_s)

    def leave_out(self, server: Server) -> None:
        """Ask a server for nothing more: it has other things than are wanted."""
        self._servers = tuple(one for one in self._servers if one != server)

    def known(self, server: Server) -> Server | None:
        """The server of this URL, with its password; None if it is none of ours."""
        return next((one for one in self._servers if one.url == server.url), None)

    def believed(self, narinfo: Narinfo) -> Narinfo:
        """A narinfo as far as it is vouched for.

        Raises: SignatureRejected.
        """
        return disbelieved(narinfo) if self._anybody else self._authorities.believed(narinfo)

    async def narinfo(
        self, hash_part: str, nar_hash: bytes | None = None, *, of_all: bool = False
    ) -> UpstreamNarinfo | None:
        """A narinfo that is authorized; None if all servers say that there is none.

        With `nar_hash` only one with this hash will do. With `of_all` the first does not do, where
        all are asked at once: `others` are then all that say the same. Servers that may do better
        in a moment are asked again, when there is no other.
        Raises: NotAllAsked, if there is none, but not all servers could be asked.
        """

        def will_do(answer: _Answer) -> bool:
            fits = nar_hash in (None, answer.narinfo.item.nar_hash)
            return answer.refusal is None and fits

        def is_good(answer: _Answer) -> bool:
            return will_do(answer) and (self._any_size or answer.size_is_signed)

        there = [server for server in self._servers if not self._outages[server].left_s]
        question = Question(hash_part, list(there), is_good, of_all)
        patience = Patience(_WAITING_S, _TRIES)
        found = await first_success((question,), self._way.first_good, asyncio.sleep, patience)
        if found is None:
            found = question.first(self._servers, will_do)
        if found is not None:
            return _found(found, question)
        self._tell_refusals(question)
        if question.failed or len(there) < len(self._servers):
            raise NotAllAsked(is_settled=not question.failed and bool(question.answers))
        return None

    def _tell_refusals(self, question: Question[_Answer]) -> None:
        for server, answer in question.answers.items():
            if answer is not None and answer.refusal is not None:
                text = f"{question.name} from {server.shown} is not taken: {answer.refusal}"
                self._complaints.say(f"{question.name} {server.url}", text)

    async def _try(self, server: Server, hash_part: str) -> _Answer | None:
        """Ask one server; None if it has nothing that can be read.

        Raises: FetchFailed, if it cannot be asked: that says nothing of the others;
        TemporaryFailure, if it may do better in a moment.
        """
        key = f"{hash_part} {server.url}"
        heard = asyncio.Event()
        try:
            found = await self._ask(server, hash_part, heard)
        except InvalidServer as error:
            text = f"{server.shown} cannot be asked for {hash_part}: {error}"
            self._complaints.say(key, text)
            raise FetchFailed(text) from error
        except FetchFailed as error:
            self._note_failure(server, str(error), heard.is_set() and not isinstance(error, _Late))
            if isinstance(error, TemporaryFailure) and not isinstance(error, NoConnection):
                raise
            raise FetchFailed(f"{server.shown} cannot be asked") from error
        except ErisError as error:
            text = f"{hash_part} from {server.shown} is not taken: {error}"
            self._complaints.say(key, text)
            return None
        except Exception as error:
            _log.debug("A server cannot be asked", exc_info=True)
            reason = f"an answer that is not understood: {type(error).__name__}"
            self._note_failure(server, reason, heard.is_set())
            raise FetchFailed(f"{server.shown} cannot be asked") from error
        if self._outages[server].end():
            _log.info("%s can be asked again", server.shown)
        return found

    def _note_failure(self, server: Server, reason: str, heard: bool) -> None:
        """Leave a server alone for a while, and say why: once, and again when it changes.

        An answer, if a useless one, says that it is there: only what was asked for is not to be
        had, and other items may be.
        """
        text = f"{server.shown} cannot be asked: {reason}"
        if heard:
            self._complaints.say(f"{server.url} {reason}", text)
        elif self._outages[server].begin(reason):
            _log.warning("%s", text)

    async def _ask(self, server: Server, hash_part: str, heard: asyncio.Event) -> _Answer | None:
        url = f"{server.url}/{hash_part}.narinfo"
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await self._client.get(url, server.authorization)
                async with reply:
                    heard.set()
                    text = await self._text(reply)
        except TimeoutError:
            raise _Late("the server does not answer in time") from None
        if text is None:
            return None
        narinfo = parse_narinfo(text, store_dir=self._store_dir)
        if narinfo.item.hash_part != hash_part:
            raise ProtocolError("it is the narinfo of another item")
        ttl_s = self._ttl(reply.headers.get("Cache-Control", ""))
        try:
            return _Answer(self.believed(narinfo), ttl_s)
        except SignatureRejected as error:
            return _Answer(narinfo, ttl_s, error)

    def _ttl(self, cache_control: str) -> int:
        stated = max_age_s(cache_control)
        return self._age_s if stated is None else min(stated, _LONGEST_TTL_S)

    async def _text(self, reply: aiohttp.ClientResponse) -> bytes | None:
        """The narinfo; None if the server has none."""
        if reply.status in (404, 410):
            return None
        if reply.status == 403 and self._client.answered_by(reply) is None:
            # How some say that they have it not.
            return None
        if reply.status != 200:
            raise self._client.failure_of(reply)
        limit = DEFAULT_NARINFO_LIMITS.size
        encoding = encoding_name(", ".join(reply.headers.getall("Content-Encoding", ())))
        return decode_body(encoding, await read_body(reply, limit), limit)

    def nar_sources(self, server: Server, narinfo: Narinfo) -> list[NarSource]:
        """Where the nars are that a narinfo of the server names, in the order to try them."""
        # What was kept of it knows no password.
        return nar_sources(self.known(server) or server, narinfo.urls)

    def nar(
        self,
        source: NarSource,
        nar_size: int,
        end: NarEnd | None = None,
        *,
        length: int | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Fetch a nar, as it is sent; one that is sent without its length ends with its size.

        `end` is told how it ended. With `length` it is not taken if its server tells another.
        Raises, when iterated: FetchFailed.
        """
        return nar_pieces(self._nars, source, nar_size, end or NarEnd(), length=length)


class _Late(FetchFailed):
    """A server takes too long. That a part of its answer came is no sign that the next will."""


def _found(server: Server, question: Question[_Answer]) -> UpstreamNarinfo:
    answer = question.answers[server]
    assert answer is not None
    others = tuple(
        Candidate(other, also.narinfo)
        for other, also in question.answers.items()
        if other != server and also is not None and says_the_same(also.narinfo, answer.narinfo)
    )
    return UpstreamNarinfo(server, answer.narinfo, answer.ttl_s, others)
