"""What Kapla adds to ERIS over CoAP, where a store has it: docs/wire.md tells of each."""

from __future__ import annotations

import json
import os
from typing import Final

from eris.base32 import format_base32_reference
from eris.crypto import reference_of
from eris.model import REFERENCE_SIZE
from kapla.coap.blocks import MAX_FETCHED, ORIGIN_PATH, STAT_PATH, unpack_bitmap
from kapla.coap.frame import Code, Message, Option, OptionNumber
from kapla.conformance.expecting import describe, expect, expect_block
from kapla.conformance.model import Absent, Check, Failed, Level
from kapla.conformance.stage import Stage

__all__ = ["CHECKS"]

_UNKNOWN: Final = (Code.NOT_FOUND, Code.METHOD_NOT_ALLOWED)
_HOP_LIMIT: Final = int(OptionNumber.HOP_LIMIT)


def _there(answer: Message) -> Message:
    """The answer of a store that has the extension. Raises: Absent, for one that has not."""
    if answer.code in _UNKNOWN:
        raise Absent(f"answered {describe(answer)}")
    return answer


async def _fetch(stage: Stage, payload: bytes) -> Message:
    wire = await stage.connect()
    return _there(await stage.ask(wire, Code.FETCH, stage.path, payload))


async def _bitmap(stage: Stage) -> str:
    known = reference_of(stage.known())
    references = [os.urandom(REFERENCE_SIZE) for _ in range(9)]
    references[3] = references[8] = known
    answer = await _fetch(stage, b"".join(references))
    expect(answer, Code.CONTENT)
    try:
        found = unpack_bitmap(answer.payload, len(references))
    except ValueError as error:
        raise Failed(str(error)) from None
    if found != [reference == known for reference in references]:
        raise Failed(f"the bitmap is {answer.payload.hex()}")
    return f"the bitmap {answer.payload.hex()}"


async def _limits(stage: Stage) -> str:
    for length in (0, 31, REFERENCE_SIZE * (MAX_FETCHED + 1)):
        told = expect(await _fetch(stage, bytes(length)), Code.BAD_REQUEST)
    return told


async def _most(stage: Stage) -> str:
    answer = await _fetch(stage, os.urandom(REFERENCE_SIZE * MAX_FETCHED))
    expect(answer, Code.CONTENT)
    if any(answer.payload) or len(answer.payload) != MAX_FETCHED // 8:
        raise Failed("the bitmap is not of 1024 blocks that are missing")
    return describe(answer)


async def _hops(stage: Stage) -> str:
    block = stage.known()
    wire = await stage.connect()
    query = format_base32_reference(reference_of(block))
    expect_block(await stage.get(wire, query, [(_HOP_LIMIT, b"\x01")]), block)
    answer = await stage.get(wire, query, [(_HOP_LIMIT, b"\0")])
    if answer.code == Code.CONTENT:
        raise Absent("a Hop-Limit of 0 is passed over")
    return expect(answer, Code.BAD_REQUEST)


async def _facts(stage: Stage, path: tuple[str, ...], key: str) -> str:
    wire = await stage.connect()
    options: list[Option] = [(11, part.encode()) for part in path]
    answer = _there(await stage.ask(wire, Code.GET, options))
    if answer.code == Code.FORBIDDEN:
        return describe(answer)
    expect(answer, Code.CONTENT)
    try:
        facts = json.loads(answer.payload)
    except ValueError:
        raise Failed("the answer is no JSON") from None
    if not isinstance(facts, dict) or key not in facts:
        raise Failed(f"the answer does not have {key}")
    return describe(answer)


async def _origin(stage: Stage) -> str:
    return await _facts(stage, ORIGIN_PATH, "here")


async def _stat(stage: Stage) -> str:
    return await _facts(stage, STAT_PATH, "blocks")


async def _list(stage: Stage) -> str:
    wire = await stage.connect()
    path = [*stage.path[:-1], (11, b"list")]
    answer = _there(await stage.ask(wire, Code.GET, path))
    if answer.code == Code.FORBIDDEN:
        return describe(answer)
    expect(answer, Code.CONTENT)
    if answer.payload and len(answer.payload) % REFERENCE_SIZE != 8:
        raise Failed(f"a page of {len(answer.payload)} bytes")
    return describe(answer)


_OWN: Final = Level.OWN
_WIRE: Final = "docs/wire.md"
CHECKS: Final = (
    Check("fetch", _OWN, "a FETCH tells which blocks are there", _WIRE, _bitmap),
    Check("fetch-most", _OWN, "a FETCH asks of 1024 blocks at once", _WIRE, _most),
    Check(
        "fetch-limits", _OWN, "a FETCH of none, of 1025, or of part of one is 4.00", _WIRE, _limits
    ),
    Check("hop-limit", _OWN, "a Hop-Limit of 0 is 4.00", "RFC 8768, 3", _hops),
    Check("origin", _OWN, "a connection is told where blocks came from", _WIRE, _origin),
    Check("stat", _OWN, "the store tells what it holds, or that it may not", _WIRE, _stat),
    Check("list", _OWN, "the store tells which blocks it has, or that it may not", _WIRE, _list),
)
