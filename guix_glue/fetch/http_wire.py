"""One pipelining HTTP/1.1 connection, seen from the client, without I/O: GET requests, answers.

Requests go out without waiting; answers come in the same order. A server may close at any time, and
one that speaks HTTP/1.0 does so after its first answer: whatever it has not answered then is left
in `unanswered`, to be asked again elsewhere. httptools reads the answers; what is ours is the
queue, the end of a body that only the end of the connection tells, and the limits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import httptools

from guix_glue.errors import ProtocolError
from guix_glue.formats.narinfo import DEFAULT_NARINFO_LIMITS

__all__ = ["MAX_BODY", "PipelinedConnection", "Response"]

MAX_BODY: Final = DEFAULT_NARINFO_LIMITS.size
"""Bytes of one body: what is longer is no narinfo that would be read."""

_MAX_HEAD: Final = 64 * 1024
# Of one answer that is not complete, beyond its head, for each byte that its body may have: in
# chunks of one byte it has six.
_OVERHEAD: Final = 8
_HEADERS: Final = frozenset(
    {b"cache-control", b"content-encoding", b"content-length", b"location", b"retry-after"}
)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. `headers` holds only what matters here, by names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class PipelinedConnection:
    """The state of one connection; used up when `open` is no longer true.

    `more` is headers beside those that are always sent. `prefix` stands before each path: what a
    proxy is asked for is a whole URL.
    """

    def __init__(
        self,
        host: str,
        more: Mapping[str, str] = MappingProxyType({}),
        *,
        prefix: str = "",
        max_body: int = MAX_BODY,
    ) -> None:
        # A narinfo is small and compressed by nobody who knows what this is for.
        lines = [f"Host: {host}", "User-Agent: kapla", "Accept: */*", "Accept-Encoding: identity"]
        lines += [f"{name}: {value}" for name, value in more.items()]
        self._head = "".join(f"{line}\r\n" for line in lines).encode("ascii") + b"\r\n"
        self._method = f"GET {prefix}".encode("ascii")
        self._max_body = max_body
        self._asked: deque[str] = deque()
        self._answers: list[tuple[str, Response]] = []
        self._parser = httptools.HttpResponseParser(self)
        self._in_head = False
        self._in_body = False
        self._head_size = 0
        self._unfinished = 0
        self.open = True
        """Whether more may be asked and will be answered."""
        self.failure: ProtocolError | None = None
        """Why it is no longer open, if the server did not simply close it."""
        self._reset()

    @property
    def unanswered(self) -> list[str]:
        """Paths that were asked for and not answered, in order."""
        return list(self._asked)

    def request(self, path: str) -> bytes:
        """Ask for a path (printable ASCII without blanks); returns what is to be sent."""
        self._asked.append(path)
        return self._method + path.encode("ascii") + b" HTTP/1.1\r\n" + self._head

    def receive(self, data: bytes) -> list[tuple[str, Response]]:
        """Take bytes; returns the answers that are complete now, with their paths.

        After what is not HTTP, or too much, `failure` tells so and the connection is used up; the
        request whose answer that was is not among the unanswered, for it would end so again.
        """
        if self.open and data:
            try:
                self._parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
                self._fail(error)
            else:
                self._check_size(len(data))
        answers, self._answers = self._answers, []
        return answers

    def receive_end(self) -> list[tuple[str, Response]]:
        """The other side has closed: that may be the end of the last body."""
        if self.open and self._in_body and self._until_end:
            self.on_message_complete()
        self.open = False
        answers, self._answers = self._answers, []
        return answers

    def _check_size(self, size: int) -> None:
        """Bound an unfinished answer: httptools keeps a header, or one behind chunks, however long.

        Bytes of an answer before may be counted, if they came with its first ones.
        """
        self._head_size = self._head_size + size if self._in_head else 0
        self._unfinished = self._unfinished + size if self._in_head or self._in_body else 0
        if self._head_size > _MAX_HEAD:
            self._fail(ProtocolError("the head of the server's answer is too long"))
        elif self._unfinished > _MAX_HEAD + _OVERHEAD * self._max_body:
            self._fail(ProtocolError("the server's answer is too long"))

    def _fail(self, error: Exception) -> None:
        if not self.open:
            # Bytes behind the last answer of a connection: of no interest.
            return
        self.open = False
        known = next(
            (one for one in (error, error.__context__) if isinstance(one, ProtocolError)), None
        )
        self.failure = known or ProtocolError("the server's answer is no HTTP")
        if self._asked:
            self._asked.popleft()

    def _reset(self) -> None:
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._chunked = False
        self._until_end = False

    # What httptools calls. An exception from here reaches `feed_data` as a parser error, of which
    # it is the context.

    def on_message_begin(self) -> None:
        """The first byte of an answer."""
        if not self._asked:
            raise ProtocolError("the server answers what was not asked")
        self._reset()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        lower = name.lower()
        if lower == b"transfer-encoding":
            self._chunked = True
        elif lower in _HEADERS:
            self._headers[lower.decode()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_head, self._in_body = False, True
        status = self._parser.get_status_code()
        has_body = status >= 200 and status not in (204, 304)
        self._until_end = has_body and not self._chunked and "content-length" not in self._headers
        if int(self._headers.get("content-length", "0")) > self._max_body:
            raise ProtocolError("the server's answer is too long")

    def on_body(self, piece: bytes) -> None:
        """Some of the body."""
        self._body += piece
        if len(self._body) > self._max_body:
            raise ProtocolError("the server's answer is too long")

    def on_message_complete(self) -> None:
        """The answer is whole."""
        status = self._parser.get_status_code()
        self._in_body = False
        self._unfinished = 0
        if status < 200:
            return
        response = Response(status, self._headers, bytes(self._body))
        self._answers.append((self._asked.popleft(), response))
        if not self._parser.should_keep_alive():
            self.open = False
