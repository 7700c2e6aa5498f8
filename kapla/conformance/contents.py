"""Contents there and back: the official vectors, and every length at which something changes."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from eris.base32 import format_base32_reference
from eris.capability import ReadCapability
from eris.crypto import reference_of
from eris.decode import decode
from eris.encode import encode
from eris.errors import ContentError
from eris.model import BlockSize, Reference
from kapla.coap.frame import Code
from kapla.conformance.expecting import expect, expect_block
from kapla.conformance.model import Check, Failed, Level
from kapla.conformance.stage import Stage
from kapla.conformance.vectors import NUMBERS, read_vector

__all__ = ["CHECKS"]

_KIB: Final = 1024
_EDGES: Final = {
    BlockSize.SMALL: (0, _KIB, 2 * _KIB, 15 * _KIB, 16 * _KIB),
    BlockSize.LARGE: (0, 16 * _KIB, 32 * _KIB, 64 * _KIB),
}
"""Contents of these lengths, of one byte more and of one less: the ends of leaves and of nodes."""


def _lengths(size: BlockSize) -> list[int]:
    around = {edge + by for edge in _EDGES[size] for by in (-1, 0, 1)}
    return sorted(length for length in around if length >= 0)


async def _put_and_get(stage: Stage, blocks: Mapping[Reference, bytes]) -> dict[Reference, bytes]:
    """Put all blocks on one connection, then get all on another; returns what came."""
    wire, other = await stage.connect(), await stage.connect()
    puts = [(wire.token(), block) for block in blocks.values()]
    for token, block in puts:
        await wire.send(stage.put_bytes(token, block))
    for token, _ in puts:
        expect(await wire.response(token), Code.CREATED, Code.CHANGED)
    gets = [(other.token(), reference) for reference in blocks]
    for token, reference in gets:
        await other.send(stage.get_bytes(token, format_base32_reference(reference)))
    found: dict[Reference, bytes] = {}
    for token, reference in gets:
        answer = await other.response(token)
        expect_block(answer, blocks[reference])
        found[reference_of(answer.payload)] = answer.payload
    return found


def _decoded(capability: ReadCapability, blocks: Mapping[Reference, bytes], content: bytes) -> None:
    try:
        is_same = decode(capability, blocks) == content
    except ContentError as error:
        raise Failed(f"a content of {len(content)} bytes: {error}") from None
    if not is_same:
        raise Failed(f"a content of {len(content)} bytes came back as another one")


def _vector(number: int) -> Callable[[Stage], Awaitable[str]]:
    async def check(stage: Stage) -> str:
        vector = read_vector(number)
        found = await _put_and_get(stage, vector.blocks)
        _decoded(ReadCapability.from_urn(vector.urn), found, vector.content)
        return f"{len(vector.blocks)} blocks" if len(vector.blocks) > 1 else "one block"

    return check


def _tails(size: BlockSize) -> Callable[[Stage], Awaitable[str]]:
    async def check(stage: Stage) -> str:
        for length in _lengths(size):
            # Always the same ones, so that a store that is checked again does not grow for it.
            content = random.Random(length).randbytes(length)
            capability, blocks = encode(content, block_size=size)
            _decoded(capability, await _put_and_get(stage, blocks), content)
        return f"{len(_lengths(size))} lengths, to {_lengths(size)[-1]:,} bytes"

    return check


CHECKS: Final = (
    *(
        Check(
            f"vector-{number:02d}",
            Level.MUST,
            f"official vector {number}: {what}",
            "ERIS 1.0.0",
            _vector(number),
            True,
        )
        for number, what in NUMBERS.items()
    ),
    *(
        Check(
            f"tails-{size.label}",
            Level.MUST,
            f"contents around every boundary, in blocks of {size.label}",
            "ERIS 1.0.0",
            _tails(size),
            True,
        )
        for size in BlockSize
    ),
)
