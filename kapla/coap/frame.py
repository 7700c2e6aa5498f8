"""RFC 8323 bytes <-> messages, without I/O.

Splitting a stream into frames is apart from reading a message's options, because the fast lane
recognises most requests by their bytes alone. A frame therefore points into the buffer it came in
instead of being copied out of it.

Source: RFC 8323 section 3.2 (framing), RFC 7252 section 3.1 (options).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Final, NamedTuple

__all__ = [
    "DEFAULT_MAX_FRAMES",
    "DEFAULT_MAX_MESSAGE_SIZE",
    "Code",
    "Frame",
    "FrameReader",
    "FramingError",
    "MalformedMessage",
    "Message",
    "Option",
    "OptionNumber",
    "encode_options",
    "encode_uint",
    "format_frame",
    "format_header",
    "format_message",
    "is_critical",
    "parse_body",
]

DEFAULT_MAX_MESSAGE_SIZE: Final = 128 * 1024
"""The longest message taken, in bytes, and announced as Max-Message-Size.

Four times the largest block: room for a FETCH of a thousand references and for whatever options a
peer adds, while a hostile connection can make the daemon hold this much and no more.
"""

DEFAULT_MAX_FRAMES: Final = 8192
"""Messages taken from one read: more than fit it of any that ask for or bring a block.

A message of two bytes takes a hundred times as much once it is told apart from its neighbours.
"""

_MAX_TOKEN: Final = 8
_PAYLOAD_MARKER: Final = 0xFF
# More options than any sane request has; parsing stops there.
_MAX_OPTIONS: Final = 64


class Code(IntEnum):
    """The message codes that Kapla sends or reads (class * 32 + detail)."""

    EMPTY = 0x00
    GET = 0x01
    POST = 0x02
    PUT = 0x03
    DELETE = 0x04
    FETCH = 0x05
    PATCH = 0x06
    IPATCH = 0x07
    CREATED = 0x41
    DELETED = 0x42
    VALID = 0x43
    CHANGED = 0x44
    CONTENT = 0x45
    CONTINUE = 0x5F
    BAD_REQUEST = 0x80
    UNAUTHORIZED = 0x81
    BAD_OPTION = 0x82
    FORBIDDEN = 0x83
    NOT_FOUND = 0x84
    METHOD_NOT_ALLOWED = 0x85
    NOT_ACCEPTABLE = 0x86
    REQUEST_ENTITY_INCOMPLETE = 0x88
    CONFLICT = 0x89
    REQUEST_ENTITY_TOO_LARGE = 0x8D
    UNSUPPORTED_CONTENT_FORMAT = 0x8F
    INTERNAL_SERVER_ERROR = 0xA0
    NOT_IMPLEMENTED = 0xA1
    SERVICE_UNAVAILABLE = 0xA3
    PROXYING_NOT_SUPPORTED = 0xA5
    CSM = 0xE1
    PING = 0xE2
    PONG = 0xE3
    RELEASE = 0xE4
    ABORT = 0xE5


class OptionNumber(IntEnum):
    """The options that Kapla sends or reads."""

    IF_MATCH = 1
    URI_HOST = 3
    ETAG = 4
    IF_NONE_MATCH = 5
    URI_PORT = 7
    URI_PATH = 11
    CONTENT_FORMAT = 12
    MAX_AGE = 14
    URI_QUERY = 15
    HOP_LIMIT = 16
    ACCEPT = 17
    BLOCK2 = 23
    BLOCK1 = 27
    SIZE2 = 28
    PROXY_URI = 35
    PROXY_SCHEME = 39
    SIZE1 = 60
    # Of our own, from the range for experiments: elective, and safe to forward.
    LENT = 65000
    NEAR = 65004


Option = tuple[int, bytes]
"""An option's number and its value as it stands on the wire."""


class FramingError(Exception):
    """The stream cannot be followed any further: the connection must be aborted."""


class MalformedMessage(Exception):
    """One message is broken; the frames around it are not."""


Frame = tuple[int, bytes, bytes, int, int]
"""One message, not yet looked into: (code, token, buffer, start, stop).

Options and payload are `buffer[start:stop]`. A plain tuple, since one is made for every message.
"""


class Message(NamedTuple):
    """One message with its options, in the order of their numbers."""

    code: int
    token: bytes
    options: tuple[Option, ...]
    payload: bytes

    def values(self, number: int) -> list[bytes]:
        """All values of the options of this number."""
        return [value for found, value in self.options if found == number]


