"""Ping and Pong, Release, Abort."""

from __future__ import annotations

from typing import Final

from eris.base32 import format_base32_reference
from eris.crypto import reference_of
from eris.model import BlockSize
from kapla.coap.frame import Code, format_message
from kapla.conformance.expecting import expect, expect_block, still_answers
from kapla.conformance.model import Absent, Check, Failed, Level
from kapla.conformance.stage import Stage
from kapla.conformance.wire import Wire

__all__ = ["CHECKS"]

_CUSTODY: Final = (2, b"")
_ELECTIVE: Final = (64000, b"what")
_BEHIND: Final = 8


async def _ping(stage: Stage) -> str:
    wire = await stage.connect()
    for token in (b"", b"12345678"):
        await wire.send(format_message(Code.PING, token))
        pong = await wire.signal(Code.PONG)
        if pong.token != token:
            raise Failed(f"a Pong with the token {pong.token.hex()} to one of {token.hex()}")
    return "tokens of 0 and 8 bytes"


async def _elective(stage: Stage) -> str:
    wire = await stage.connect()
    await wire.send(format_message(Code.PING, b"p", [_ELECTIVE]))
    await wire.signal(Code.PONG)
    return "answered"


async def _custody(stage: Stage) -> str:
    wire = await stage.connect()
    await wire.send(format_message(Code.PING, b"p", [_CUSTODY]))
    pong = await wire.signal(Code.PONG)
    return "claimed" if pong.values(_CUSTODY[0]) else "not claimed"


async def _custody_waits(stage: Stage) -> str:
    """Puts before a Ping with Custody are answered before its Pong."""
    wire = await stage.connect()
    tokens = [wire.token() for _ in range(_BEHIND)]
    puts = [stage.put_bytes(token, stage.fresh(BlockSize.SMALL)) for token in tokens]
    await wire.send(b"".join(puts) + format_message(Code.PING, b"p", [_CUSTODY]))
    pong = await wire.signal(Code.PONG)
    for token in tokens:
        expect(await wire.response(token), Code.CREATED)
    before = wire.codes[: wire.codes.index(Code.PONG)].count(Code.CREATED)
    if before == _BEHIND:
        return f"after {_BEHIND} answers"
    claims = " and claims that all was done" if pong.values(_CUSTODY[0]) else ""
    raise Failed(f"the Pong comes after {before} of {_BEHIND} answers{claims}")


async def _custody_claimed(stage: Stage) -> str:
    wire = await stage.connect()
    await wire.send(format_message(Code.PING, b"p", [_CUSTODY]))
    if not (await wire.signal(Code.PONG)).values(_CUSTODY[0]):
        raise Absent("the Pong has no Custody")
    return "claimed"


async def _pong(stage: Stage) -> str:
    wire = await stage.connect()
    await wire.send(format_message(Code.PONG, b"nobody"))
    return await still_answers(stage, wire)


async def _release(stage: Stage) -> str:
    block = stage.known()
    wire = await stage.connect()
    query = format_base32_reference(reference_of(block))
    tokens = [wire.token() for _ in range(_BEHIND)]
    gets = [stage.get_bytes(token, query) for token in tokens]
    await wire.send(b"".join(gets) + format_message(Code.RELEASE))
    for token in tokens:
        expect_block(await wire.response(token), block)
    return f"{_BEHIND} answers"


async def _release_ends(stage: Stage) -> str:
    wire = await stage.connect()
    await still_answers(stage, wire)
    await wire.send(format_message(Code.RELEASE))
    await wire.over("a Release")
    return "closed"


async def _closed(wire: Wire, what: str) -> str:
    """That the store closes; whoever sends an Abort does so himself, so it need not."""
    try:
        await wire.over(what)
    except Failed as failed:
        raise Absent(str(failed)) from None
    return "closed"


async def _abort(stage: Stage) -> str:
    wire = await stage.connect()
    await still_answers(stage, wire)
    await wire.send(format_message(Code.ABORT, payload=b"conformance"))
    return await _closed(wire, "an Abort")


async def _abort_busy(stage: Stage) -> str:
    """Nothing is asked of the answers; that others are served is seen after each check."""
    block = stage.known(BlockSize.LARGE)
    wire = await stage.connect()
    query = format_base32_reference(reference_of(block))
    gets = b"".join(stage.get_bytes(wire.token(), query) for _ in range(_BEHIND))
    await wire.send(gets + format_message(Code.ABORT, payload=b"\xff\n"))
    return await _closed(wire, "an Abort behind requests")


_MUST, _SHOULD, _MAY = Level.MUST, Level.SHOULD, Level.MAY
CHECKS: Final = (
    Check("ping", _MUST, "a Ping is answered by a Pong with its token", "RFC 8323, 5.4", _ping),
    Check(
        "ping-elective",
        _MUST,
        "a Ping with an unknown elective option is answered",
        "RFC 8323, 5.4",
        _elective,
    ),
    Check("custody", _MUST, "a Ping with Custody is answered", "RFC 8323, 5.4.1", _custody),
    Check(
        "custody-waits",
        _SHOULD,
        "its Pong comes after the answers to all before it",
        "RFC 8323, 5.4.1",
        _custody_waits,
        True,
    ),
    Check("custody-told", _MAY, "its Pong has Custody", "RFC 8323, 5.4.1", _custody_claimed),
    Check("pong", _MUST, "a Pong that nobody asked for does no harm", "RFC 8323, 5.4", _pong),
    Check("release", _SHOULD, "what came before a Release is answered", "RFC 8323, 5.5", _release),
    Check(
        "release-ends",
        _SHOULD,
        "after a Release the connection is closed",
        "RFC 8323, 5.5",
        _release_ends,
    ),
    Check("abort", _MAY, "after an Abort the connection is closed", "RFC 8323, 5.6", _abort),
    Check(
        "abort-busy",
        _MAY,
        "an Abort behind requests closes it, too",
        "RFC 8323, 5.6",
        _abort_busy,
    ),
)
