"""Blocks are put and got, and nothing else is."""

from __future__ import annotations

import os
from typing import Final

from eris.base32 import format_base32_reference
from eris.crypto import reference_of
from eris.model import REFERENCE_SIZE, BlockSize
from kapla.coap.frame import Code, Message, OptionNumber, encode_uint
from kapla.conformance.expecting import describe, expect, expect_block, expect_error
from kapla.conformance.model import Check, Failed, Level, format_code
from kapla.conformance.stage import Stage
from kapla.conformance.wire import Wire

__all__ = ["CHECKS"]

_WRONG_SIZES: Final = (0, 5, 1023, 1025, 2048, 32767, 32769)
_FIRST_ERROR: Final = 0x80


def _query(block: bytes) -> bytes:
    return format_base32_reference(reference_of(block))


async def _there_and_back(stage: Stage, size: BlockSize) -> str:
    block = stage.fresh(size)
    wire = await stage.connect()
    answer = await stage.put(wire, block)
    if answer.code >= _FIRST_ERROR:
        raise Failed(f"the PUT is answered {describe(answer)}")
    other = await stage.connect()
    expect_block(await stage.get(other, _query(block)), block)
    return format_code(answer.code)


async def _small(stage: Stage) -> str:
    return await _there_and_back(stage, BlockSize.SMALL)


async def _large(stage: Stage) -> str:
    return await _there_and_back(stage, BlockSize.LARGE)


async def _created(stage: Stage) -> str:
    wire = await stage.connect()
    return expect(await stage.put(wire, stage.fresh(BlockSize.SMALL)), Code.CREATED)


async def _again(stage: Stage) -> str:
    block = stage.known()
    wire = await stage.connect()
    answers = [await stage.put(wire, block) for _ in range(2)]
    for answer in answers:
        if answer.code >= _FIRST_ERROR:
            raise Failed(f"answered {describe(answer)}")
    expect_block(await stage.get(wire, _query(block)), block)
    return describe(answers[-1])


async def _again_created(stage: Stage) -> str:
    wire = await stage.connect()
    return expect(await stage.put(wire, stage.known()), Code.CREATED)


async def _get(stage: Stage) -> str:
    wire = await stage.connect()
    for size in BlockSize:
        block = stage.known(size)
        size1 = (int(OptionNumber.SIZE1), encode_uint(size))
        expect_block(await stage.get(wire, _query(block), [size1]), block)
    return "both sizes"


async def _without_size(stage: Stage) -> str:
    wire = await stage.connect()
    for size in BlockSize:
        block = stage.known(size)
        expect_block(await stage.get(wire, _query(block)), block)
    return "both sizes"


async def _missing(stage: Stage) -> str:
    wire = await stage.connect()
    query = format_base32_reference(os.urandom(REFERENCE_SIZE))
    return expect(await stage.get(wire, query), Code.NOT_FOUND)


async def _after_missing(stage: Stage) -> str:
    block = stage.fresh(BlockSize.SMALL)
    wire = await stage.connect()
    expect(await stage.get(wire, _query(block)), Code.NOT_FOUND)
    await stage.put(wire, block)
    return expect_block(await stage.get(wire, _query(block)), block)


async def _put_wrong(stage: Stage, wire: Wire, size: int) -> Message:
    block = stage.fresh(size)
    answer = await stage.put(wire, block)
    stage.written -= size
    if (await stage.get(wire, _query(block))).code == Code.CONTENT:
        raise Failed(f"{size} bytes were stored")
    return answer


async def _wrong_sizes(stage: Stage) -> str:
    wire = await stage.connect()
    for size in _WRONG_SIZES:
        answer = await _put_wrong(stage, wire, size)
        if answer.code < _FIRST_ERROR:
            raise Failed(f"{size} bytes are answered {describe(answer)}")
    return expect_error(answer)


async def _wrong_sizes_told(stage: Stage) -> str:
    wire = await stage.connect()
    for size in _WRONG_SIZES:
        expect(await _put_wrong(stage, wire, size), Code.BAD_REQUEST)
    return "4.00"


async def _wrong_name(stage: Stage) -> str:
    """A PUT that names another block: what it brings must not be found under that name."""
    block, wrong = stage.fresh(BlockSize.SMALL), os.urandom(REFERENCE_SIZE)
    wire = await stage.connect()
    name = (int(OptionNumber.URI_QUERY), format_base32_reference(wrong))
    put = await stage.put(wire, block, [name])
    answer = await stage.get(wire, name[1])
    if answer.code == Code.CONTENT:
        raise Failed(f"the PUT is answered {describe(put)}, and the block given under the name")
    return f"the PUT is answered {describe(put)}, a GET of the name {describe(answer)}"


_MUST, _SHOULD = Level.MUST, Level.SHOULD
_EER: Final = "ERIS over CoAP"
CHECKS: Final = (
    Check("small", _MUST, "1 KiB is stored and given to another", _EER, _small, True),
    Check("large", _MUST, "32 KiB are stored and given to another", _EER, _large, True),
    Check("created", _MUST, "a PUT is answered 2.01: some take nothing else", _EER, _created, True),
    Check("again", _MUST, "a block may be put again", _EER, _again, True),
    Check(
        "again-created",
        _SHOULD,
        "a block that is put again is 2.01, too",
        "as python-eris asks",
        _again_created,
        True,
    ),
    Check("get", _MUST, "blocks are given with Size1 in the request", _EER, _get),
    Check("without-size", _SHOULD, "blocks are given without Size1", _EER, _without_size),
    Check("missing", _MUST, "a block that is not there is 4.04", _EER, _missing),
    Check(
        "after-missing",
        _MUST,
        "a block that was missing is given once it is put",
        _EER,
        _after_missing,
        True,
    ),
    Check(
        "wrong-sizes", _MUST, "other sizes are refused, and not stored", _EER, _wrong_sizes, True
    ),
    Check("wrong-sizes-told", _SHOULD, "other sizes are 4.00", _EER, _wrong_sizes_told, True),
    Check(
        "wrong-name", _MUST, "a block is found under no name but its own", _EER, _wrong_name, True
    ),
)
