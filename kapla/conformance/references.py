"""How a GET names a block: 32 raw octets, or 52 letters of Base32; and how it does not."""

from __future__ import annotations

from typing import Final

from eris.base32 import format_base32_reference
from eris.crypto import reference_of
from kapla.coap.frame import Code, Message, Option, OptionNumber
from kapla.conformance.expecting import describe, expect, expect_block, still_answers
from kapla.conformance.model import Check, Failed, Level
from kapla.conformance.stage import Stage

__all__ = ["CHECKS"]

_QUERY: Final = int(OptionNumber.URI_QUERY)


async def _base32(stage: Stage) -> str:
    block = stage.known()
    wire = await stage.connect()
    return expect_block(await stage.get(wire, format_base32_reference(reference_of(block))), block)


async def _raw(stage: Stage) -> str:
    block = stage.known()
    wire = await stage.connect()
    return expect_block(await stage.get(wire, reference_of(block)), block)


async def _raw_missing(stage: Stage) -> str:
    wire = await stage.connect()
    return expect(await stage.get(wire, b"\xff" * 32), Code.NOT_FOUND)


async def _raw_text(stage: Stage) -> str:
    wire = await stage.connect()
    return expect(await stage.get(wire, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"), Code.NOT_FOUND)


async def _refused(stage: Stage, *queries: bytes) -> Message:
    """That these queries are answered by an error, and the connection goes on."""
    wire = await stage.connect()
    options: list[Option] = [*stage.path, *((_QUERY, query) for query in queries)]
    answer = await stage.ask(wire, Code.GET, options)
    if answer.code < Code.BAD_REQUEST:
        raise Failed(f"answered {describe(answer)} instead of an error")
    await still_answers(stage, wire)
    return answer


def _letters(stage: Stage) -> bytes:
    return format_base32_reference(reference_of(stage.known()))


async def _short(stage: Stage) -> str:
    return describe(await _refused(stage, b"AAAA"))


async def _long(stage: Stage) -> str:
    return describe(await _refused(stage, b"A" * 56))


async def _longer(stage: Stage) -> str:
    return describe(await _refused(stage, b"A" * 1000))


async def _raw_wrong(stage: Stage) -> str:
    return describe(await _refused(stage, b"\xff" * 33))


async def _none(stage: Stage) -> str:
    return describe(await _refused(stage))


async def _empty(stage: Stage) -> str:
    return describe(await _refused(stage, b""))


async def _alphabet(stage: Stage) -> str:
    return describe(await _refused(stage, b"0189" * 13))


async def _two(stage: Stage) -> str:
    letters = _letters(stage)
    return describe(await _refused(stage, letters, letters))


async def _named(stage: Stage) -> str:
    return describe(await _refused(stage, b"ref=" + _letters(stage)))


async def _lower(stage: Stage) -> str:
    return describe(await _refused(stage, _letters(stage).lower()))


async def _padded(stage: Stage) -> str:
    return describe(await _refused(stage, _letters(stage) + b"===="))


async def _spare(stage: Stage) -> str:
    """The last letter has a bit that says nothing, and is not zero."""
    letters = _letters(stage)
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    last = alphabet[alphabet.index(letters[-1:]) | 1]
    return describe(await _refused(stage, letters[:-1] + bytes((last,))))


async def _told(stage: Stage) -> str:
    wrong = {"4 letters": b"AAAA", "56 letters": b"A" * 56, "digits": b"0189" * 13}
    for what, query in wrong.items():
        answer = await _refused(stage, query)
        if answer.code != Code.BAD_REQUEST:
            raise Failed(f"{what} are answered {describe(answer)}")
    return "4.00"


_MUST, _SHOULD = Level.MUST, Level.SHOULD
_EER: Final = "ERIS over CoAP"
CHECKS: Final = (
    Check("base32", _MUST, "52 letters of Base32 name a block", _EER, _base32),
    Check("raw", _MUST, "32 octets name a block, also where they are not UTF-8", _EER, _raw),
    Check("raw-missing", _MUST, "32 octets that name no block are 4.04", _EER, _raw_missing),
    Check(
        "raw-text",
        _SHOULD,
        "32 octets are a reference also where they look like text",
        _EER,
        _raw_text,
    ),
    Check("short", _MUST, "4 letters are refused", _EER, _short),
    Check("long", _MUST, "56 letters are refused", _EER, _long),
    Check("longer", _MUST, "1000 letters are refused", "RFC 7252, 5.4.3", _longer),
    Check("raw-wrong", _MUST, "33 octets that are not UTF-8 are refused", _EER, _raw_wrong),
    Check("none", _MUST, "no reference is refused", _EER, _none),
    Check("nothing", _MUST, "an empty one is refused", _EER, _empty),
    Check("alphabet", _MUST, "digits that are not of Base32 are refused", _EER, _alphabet),
    Check("told", _SHOULD, "malformed references are 4.00", _EER, _told),
    Check("two", _SHOULD, "two references are refused", _EER, _two),
    Check("named", _SHOULD, "a reference behind a name and = is refused", _EER, _named),
    Check("lower", _SHOULD, "lower case is refused", "RFC 4648, 6", _lower),
    Check("padded", _SHOULD, "padding is refused", _EER, _padded),
    Check(
        "spare-bits", _SHOULD, "spare bits that are not zero are refused", "RFC 4648, 3.5", _spare
    ),
)