class FrameReader:
    """Cuts a stream of bytes, arriving in pieces of any size, into frames."""

    def __init__(
        self,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
        max_frames: int = DEFAULT_MAX_FRAMES,
    ) -> None:
        self.failure: FramingError | None = None
        self._max = max_message_size
        self._max_frames = max_frames
        self._rest = bytearray()
        self._needed = 0
        # Whether that is all of a frame, and not only what tells its length.
        self._is_length_known = False

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes; returns the frames they complete.

        When the stream cannot be followed, `failure` is set, and the frames before the bad place
        are still returned; everything after it is dropped.
        """
        frames: list[Frame] = []
        if self.failure is not None:
            return frames
        at = 0
        if self._rest:
            missing = self._needed - len(self._rest)
            if self._is_length_known and missing <= len(data):
                # What stands behind this frame need not be copied for it.
                at = missing
            # Collected until one whole frame is there, so that a peer that sends byte by byte
            # costs no more than its bytes.
            self._rest += data[:at] if at else data
            if len(self._rest) < self._needed:
                return frames
            whole = bytes(self._rest)
            self._rest.clear()
            if not at:
                data = whole
            else:
                self._cut(whole, 0, frames)
        self._cut(data, at, frames)
        return frames

    def _cut(self, data: bytes, at: int, frames: list[Frame]) -> None:
        """Add the frames from `at` on, and keep what is left."""
        end = len(data)
        add = frames.append
        self._is_length_known = False
        for _ in range(self._max_frames - len(frames)):
            left = end - at
            if left < 2:
                self._needed = 2
                break
            first = data[at]
            length = first >> 4
            if length < 13:
                start = at + 2
            elif length == 14 and left >= 4:
                length = (data[at + 1] << 8 | data[at + 2]) + 269
                start = at + 4
            elif length == 13 and left >= 3:
                length = data[at + 1] + 13
                start = at + 3
            elif length == 15 and left >= 6:
                length = int.from_bytes(data[at + 1 : at + 5], "big") + 65805
                start = at + 6
            else:
                self._needed = (3, 4, 6)[length - 13]
                break
            token_length = first & 15
            body = start + token_length
            stop = body + length
            if token_length > _MAX_TOKEN:
                self.failure = FramingError(f"a token of {token_length} bytes is too long")
                return
            if stop - at > self._max:
                self.failure = FramingError(
                    f"a message of {stop - at} bytes is longer than {self._max}"
                )
                return
            if stop > end:
                self._needed = stop - at
                self._is_length_known = True
                break
            add((data[start - 1], data[start:body], data, body, stop))
            at = stop
        else:
            if end - at >= 2:
                self.failure = FramingError(f"more than {self._max_frames} messages at once")
                return
            self._needed = 2
        if at < end:
            self._rest += data[at:] if at else data


def parse_body(buffer: bytes, start: int, stop: int) -> tuple[tuple[Option, ...], bytes]:
    """Read the options and the payload in `buffer[start:stop]`.

    Raises: MalformedMessage.
    """
    options: list[Option] = []
    number = 0
    at = start
    while at < stop:
        first = buffer[at]
        at += 1
        if first == _PAYLOAD_MARKER:
            if at == stop:
                raise MalformedMessage("a payload marker without a payload")
            return tuple(options), buffer[at:stop]
        delta, at = _extended(buffer, first >> 4, at, stop)
        length, at = _extended(buffer, first & 15, at, stop)
        number += delta
        if number > 0xFFFF:
            raise MalformedMessage(f"option number {number} is beyond 65535")
        if at + length > stop:
            raise MalformedMessage(f"option {number} is longer than the message")
        if len(options) == _MAX_OPTIONS:
            raise MalformedMessage(f"more than {_MAX_OPTIONS} options")
        options.append((number, buffer[at : at + length]))
        at += length
    return tuple(options), b""


def _extended(buffer: bytes, nibble: int, at: int, stop: int) -> tuple[int, int]:
    """Read an option's delta or length from its nibble and the bytes that extend it."""
    if nibble < 13:
        return nibble, at
    if nibble == 15:
        raise MalformedMessage("an option header uses the reserved value 15")
    size = nibble - 12
    if at + size > stop:
        raise MalformedMessage("an option header is cut off")
    base = 13 if nibble == 13 else 269
    return base + int.from_bytes(buffer[at : at + size], "big"), at + size


def encode_uint(value: int) -> bytes:
    """Write the value of a uint option: big endian, without leading zeroes."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def is_critical(number: int) -> bool:
    """Whether whoever does not know this option must reject the message."""
    return number & 1 == 1


def encode_options(options: Iterable[Option]) -> bytes:
    """Write options, which must come in the order of their numbers."""
    out = bytearray()
    last = 0
    for number, value in options:
        if number < last:
            raise ValueError("options must come in the order of their numbers")
        delta, length = number - last, len(value)
        out.append(_nibble(delta) << 4 | _nibble(length))
        out += _extension(delta)
        out += _extension(length)
        out += value
        last = number
    return bytes(out)


def _nibble(value: int) -> int:
    return value if value < 13 else 13 if value < 269 else 14


def _extension(value: int) -> bytes:
    if value < 13:
        return b""
    return bytes([value - 13]) if value < 269 else (value - 269).to_bytes(2, "big")


def format_header(code: int, token_length: int, body_length: int) -> bytes:
    """Write what stands before the token: lengths and code."""
    if body_length < 13:
        return bytes([body_length << 4 | token_length, code])
    if body_length < 269:
        return bytes([13 << 4 | token_length, body_length - 13, code])
    if body_length < 65805:
        extended = (body_length - 269).to_bytes(2, "big")
        return bytes([14 << 4 | token_length]) + extended + bytes([code])
    return (
        bytes([15 << 4 | token_length]) + (body_length - 65805).to_bytes(4, "big") + bytes([code])
    )


def format_frame(code: int, token: bytes, body: bytes) -> bytes:
    """Write a message whose options and payload are already bytes."""
    return format_header(code, len(token), len(body)) + token + body


def format_message(
    code: int, token: bytes = b"", options: Iterable[Option] = (), payload: bytes = b""
) -> bytes:
    """Write a whole message; options must come in the order of their numbers."""
    body = encode_options(options)
    if payload:
        body += bytes([_PAYLOAD_MARKER]) + payload
    return format_frame(code, token, body)
