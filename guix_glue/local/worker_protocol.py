"""The client's side of the Guix daemon's worker protocol, as bytes in and bytes out.

A `WorkerClient` is fed what the daemon sends and asked what to send to it. After the handshake and
after each request comes a stream of messages (log text, an error, the end), and then, unless it was
an error, the result. Anything else is a `ProtocolError`, and the connection of no use any more.

Source: guix.md, section 8, as observed with protocol 0x164.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from guix_glue.errors import ProtocolError
from guix_glue.local.worker_requests import (
    DEFAULT_WORKER_LIMITS,
    Reading,
    Request,
    WorkerLimits,
    read_string,
    read_word,
    string_bytes,
    word_bytes,
)

__all__ = ["Answer", "Event", "Failure", "Ready", "WantsData", "WorkerClient"]

_CLIENT_MAGIC: Final = 0x6E697863
_SERVER_MAGIC: Final = 0x6478696F
_OUR_VERSION: Final = 0x164
# Guix counts its own minor versions from here; Nix, below it, speaks another dialect by now.
_OLDEST_VERSION: Final = 0x160
_NEXT_MAJOR_VERSION: Final = 0x200

_DONE: Final = 0x616C7473
_LOG_TEXT: Final = 0x6F6C6D67
_ERROR: Final = 0x63787470
_WANTS_DATA: Final = 0x64617461
_SENDS_DATA: Final = 0x64617416


@dataclass(frozen=True, slots=True)
class Ready:
    """The handshake is over: requests may be made."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of the request, of the type that the request names."""

    value: object


@dataclass(frozen=True, slots=True)
class Failure:
    """The daemon could not do what it was asked; after a request, the next one may be made."""

    message: str
    status: int


@dataclass(frozen=True, slots=True)
class WantsData:
    """The daemon waits for the next bytes of what the request is about: `size` at most, some."""

    size: int


Event = Ready | Answer | Failure | WantsData


class WorkerClient:
    """A connection to a daemon, without the connection.

    Send `data_to_send()`, feed `receive` with what comes, and again until it gives `Ready`; then
    one `request` at a time, each until its `Answer` or `Failure`. After `WantsData` it is `provide`
    that goes on.
    """

    def __init__(self, limits: WorkerLimits = DEFAULT_WORKER_LIMITS) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._output = bytearray(word_bytes(_CLIENT_MAGIC))
        self._event: Event | None = None
        self._idle = False
        self._reading: Reading[None] | None = None
        self._wanted = 0
        self._begin(self._handshake())

    def data_to_send(self) -> bytes:
        """Take what is to be sent to the daemon now; may be empty."""
        data = bytes(self._output)
        self._output.clear()
        return data

    def request(self, request: Request[object]) -> None:
        """Begin a request; its bytes are in `data_to_send()` then.

        Raises: RuntimeError, before the handshake or another request is over.
        """
        if not self._idle:
            raise RuntimeError("the connection is not ready for a request")
        self._idle = False
        self._output += request.message
        self._begin(self._exchange(request))

    def provide(self, data: bytes) -> None:
        """Give the daemon the bytes that it wants; none says that there are no more."""
        self._output += string_bytes(data)

    def receive(self, data: bytes) -> Event | None:
        """Take bytes of the daemon, in any pieces; gives what they complete, if they do.

        Raises: ProtocolError. The connection is of no use then.
        """
        self._buffer += data
        while self._reading is not None and len(self._buffer) >= self._wanted:
            piece = bytes(self._buffer[: self._wanted])
            del self._buffer[: self._wanted]
            self._advance(self._reading, piece)
        if self._reading is None and self._buffer:
            self._idle = False
            raise ProtocolError("the Guix daemon speaks without being asked")
        event, self._event = self._event, None
        return event

    def _begin(self, reading: Reading[None]) -> None:
        self._reading = reading
        self._wanted = next(reading)

    def _advance(self, reading: Reading[None], piece: bytes) -> None:
        try:
            self._wanted = reading.send(piece)
        except StopIteration:
            self._reading = None
        except ProtocolError:
            self._reading = None
            raise

    def _handshake(self) -> Reading[None]:
        magic = yield from read_word()
        if magic != _SERVER_MAGIC:
            raise ProtocolError("this is no Guix daemon: its first word is another")
        version = yield from read_word()
        if not _OLDEST_VERSION <= version < _NEXT_MAJOR_VERSION:
            raise ProtocolError(f"the daemon speaks version {version:#x}, which Guix does not")
        # Neither a CPU to run on nor disk space held back: both are for whoever builds.
        self._output += word_bytes(_OUR_VERSION) + word_bytes(0) + word_bytes(0)
        failure = yield from self._messages()
        if failure is None:
            self._idle = True
        self._event = failure or Ready()

    def _exchange(self, request: Request[object]) -> Reading[None]:
        failure = yield from self._messages(takes_data=request.takes_data)
        if failure is not None:
            self._event = failure
        else:
            value = yield from request.result(self._limits)
            self._event = Answer(value)
        self._idle = True

    def _messages(self, *, takes_data: bool = False) -> Reading[Failure | None]:
        """Read the stream of messages to its end."""
        limit = self._limits.message
        while (word := (yield from read_word())) != _DONE:
            if word == _LOG_TEXT:
                # For the users of programs that build.
                yield from read_string(limit)
            elif word == _ERROR:
                message = yield from read_string(limit)
                status = yield from read_word()
                return Failure(message.decode("utf-8", "replace"), status)
            elif word == _WANTS_DATA and takes_data:
                size = yield from read_word()
                self._event = WantsData(size)
            elif word in (_WANTS_DATA, _SENDS_DATA):
                raise ProtocolError("the Guix daemon moves data that no request is about")
            else:
                raise ProtocolError(f"the Guix daemon says a word that is not known: {word:#x}")
        return None
