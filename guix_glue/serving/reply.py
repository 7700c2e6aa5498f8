"""Requests and replies, whoever sends them and whatever takes them in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from typing import BinaryIO, Final

__all__ = [
    "HTML_TYPE",
    "JSON_TYPE",
    "NARINFO_TYPE",
    "NAR_TYPE",
    "OCTETS_TYPE",
    "TEXT_TYPE",
    "Body",
    "FetchedBody",
    "FileBody",
    "Reply",
    "Request",
    "StreamBody",
]

TEXT_TYPE: Final = "text/plain;charset=utf-8"
HTML_TYPE: Final = "text/html;charset=utf-8"
OCTETS_TYPE: Final = "application/octet-stream;charset=ISO-8859-1"
JSON_TYPE: Final = "application/json"
NARINFO_TYPE: Final = "application/x-nix-narinfo;charset=utf-8"
NAR_TYPE: Final = "application/x-nix-archive;charset=ISO-8859-1"


@dataclass(frozen=True, slots=True)
class Request:
    """A request, as far as it matters: `path` as it was sent, without the query.

    The rest are headers, where there is one of the name.
    """

    method: str
    path: str
    range: str | None = None
    if_range: str | None = None
    if_none_match: str | None = None


@dataclass(frozen=True, slots=True)
class FileBody:
    """`size` bytes of an open file from `offset` on; whoever sends it closes the file."""

    file: BinaryIO
    size: int
    offset: int = 0

    def close(self) -> None:
        """Close the file."""
        self.file.close()


@dataclass(frozen=True, slots=True)
class StreamBody:
    """Pieces that are made while they are sent, `size` bytes together, by a worker thread.

    `open` starts anew; whoever takes the iterator closes it.
    """

    open: Callable[[], Generator[bytes, None, None]]
    size: int

    def close(self) -> None:
        """Nothing is open yet."""


@dataclass(frozen=True, slots=True)
class FetchedBody:
    """Pieces that come from somewhere else, `size` bytes together from `offset` on.

    `open` starts anew, with an offset and a size, and gives just these bytes or raises; whoever
    takes the iterator closes it. `leave` is called once, at the end.
    """

    open: Callable[[int, int], AsyncGenerator[bytes, None]]
    size: int
    leave: Callable[[], None]
    offset: int = 0

    def close(self) -> None:
        """It is not waited for any longer."""
        self.leave()


Body = bytes | FileBody | StreamBody | FetchedBody


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered. `max_age_s` is for Cache-Control; None leaves it out.

    `tag` names the bytes of the body, and no other bytes ever have it: the strong validator of
    HTTP, without its quotes. A file that has one can be asked for in parts, and so can what comes
    from somewhere else.
    """

    status: int
    content_type: str
    body: Body
    max_age_s: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    tag: str | None = None

    @property
    def size(self) -> int:
        """The bytes of the body: the value of Content-Length."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.size

    def close(self) -> None:
        """Let go of a body that is not sent."""
        if not isinstance(self.body, bytes):
            self.body.close()
