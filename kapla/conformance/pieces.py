"""Payloads in pieces: Block1 and Block2, and several KiB at once (BERT)."""

from __future__ import annotations

from typing import Final

from eris.base32 import format_base32_reference
from eris.crypto import reference_of
from eris.model import BlockSize
from kapla.coap.frame import Code, Message, OptionNumber, encode_uint, format_message
from kapla.conformance.expecting import describe, expect, expect_block
from kapla.conformance.model import Absent, Check, Failed, Level
from kapla.conformance.stage import Stage
from kapla.conformance.wire import Wire

__all__ = ["CHECKS", "get_in_pieces"]

_MAX_MESSAGE_SIZE: Final = 2
_BLOCK_WISE: Final = 4
_KIB: Final = 1024
_SZX_1024: Final = 6
_SZX_BERT: Final = 7
_MOST_PIECES: Final = 2048
_BERT_PIECE: Final = 8 * _KIB
# Around which there are a header, a path and a Block1.
_ROOM_FOR_BERT: Final = _BERT_PIECE + 128


def _block(number: int, more: bool, szx: int) -> bytes:
    return encode_uint(number << 4 | more << 3 | szx)


async def get_in_pieces(
    stage: Stage, wire: Wire, block: bytes, szx: int | None
) -> tuple[bytes, int]:
    """Get a block piece by piece; returns what came, and in how many.

    `szx`: the size of pieces asked for, None: the store is to choose.
    Raises: Failed; Absent, if it comes whole where the store may choose.
    """
    query = format_base32_reference(reference_of(block))
    found, count = b"", 0
    while count < _MOST_PIECES:
        more = [] if szx is None else [(OptionNumber.BLOCK2, _block(_at(found, szx), False, szx))]
        answer = await stage.get(wire, query, [(int(n), v) for n, v in more])
        expect(answer, Code.CONTENT)
        count += 1
        told = answer.values(OptionNumber.BLOCK2)
        if not told:
            if count > 1:
                raise Failed("a piece has no Block2")
            return answer.payload, count
        value = int.from_bytes(told[0], "big")
        found += answer.payload
        szx = value & 7
        if not value & 8:
            return found, count
    raise Failed(f"more than {_MOST_PIECES} pieces")


def _at(found: bytes, szx: int) -> int:
    return len(found) // (_KIB if szx == _SZX_BERT else 16 << szx)


async def _announced(wire: Wire, szx: int = 0) -> None:
    """That the store says that it knows pieces, and, for those of several KiB, has room for them.

    Raises: Absent.
    """
    csm = await wire.greeted()
    if not csm.values(_BLOCK_WISE):
        raise Absent("the store does not announce Block-Wise-Transfer")
    size = int.from_bytes(b"".join(csm.values(_MAX_MESSAGE_SIZE)[:1]), "big")
    if szx == _SZX_BERT and size < _ROOM_FOR_BERT:
        raise Absent(f"the store announces a Max-Message-Size of {size} bytes")


async def _get(stage: Stage, szx: int, size: BlockSize) -> str:
    block = stage.known(size)
    wire = await stage.connect()
    await _announced(wire, szx)
    found, count = await get_in_pieces(stage, wire, block, szx)
    if found != block:
        raise Failed(f"the pieces, {len(found)} bytes together, are not the block")
    return f"{count} pieces" if count > 1 else "one piece"


async def _get_1024(stage: Stage) -> str:
    return await _get(stage, _SZX_1024, BlockSize.LARGE)


async def _get_128(stage: Stage) -> str:
    return await _get(stage, 3, BlockSize.SMALL)


async def _get_bert(stage: Stage) -> str:
    return await _get(stage, _SZX_BERT, BlockSize.LARGE)


async def _beyond(stage: Stage) -> str:
    block = stage.known()
    wire = await stage.connect()
    await _announced(wire)
    query = format_base32_reference(reference_of(block))
    far = (int(OptionNumber.BLOCK2), _block(77, False, _SZX_1024))
    return expect(await stage.get(wire, query, [far]), Code.BAD_REQUEST)


