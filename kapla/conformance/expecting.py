"""What checks expect of answers, and what they say when it is otherwise."""

from __future__ import annotations

from typing import Final

from kapla.coap.frame import Code, Message, format_message
from kapla.conformance.model import Failed, format_code, words
from kapla.conformance.stage import Stage
from kapla.conformance.wire import Wire

__all__ = ["describe", "expect", "expect_block", "expect_error", "fate", "still_answers"]

_FIRST_ERROR: Final = 0x80
_FENCE: Final = b"fence"


def describe(message: Message) -> str:
    """An answer in short: its code and what it says, or how long its payload is."""
    code = format_code(message.code)
    if message.code >= _FIRST_ERROR:
        return code + words(message.payload)
    return f"{code}, {len(message.payload)} bytes" if message.payload else code


def expect(message: Message, *codes: int) -> str:
    """That the answer has one of these codes; returns it in short. Raises: Failed."""
    if message.code not in codes:
        wanted = " or ".join(map(format_code, codes))
        raise Failed(f"answered {describe(message)} instead of {wanted}")
    return describe(message)


def expect_error(message: Message) -> str:
    """That the answer is an error of any kind; returns it in short. Raises: Failed."""
    if message.code < _FIRST_ERROR:
        raise Failed(f"answered {describe(message)} instead of an error")
    return describe(message)


def expect_block(message: Message, block: bytes) -> str:
    """That the answer is this block; returns it in short. Raises: Failed."""
    expect(message, Code.CONTENT)
    if message.payload != block:
        raise Failed(f"the answer, of {len(message.payload)} bytes, is not the block")
    return describe(message)


async def still_answers(stage: Stage, wire: Wire) -> str:
    """That the connection goes on: asks for what is not there. Raises: Failed."""
    answer = await stage.get(wire, b"A" * 52)
    return expect(answer, Code.NOT_FOUND)


async def fate(stage: Stage, wire: Wire, data: bytes, token: bytes) -> str:
    """Send what is wrong, and see that it is not taken for right.

    An error, an Abort, and the end of the connection are all well, and so is silence while the
    connection goes on, as a request behind it tells. Returns which it was.
    Raises: Failed, if there is an answer that is no error, or nothing at all.
    """
    await wire.send(data)
    fence = format_message(Code.GET, _FENCE, [*stage.path, (15, b"A" * 52)])
    await wire.send(fence)
    try:
        await wire.response(_FENCE)
    except Failed:
        if wire.ended is None and wire.abort is None:
            raise
    for answer in wire.answers:
        if answer.token == token:
            return expect_error(answer)
    if wire.abort is not None:
        return f"Abort{words(wire.abort.payload)}"
    return "passed over" if wire.ended is None else "the connection was ended"
