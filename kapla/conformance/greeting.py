"""How connections begin: the CSM of both ends."""

from __future__ import annotations

import asyncio
from typing import Final

from eris.base32 import format_base32_reference
from eris.crypto import reference_of
from eris.model import BlockSize
from kapla.coap.frame import Code, OptionNumber, encode_uint, format_message
from kapla.conformance.expecting import describe, expect_block, still_answers
from kapla.conformance.model import Absent, Check, Failed, Level, format_code
from kapla.conformance.pieces import get_in_pieces
from kapla.conformance.stage import CSM, Stage
from kapla.conformance.wire import Wire

__all__ = ["CHECKS"]

_UNASKED_S: Final = 1.0
_LATE_S: Final = 0.5
_MAX_MESSAGE_SIZE: Final = 2
_BLOCK_WISE: Final = 4
_EXTENDED_TOKENS: Final = 6
_NAMES: Final = {
    _MAX_MESSAGE_SIZE: "Max-Message-Size",
    _BLOCK_WISE: "Block-Wise-Transfer",
    _EXTENDED_TOKENS: "Extended-Token-Length",
}
_ELECTIVE: Final = 64000
_CRITICAL: Final = 64001
# Of 1152 bytes, which is what everybody takes, and of less than that.
_BASE_SIZE: Final = 1152
_SMALL_SIZE: Final = 600


async def _first(stage: Stage) -> str:
    wire = await stage.connect()
    csm = await wire.greeted()
    if wire.codes[0] != Code.CSM:
        raise Failed(f"the first message has the code {format_code(wire.codes[0])}")
    told = [
        f"{_NAMES.get(number, number)} {int.from_bytes(value, 'big') if value else ''}".strip()
        for number, value in csm.options
    ]
    return ", ".join(told) or "an empty CSM"


async def _unasked(stage: Stage) -> str:
    wire = await stage.connect(b"")
    wire.wait_s = min(wire.wait_s, _UNASKED_S)
    try:
        await wire.greeted()
    except Failed as error:
        raise Absent(str(error)) from None
    return "sent without waiting"


async def _early(stage: Stage) -> str:
    wire = await stage.connect(CSM + stage.get_bytes(b"early", b"A" * 52))
    return describe(await wire.response(b"early"))


async def _missing(stage: Stage) -> str:
    wire = await stage.connect(stage.get_bytes(b"t", b"A" * 52))
    await wire.over("a request without a CSM before it")
    if wire.answers:
        raise Failed(f"answered {describe(wire.answers[0])}")
    return "aborted" if wire.abort else "ended"


async def _missing_told(stage: Stage) -> str:
    wire = await stage.connect(stage.get_bytes(b"t", b"A" * 52))
    return await _abort_of(wire, "a request without a CSM before it")


async def _abort_of(wire: Wire, what: str) -> str:
    await wire.over(what)
    if wire.abort is None:
        raise Failed("the connection was ended without an Abort")
    return describe(wire.abort)


async def _late(stage: Stage) -> str:
    wire = await stage.connect(b"")
    await asyncio.sleep(_LATE_S)
    await wire.send(CSM)
    return await still_answers(stage, wire)


async def _again(stage: Stage) -> str:
    wire = await stage.connect()
    await still_answers(stage, wire)
    await wire.send(CSM * 2)
    return await still_answers(stage, wire)


async def _empty(stage: Stage) -> str:
    wire = await stage.connect(format_message(Code.CSM))
    return await still_answers(stage, wire)


async def _elective(stage: Stage) -> str:
    wire = await stage.connect(_csm(_MAX_MESSAGE_SIZE, b"\x10\0\0", _ELECTIVE, b"what"))
    return await still_answers(stage, wire)


def _csm(*facts: int | bytes) -> bytes:
    """A CSM with options: a number, its value, and so on."""
    options = [(int(n), bytes(v)) for n, v in zip(facts[::2], facts[1::2], strict=True)]
    return format_message(Code.CSM, options=options)


async def _critical(stage: Stage) -> str:
    wire = await stage.connect(_csm(_CRITICAL, b""))
    await wire.over("a CSM with an unknown critical option")
    return "aborted" if wire.abort else "ended"


async def _critical_told(stage: Stage) -> str:
    wire = await stage.connect(_csm(_CRITICAL, b""))
    await _abort_of(wire, "a CSM with an unknown critical option")
    assert wire.abort is not None
    if wire.abort.values(2) != [encode_uint(_CRITICAL)]:
        raise Failed("the Abort has no Bad-CSM-Option with the number of the option")
    return "the Abort names it"


async def _base_size(stage: Stage) -> str:
    return await _within(stage, _BASE_SIZE, BlockSize.LARGE)


async def _small_size(stage: Stage) -> str:
    return await _within(stage, _SMALL_SIZE, BlockSize.SMALL)


