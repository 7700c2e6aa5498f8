"""What is settled about a request before a lane answers it: form, options, text.

The parsing of aiocoap is trusting in places: it raises on a Uri-Query that is not UTF-8 and passes
over critical options that it does not know. So a request reaches it only after these checks, with
raw references already written as Base32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eris.base32 import format_base32
from eris.model import REFERENCE_SIZE
from kapla.coap.blocks import BLOCKS_PATHS
from kapla.coap.frame import (
    Code,
    Frame,
    MalformedMessage,
    Option,
    OptionNumber,
    encode_uint,
    is_critical,
    parse_body,
)

__all__ = ["Rejected", "Request", "read_request"]

# Critical options that are understood. If-Match and If-None-Match are not: blocks have no versions.
_UNDERSTOOD: Final = frozenset(
    {
        OptionNumber.URI_HOST,
        OptionNumber.URI_PORT,
        OptionNumber.URI_PATH,
        OptionNumber.URI_QUERY,
        OptionNumber.ACCEPT,
        OptionNumber.BLOCK1,
        OptionNumber.BLOCK2,
    }
)
_TEXT: Final = frozenset({OptionNumber.URI_HOST, OptionNumber.URI_QUERY})
_PROXY: Final = frozenset({OptionNumber.PROXY_URI, OptionNumber.PROXY_SCHEME})
_REPEATABLE: Final = frozenset({OptionNumber.URI_PATH, OptionNumber.URI_QUERY})
# The longest value each may have (RFC 7252 table 4, RFC 7959 table 1).
_LONGEST: Final = {
    OptionNumber.URI_HOST: 255,
    OptionNumber.URI_PORT: 2,
    OptionNumber.URI_PATH: 255,
    OptionNumber.URI_QUERY: 255,
    OptionNumber.ACCEPT: 2,
    OptionNumber.BLOCK1: 3,
    OptionNumber.BLOCK2: 3,
}
# aiocoap remembers every number it meets for good, so it meets no others.
_KNOWN_FORMATS: Final = frozenset(encode_uint(number) for number in (0, 40, 42, 50, 60))
_UNKNOWN_FORMAT: Final = b"\xff\xff"
_METHODS: Final = range(Code.GET, Code.IPATCH + 1)


class Rejected(Exception):
    """The request is answered at once: with this code and diagnostic."""

    def __init__(self, code: int, diagnostic: str) -> None:
        super().__init__(diagnostic)
        self.code = code
        self.diagnostic = diagnostic


@dataclass(frozen=True, slots=True)
class Request:
    """A request in good form: known method, understood options, text that is UTF-8.

    Elective options are left out, but for Hop-Limit.
    """

    code: int
    options: tuple[Option, ...]
    payload: bytes


def read_request(frame: Frame) -> Request:
    """Read a request and settle what does not depend on its resource.

    Raises: Rejected.
    """
    code, _, buffer, start, stop = frame
    try:
        options, payload = parse_body(buffer, start, stop)
    except MalformedMessage as error:
        raise Rejected(Code.BAD_REQUEST, str(error)) from None
    if code not in _METHODS:
        raise Rejected(Code.METHOD_NOT_ALLOWED, f"method {code >> 5}.{code & 31:02d} is not known")
    numbers = [number for number, _ in options]
    if not _PROXY.isdisjoint(numbers):
        raise Rejected(Code.PROXYING_NOT_SUPPORTED, "this is not a proxy")
    for index, (number, value) in enumerate(options):
        if not is_critical(number):
            continue
        repeated = number not in _REPEATABLE and number in numbers[:index]
        # A value of impossible length, or one too many, counts as an option not understood.
        if number not in _UNDERSTOOD or repeated or len(value) > _LONGEST[OptionNumber(number)]:
            raise Rejected(Code.BAD_OPTION, f"critical option {number} is not understood")
    # RFC 8768, section 3. In another form it counts as not understood, and is passed over.
    if (OptionNumber.HOP_LIMIT, b"\0") in options:
        raise Rejected(Code.BAD_REQUEST, "a Hop-Limit of 0")
    return Request(code, _settled(options), payload)


def _settled(options: tuple[Option, ...]) -> tuple[Option, ...]:
    """Leave out elective options, check that text is UTF-8, write raw references as Base32."""
    try:
        path = tuple(v.decode() for number, v in options if number == OptionNumber.URI_PATH)
    except UnicodeDecodeError:
        raise Rejected(Code.NOT_FOUND, "") from None
    of_blocks = path in BLOCKS_PATHS
    settled: list[Option] = []
    for number, value in options:
        if not is_critical(number):
            if number == OptionNumber.HOP_LIMIT and len(value) == 1:
                settled.append((number, value))
            continue
        if number == OptionNumber.ACCEPT and value.lstrip(b"\0") not in _KNOWN_FORMATS:
            value = _UNKNOWN_FORMAT
        elif number == OptionNumber.URI_QUERY and of_blocks and len(value) == REFERENCE_SIZE:
            value = format_base32(value).encode("ascii")
        elif number in _TEXT and not _is_text(value):
            if number == OptionNumber.URI_QUERY and not of_blocks:
                continue  # says nothing to any other resource, which may not even be there
            raise Rejected(Code.BAD_REQUEST, f"option {number} is not UTF-8")
        settled.append((number, value))
    return tuple(settled)


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