async def _put(stage: Stage, szx: int, step: int, size: int) -> str:
    block = stage.fresh(size)
    wire = await stage.connect()
    await _announced(wire, szx)
    unit = _KIB if szx == _SZX_BERT else 16 << szx
    for at in range(0, size, step):
        more = at + step < size
        answer = await _send_piece(
            stage, wire, block[at : at + step], _block(at // unit, more, szx)
        )
        expect(answer, Code.CONTINUE if more else Code.CREATED)
    query = format_base32_reference(reference_of(block))
    expect_block(await stage.get(wire, query), block)
    return f"{-(-size // step)} pieces"


async def _send_piece(stage: Stage, wire: Wire, piece: bytes, block1: bytes) -> Message:
    return await stage.put(wire, piece, [(int(OptionNumber.BLOCK1), block1)])


async def _put_1024(stage: Stage) -> str:
    return await _put(stage, _SZX_1024, _KIB, 32 * _KIB)


async def _put_256(stage: Stage) -> str:
    return await _put(stage, 4, 256, _KIB)


async def _put_bert(stage: Stage) -> str:
    return await _put(stage, _SZX_BERT, _BERT_PIECE, 32 * _KIB)


async def _gap(stage: Stage) -> str:
    block = stage.fresh(32 * _KIB)
    wire = await stage.connect()
    await _announced(wire)
    expect(await _send_piece(stage, wire, block[:_KIB], _block(0, True, _SZX_1024)), Code.CONTINUE)
    answer = await _send_piece(stage, wire, block[-_KIB:], _block(31, False, _SZX_1024))
    return expect(answer, Code.REQUEST_ENTITY_INCOMPLETE)


async def _unfinished(stage: Stage) -> str:
    """Two payloads are begun at once on two connections, neither is mixed with the other."""
    blocks = [stage.fresh(2 * _KIB // 2) for _ in range(2)]
    wires = [await stage.connect() for _ in blocks]
    await _announced(wires[0])
    for number in range(4):
        for wire, block in zip(wires, blocks, strict=True):
            piece = block[number * 256 : (number + 1) * 256]
            answer = await _send_piece(stage, wire, piece, _block(number, number < 3, 4))
            expect(answer, Code.CONTINUE if number < 3 else Code.CREATED)
    for wire, block in zip(wires, blocks, strict=True):
        expect_block(await stage.get(wire, format_base32_reference(reference_of(block))), block)
    return "both stored"


async def _too_long(stage: Stage) -> str:
    wire = await stage.connect()
    await _announced(wire)
    piece, token = bytes(_KIB), b""
    answer = None
    for number in range(33):
        token = wire.token()
        options = [*stage.path, (int(OptionNumber.BLOCK1), _block(number, number < 32, _SZX_1024))]
        await wire.send(format_message(Code.PUT, token, options, piece))
        answer = await wire.response(token)
        if answer.code != Code.CONTINUE:
            break
    assert answer is not None
    if answer.code < Code.BAD_REQUEST:
        raise Failed(f"answered {describe(answer)} to 33 KiB")
    return describe(answer)


_MUST, _SHOULD, _MAY = Level.MUST, Level.SHOULD, Level.MAY
CHECKS: Final = (
    Check("get", _MUST, "32 KiB come in pieces of 1024 bytes", "RFC 7959, 2.4", _get_1024),
    Check("get-small", _MUST, "1 KiB comes in pieces of 128 bytes", "RFC 7959, 2.4", _get_128),
    Check("get-bert", _SHOULD, "32 KiB come in pieces of several KiB", "RFC 8323, 6", _get_bert),
    Check("beyond", _SHOULD, "a piece behind the end is 4.00", "RFC 7959, 2.4", _beyond),
    Check(
        "put", _MUST, "32 KiB are taken in pieces of 1024 bytes", "RFC 7959, 2.5", _put_1024, True
    ),
    Check(
        "put-small", _MUST, "1 KiB is taken in pieces of 256 bytes", "RFC 7959, 2.5", _put_256, True
    ),
    Check("put-bert", _MUST, "32 KiB are taken in pieces of 8 KiB", "RFC 8323, 6", _put_bert, True),
    Check("gap", _MUST, "a missing piece is 4.08", "RFC 7959, 2.9.2", _gap, True),
    Check("two", _MUST, "pieces of two peers are kept apart", "RFC 7959, 2.5", _unfinished, True),
    Check("too-long", _MUST, "pieces of 33 KiB are no block", "ERIS over CoAP", _too_long, True),
)
