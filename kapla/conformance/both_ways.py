"""Both ends of a connection may ask: what a store makes of answers, and of being answered."""

from __future__ import annotations

from typing import Final

from eris.base32 import format_base32_reference
from eris.crypto import reference_of
from kapla.coap.frame import Code, format_message
from kapla.conformance.expecting import expect_block, still_answers
from kapla.conformance.model import Absent, Check, Level
from kapla.conformance.stage import Stage

__all__ = ["CHECKS"]

_ANSWERS: Final = 200


async def _unasked(stage: Stage) -> str:
    wire = await stage.connect()
    answers = [
        format_message(Code.CONTENT, b"nobody", payload=bytes(1024)),
        format_message(Code.NOT_FOUND, b"asked"),
        format_message(Code.CREATED),
    ]
    await wire.send(b"".join(answers) * _ANSWERS)
    return await still_answers(stage, wire)


async def _between(stage: Stage) -> str:
    """An answer with the token of our own request, before the store has answered that."""
    block = stage.known()
    wire = await stage.connect()
    request = stage.get_bytes(b"same", format_base32_reference(reference_of(block)))
    await wire.send(format_message(Code.NOT_FOUND, b"same") + request)
    return expect_block(await wire.response(b"same"), block)


async def _refused(stage: Stage) -> str:
    """Requests of the store are refused by every connection here; this one is told of all."""
    wire = await stage.connect()
    # Somebody else asks for what is not there: a store that asks its clients does so now.
    other = await stage.connect()
    await still_answers(stage, other)
    told = await still_answers(stage, wire)
    asked = stage.asked + wire.asked + other.asked
    if not asked:
        raise Absent("the store asked nothing")
    return f"{asked} requests refused; then {told}"


_MUST, _MAY = Level.MUST, Level.MAY
CHECKS: Final = (
    Check("unasked", _MUST, "answers to nothing are passed over", "RFC 7252, 5.3.2", _unasked),
    Check("same-token", _MUST, "tokens of both ends are apart", "RFC 8323, 3.2", _between),
    Check("asks", _MAY, "a store that asks its clients bears a no", "ERIS over CoAP", _refused),
)
