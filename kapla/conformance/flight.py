"""Many requests under way, and connections that are left in the middle."""

from __future__ import annotations

import os
from typing import Final

from eris.base32 import format_base32_reference
from eris.crypto import reference_of
from eris.model import BlockSize
from kapla.coap.frame import Code
from kapla.conformance.expecting import describe, expect, expect_block
from kapla.conformance.model import Check, Failed, Level, Skipped
from kapla.conformance.stage import Stage

__all__ = ["CHECKS"]

_MANY: Final = 240
_PUTS: Final = 64
_LONGEST_TOKEN: Final = 8
_UNREAD: Final = 200
_COMING: Final = 40


def _tokens(count: int) -> list[bytes]:
    """Different ones, of 0 to 8 bytes in turn."""
    tokens = [b""]
    while len(tokens) < count:
        length = len(tokens) % (_LONGEST_TOKEN + 1)
        token = len(tokens).to_bytes(2, "big").rjust(length, b"\xa5")[-max(length, 1) :]
        tokens.append(token if token not in tokens else os.urandom(_LONGEST_TOKEN))
    return tokens


async def _gets(stage: Stage) -> str:
    blocks = [stage.known(BlockSize.SMALL), stage.known(BlockSize.LARGE), None]
    tokens = _tokens(_MANY)
    wire = await stage.connect()
    queries = [
        b"A" * 52 if block is None else format_base32_reference(reference_of(block))
        for block in blocks
    ]
    gets = [stage.get_bytes(token, queries[n % 3]) for n, token in enumerate(tokens)]
    await wire.send(b"".join(gets))
    for number, token in enumerate(tokens):
        answer, block = await wire.response(token), blocks[number % 3]
        if block is None:
            expect(answer, Code.NOT_FOUND)
        else:
            expect_block(answer, block)
    if wire.answers:
        raise Failed(f"one more answer than requests: {describe(wire.answers[0])}")
    return f"{_MANY} answers, tokens of 0 to {_LONGEST_TOKEN} bytes"


async def _puts(stage: Stage) -> str:
    blocks = [stage.fresh(BlockSize.SMALL) for _ in range(_PUTS)]
    tokens = _tokens(_PUTS)
    wire = await stage.connect()
    pairs = list(zip(tokens, blocks, strict=True))
    await wire.send(b"".join(stage.put_bytes(token, block) for token, block in pairs))
    for token in tokens:
        expect(await wire.response(token), Code.CREATED)
    for token, block in pairs:
        query = format_base32_reference(reference_of(block))
        await wire.send(stage.get_bytes(token, query))
        expect_block(await wire.response(token), block)
    return f"{_PUTS} blocks"


async def _half_closed(stage: Stage) -> str:
    if stage.is_tls:
        raise Skipped("TLS has no half of a connection")
    block = stage.known(BlockSize.LARGE)
    query = format_base32_reference(reference_of(block))
    wire = await stage.connect()
    tokens = [wire.token() for _ in range(8)]
    await wire.send(b"".join(stage.get_bytes(token, query) for token in tokens))
    wire.half_close()
    for token in tokens:
        expect_block(await wire.response(token), block)
    await wire.over("the end of what we send")
    return "all answered, then closed"


async def _half_a_message(stage: Stage) -> str:
    if stage.is_tls:
        raise Skipped("TLS has no half of a connection")
    wire = await stage.connect()
    await wire.send(stage.get_bytes(b"whole", b"A" * 52) + stage.get_bytes(b"half", b"A" * 52)[:20])
    wire.half_close()
    told = expect(await wire.response(b"whole"), Code.NOT_FOUND)
    await wire.over("half of a message")
    return told


async def _unread(stage: Stage) -> str:
    """A peer that asks for several MiB and reads nothing; others are asked after the check, too."""
    query = format_base32_reference(reference_of(stage.known(BlockSize.LARGE)))
    wire = await stage.connect()
    await wire.greeted()
    wire.stop_reading()
    await wire.send(b"".join(stage.get_bytes(wire.token(), query) for _ in range(_UNREAD)))
    return await stage.serves()


async def _coming_and_going(stage: Stage) -> str:
    query = format_base32_reference(reference_of(stage.known(BlockSize.LARGE)))
    for _ in range(_COMING):
        wire = await stage.connect()
        await wire.send(stage.get_bytes(b"t", query))
        wire.close()
    return f"{_COMING} connections"


_MUST, _SHOULD = Level.MUST, Level.SHOULD
CHECKS: Final = (
    Check("gets", _MUST, "many GETs at once are each answered once", "RFC 7252, 5.3.1", _gets),
    Check("puts", _MUST, "many PUTs at once are all stored", "RFC 7252, 5.3.1", _puts, True),
    Check(
        "half-closed",
        _SHOULD,
        "who sends no more still gets the answers",
        "RFC 8323, 5.5",
        _half_closed,
    ),
    Check(
        "half-a-message",
        _SHOULD,
        "who ends in half a message gets the answers before it",
        "RFC 8323, 5.5",
        _half_a_message,
    ),
    Check("unread", _MUST, "who does not read keeps nobody else waiting", "RFC 7252, 11", _unread),
    Check(
        "come-and-go",
        _MUST,
        "who leaves before the answer harms nobody",
        "RFC 7252, 11",
        _coming_and_going,
    ),
)