async def _within(stage: Stage, size: int, block_size: BlockSize) -> str:
    """That no message is longer than announced, though a block is asked for that is."""
    block = stage.known(block_size)
    wire = await stage.connect(_csm(_MAX_MESSAGE_SIZE, encode_uint(size), _BLOCK_WISE, b""))
    answer = await stage.get(wire, format_base32_reference(reference_of(block)))
    if wire.largest > size:
        raise Failed(f"sent a message of {wire.largest} bytes where {size} were announced")
    return describe(answer)


async def _pieces(stage: Stage) -> str:
    block = stage.known(BlockSize.LARGE)
    wire = await stage.connect(_csm(_MAX_MESSAGE_SIZE, encode_uint(_BASE_SIZE), _BLOCK_WISE, b""))
    found, count = await get_in_pieces(stage, wire, block, None)
    if found != block:
        raise Failed("the pieces are not the block")
    return f"{count} pieces"


async def _whole(stage: Stage) -> str:
    block = stage.known(BlockSize.LARGE)
    wire = await stage.connect()
    answer = await stage.get(wire, format_base32_reference(reference_of(block)))
    if answer.values(OptionNumber.BLOCK2):
        raise Failed(f"answered in pieces of {len(answer.payload)} bytes")
    return expect_block(answer, block)


async def _no_limit_told(stage: Stage) -> str:
    block = stage.known(BlockSize.LARGE)
    wire = await stage.connect(format_message(Code.CSM))
    answer = await stage.get(wire, format_base32_reference(reference_of(block)))
    if answer.payload != block:
        raise Absent(f"answered {describe(answer)}: by the letter such a peer takes 1152 bytes")
    return "a whole block"


async def _extended(stage: Stage) -> str:
    wire = await stage.connect()
    told = (await wire.greeted()).values(_EXTENDED_TOKENS)
    longest = int.from_bytes(told[0], "big") if told else 8
    if longest <= 8:
        raise Absent("not announced")
    # A token of 12 bytes stands as it is; the header is 1 or 2 bytes longer than of one of 0.
    request = bytearray(stage.get_bytes(b"", b"A" * 52))
    request[0] |= 12
    head = 3  # of a request of 13 to 268 bytes: length, its extension, code
    answer = await wire.raw(bytes(request[:head]) + b"twelve bytes" + bytes(request[head:]), 14)
    if answer[:2] != bytes((answer[0] & 0xF0 | 12, Code.NOT_FOUND)) and b"twelve" not in answer:
        raise Failed(f"answered {answer.hex(' ')}")
    return f"{longest} bytes announced, 12 used"


_MUST, _SHOULD, _MAY, _OWN = Level.MUST, Level.SHOULD, Level.MAY, Level.OWN
CHECKS: Final = (
    Check("first", _MUST, "the first message is a CSM", "RFC 8323, 3.3", _first),
    Check("unasked", _MAY, "the CSM comes before ours", "RFC 8323, 3.3", _unasked),
    Check("early", _MUST, "a request right behind our CSM is answered", "RFC 8323, 3.3", _early),
    Check("missing", _MUST, "without a CSM the connection is ended", "RFC 8323, 3.3", _missing),
    Check("missing-told", _SHOULD, "it is ended by an Abort", "RFC 8323, 5.6", _missing_told),
    Check("late", _MUST, "a CSM half a second late is taken", "RFC 8323, 3.3", _late),
    Check("again", _MUST, "more CSMs may come", "RFC 8323, 5.3", _again),
    Check("empty", _MUST, "an empty CSM is taken", "RFC 8323, 5.3", _empty),
    Check(
        "elective",
        _MUST,
        "an unknown elective option in a CSM is passed over",
        "RFC 8323, 5.2",
        _elective,
    ),
    Check(
        "critical",
        _MUST,
        "an unknown critical option in a CSM ends the connection",
        "RFC 8323, 5.2",
        _critical,
    ),
    Check(
        "critical-told",
        _SHOULD,
        "it is ended by an Abort that names the option",
        "RFC 8323, 5.6",
        _critical_told,
    ),
    Check(
        "base-size",
        _MUST,
        "no message is longer than the 1152 bytes announced",
        "RFC 8323, 5.3.1",
        _base_size,
    ),
    Check(
        "small-size",
        _SHOULD,
        "no message is longer than the 600 bytes announced",
        "RFC 8323, 5.3.1",
        _small_size,
    ),
    Check(
        "pieces",
        _SHOULD,
        "a peer that takes 1152 bytes gets 32 KiB in pieces",
        "RFC 8323, 6",
        _pieces,
    ),
    Check("whole", _SHOULD, "a peer that takes 1 MiB gets 32 KiB whole", "ERIS over CoAP", _whole),
    Check(
        "no-limit",
        _MAY,
        "a peer with an empty CSM gets 32 KiB whole",
        "as eris-nim needs it",
        _no_limit_told,
    ),
    Check("long-tokens", _MAY, "announced long tokens work", "RFC 8974, 2", _extended),
)
