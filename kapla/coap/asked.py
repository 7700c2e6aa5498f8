"""One request that is not answered yet, and what its answer means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, cast

from eris.errors import CorruptBlock, ErisError, StoreUnavailable
from kapla.coap.blocks import BLOCK_SIZES, LENT_BEFORE_BLOCK, error_of_code
from kapla.coap.frame import Code, MalformedMessage, OptionNumber, parse_body

__all__ = ["ANY_ANSWER", "ANY_BLOCK", "Asked", "failed", "make_asked", "outcome_of", "plain_block"]

ANY_ANSWER: Final = -2
"""In the place of a block's size: whatever the answer is, its code and payload are the result. No
payload has this length, nor does what stands between two others."""
ANY_BLOCK: Final = -3
"""Likewise: a block of either size is the result, with whether it may be given on."""


class Asked(NamedTuple):
    """A request that is not answered yet."""

    future: asyncio.Future[Any]
    code: int
    body: bytes
    reference: bytes
    size: int
    """The size of the block that is wanted; 0 for other requests; or one of those above."""
    weight: int
    """Bytes on the wire: those of the request, and of the block that is wanted."""
    make: Callable[[bytes, bool], Any] | None
    """What becomes of a block of either size, and of whether it may be given on."""
    may_be_repeated: bool
    """Of a POST: it does the same if it is done twice."""


# Half the time of the constructor: one is made for each request.
make_asked: Final = cast(
    Callable[
        [tuple[Any, int, bytes, bytes, int, int, Callable[[bytes, bool], Any] | None, bool]], Asked
    ],
    partial(tuple.__new__, Asked),
)


def failed(error: ErisError) -> asyncio.Future[Any]:
    """What stands for a request that is not even asked."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future


def plain_block(pending: Asked, buffer: bytes, start: int, stop: int) -> Any:
    """What becomes of a block, marked as lent or not, if that is all there is; else None."""
    assert pending.make is not None
    if stop - start - 1 in BLOCK_SIZES and buffer[start] == 0xFF:
        return pending.make(buffer[start + 1 : stop], False)
    begin = start + len(LENT_BEFORE_BLOCK)
    if stop - begin in BLOCK_SIZES and buffer.startswith(LENT_BEFORE_BLOCK, start):
        return pending.make(buffer[begin:stop], True)
    return None


def outcome_of(code: int, pending: Asked, buffer: bytes, start: int, stop: int) -> Any:
    """What a response that is not a plain block means: a result, or an error."""
    try:
        options, payload = parse_body(buffer, start, stop)
    except MalformedMessage as error:
        return StoreUnavailable(f"the store sent a malformed answer: {error}")
    if code == Code.CONTENT and any(number == OptionNumber.BLOCK2 for number, _ in options):
        return StoreUnavailable("the store sent an answer in pieces, though it was told not to")
    if pending.size == ANY_ANSWER:
        return code, payload
    if code == Code.CONTENT and pending.size == ANY_BLOCK:
        if len(payload) not in BLOCK_SIZES:
            return CorruptBlock(pending.reference, size=len(payload), expected_size=1024)
        assert pending.make is not None
        return pending.make(payload, any(number == OptionNumber.LENT for number, _ in options))
    if code == Code.CONTENT:
        if pending.size and len(payload) != pending.size:
            return CorruptBlock(pending.reference, size=len(payload), expected_size=pending.size)
        return payload
    if code in (Code.CREATED, Code.CHANGED) and not pending.size:
        return None
    is_get = pending.size > 0 or pending.size == ANY_BLOCK
    return error_of_code(code, pending.reference, payload, is_get=is_get)
