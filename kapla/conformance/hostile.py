"""Frames that are wrong: none is taken for right, and others are served as before.

That is seen after each check, on a connection that was there before it and on a new one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from eris.base32 import format_base32_reference
from eris.crypto import reference_of
from eris.model import BlockSize
from kapla.coap.frame import Code, encode_options, format_frame, format_message
from kapla.conformance.expecting import expect, expect_block, expect_error, fate, still_answers
from kapla.conformance.model import Check, Failed, Level
from kapla.conformance.stage import CSM, Stage

__all__ = ["CHECKS"]

_TOKEN: Final = b"hostile!"
_EMPTY_MESSAGES: Final = 4000
_PIECES: Final = (b"\x00", b"\xd0", b"\xe0\x10", b"\xf0\x00\x00")


def _query_bytes(stage: Stage) -> bytes:
    """The options of a GET for a block that is there."""
    query = format_base32_reference(reference_of(stage.known()))
    return encode_options([*stage.path, (15, query)])


def _body(tail: bytes) -> Callable[[Stage], Awaitable[str]]:
    """A GET of a block that is there, with something wrong behind its options."""

    async def check(stage: Stage) -> str:
        wire = await stage.connect()
        bad = format_frame(Code.GET, _TOKEN, _query_bytes(stage) + tail)
        return await fate(stage, wire, bad, _TOKEN)

    return check


async def _told(stage: Stage) -> str:
    """The same as of `delta-15`: how it is said that the message makes no sense."""
    wire = await stage.connect()
    bad = format_frame(Code.GET, _TOKEN, _query_bytes(stage) + b"\xf0")
    seen = await fate(stage, wire, bad, _TOKEN)
    if wire.abort is None:
        raise Failed(f"{seen} instead of an Abort")
    return seen


async def _token_lengths(stage: Stage) -> str:
    for length in range(9, 16):
        wire = await stage.connect()
        told = (await wire.greeted()).values(6)
        if told and length < 15:
            continue  # long tokens are announced: RFC 8974
        # By its first byte it has no options and a token of this length; what follows is zeroes.
        bad = bytes((length, Code.GET)) + _TOKEN.ljust(length, b"\0")
        await wire.send(bad)
        await wire.over(f"a token of {length} bytes")
        if wire.answers:
            expect_error(wire.answers[0])
    return "ended each time"


def _too_long(head: bytes) -> Callable[[Stage], Awaitable[str]]:
    async def check(stage: Stage) -> str:
        wire = await stage.connect()
        await wire.send(head + bytes(2000))
        await wire.over("a message longer than the store can take")
        return "aborted" if wire.abort else "ended"

    return check


async def _cut_off(stage: Stage) -> str:
    """A PUT that ends before its payload does."""
    block = stage.fresh(BlockSize.LARGE)
    stage_bytes = stage.put_bytes(_TOKEN, block)
    stage.written -= len(block)
    for length in (1, 5, 500, 20_000):
        wire = await stage.connect()
        await wire.send(stage_bytes[:length])
        wire.close()
    other = await stage.connect()
    query = format_base32_reference(reference_of(block))
    return expect(await stage.get(other, query), Code.NOT_FOUND)


async def _promised(stage: Stage) -> str:
    """Heads of messages that never come, on connections that stay."""
    for head in _PIECES:
        wire = await stage.connect()
        await wire.send(head)
    return await stage.serves()


async def _byte_by_byte(stage: Stage) -> str:
    block = stage.known()
    wire = await stage.connect(b"")
    query = format_base32_reference(reference_of(block))
    await wire.send_slowly(CSM + stage.get_bytes(_TOKEN, query))
    return expect_block(await wire.response(_TOKEN), block)


async def _empty_messages(stage: Stage) -> str:
    wire = await stage.connect()
    await wire.send(b"\0\0" * _EMPTY_MESSAGES)
    return f"{_EMPTY_MESSAGES}; then {await still_answers(stage, wire)}"


async def _empty_with_more(stage: Stage) -> str:
    """An empty message with a token and a payload, which it has not."""
    wire = await stage.connect()
    bad = format_message(Code.EMPTY, _TOKEN, payload=b"not empty")
    return await fate(stage, wire, bad, _TOKEN)


async def _reserved_classes(stage: Stage) -> str:
    for code in (0x20, 0x3F, 0x60, 0xC0, 0xDF):
        wire = await stage.connect()
        bad = format_message(code, _TOKEN, stage.path)
        told = await fate(stage, wire, bad, _TOKEN)
    return told


async def _many_options(stage: Stage) -> str:
    wire = await stage.connect()
    options = [*stage.path, *((22, b"") for _ in range(1000))]
    return await fate(stage, wire, format_message(Code.GET, _TOKEN, options), _TOKEN)


def _other_protocol(data: bytes) -> Callable[[Stage], Awaitable[str]]:
    async def check(stage: Stage) -> str:
        wire = await stage.connect(b"")
        await wire.send(data)
        await wire.over("what is no CoAP")
        if wire.answers:
            raise Failed("a response came")
        return "aborted" if wire.abort else "ended"

    return check


async def _bad_signal(stage: Stage) -> str:
    wire = await stage.connect()
    # Its option is longer than the message.
    return await fate(stage, wire, format_frame(Code.PING, _TOKEN, b"\x2f"), _TOKEN)


async def _unknown_signal(stage: Stage) -> str:
    wire = await stage.connect()
    return await fate(stage, wire, format_message(0xFF, _TOKEN), _TOKEN)


_MUST, _SHOULD = Level.MUST, Level.SHOULD
_ROBUST: Final = "RFC 7252, 11.1"
_FORMAT: Final = "RFC 7252, 3"
_OPTIONS: Final = "RFC 7252, 3.1"
_HTTP: Final = b"GET / HTTP/1.1\r\nHost: blocks.example\r\n\r\n"
_TLS: Final = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
CHECKS: Final = (
    Check(
        "marker", _MUST, "a payload marker without a payload is an error", _FORMAT, _body(b"\xff")
    ),
    Check("delta-15", _MUST, "an option with a delta of 15 is an error", _OPTIONS, _body(b"\xf0")),
    Check(
        "malformed-told",
        _SHOULD,
        "a message that makes no sense is answered by an Abort",
        "RFC 8323, 5.6",
        _told,
    ),
    Check(
        "length-15", _MUST, "an option with a length of 15 is an error", _OPTIONS, _body(b"\x1f")
    ),
    Check(
        "beyond", _MUST, "an option longer than the message is an error", _OPTIONS, _body(b"\x0c1")
    ),
    Check(
        "cut-head",
        _MUST,
        "an option whose head is cut off is an error",
        _OPTIONS,
        _body(b"\xe0\x01"),
    ),
    Check(
        "number",
        _MUST,
        "an option number beyond 65535 is an error",
        _OPTIONS,
        _body(b"\xe0\xff\xff"),
    ),
    Check("tokens", _MUST, "tokens of 9 to 15 bytes end the connection", _FORMAT, _token_lengths),
    Check(
        "length-4g",
        _MUST,
        "a length of 4 GiB ends the connection",
        "RFC 8323, 3.2",
        _too_long(b"\xf0\xff\xff\xff\xff\x01"),
    ),
    Check(
        "length-2g",
        _MUST,
        "a length of 2 GiB in a PUT ends it, too",
        "RFC 8323, 3.2",
        _too_long(b"\xf8\x80\x00\x00\x00\x03"),
    ),
    Check("promised", _MUST, "messages that never come hold nobody up", _ROBUST, _promised),
    Check("cut-off", _MUST, "of a PUT that is cut off nothing is stored", _ROBUST, _cut_off, True),
    Check("byte-by-byte", _MUST, "bytes may come one by one", "RFC 8323, 3.2", _byte_by_byte),
    Check(
        "empty",
        _MUST,
        "thousands of empty messages are passed over",
        "RFC 8323, 3.4",
        _empty_messages,
    ),
    Check(
        "not-empty",
        _MUST,
        "an empty message that is not empty does no harm",
        "RFC 7252, 4.1",
        _empty_with_more,
    ),
    Check(
        "classes",
        _MUST,
        "codes of reserved classes are no requests",
        "RFC 7252, 12.1",
        _reserved_classes,
    ),
    Check("options", _MUST, "a thousand options do no harm", _ROBUST, _many_options),
    Check(
        "http",
        _MUST,
        "a request of HTTP ends the connection",
        "RFC 8323, 3.3",
        _other_protocol(_HTTP),
    ),
    Check("tls", _MUST, "a greeting of TLS ends it, too", "RFC 8323, 3.3", _other_protocol(_TLS)),
    Check("signal", _MUST, "a Ping that is malformed does no harm", _ROBUST, _bad_signal),
    Check(
        "signal-7.31", _MUST, "a signal that nobody knows does no harm", _ROBUST, _unknown_signal
    ),
)
