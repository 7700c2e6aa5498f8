"""Resources whose payloads may come and go in pieces (RFC 7959: Block1, Block2), with limits.

Pieces are kept by the connection and die with it. What is asked in pieces is made anew for each.

aiocoap is loosely typed; the casts this needs stay where it is used.
"""

from __future__ import annotations

from typing import Any, Final

import aiocoap
import aiocoap.error
import aiocoap.resource
from aiocoap.blockwise import ContinueException, IncompleteException
from aiocoap.message import Direction

from kapla.coap.frame import Code

__all__ = ["FRAGMENT_EXPONENT", "MAX_ASSEMBLED", "Fragmenting", "accepts", "respond"]

MAX_ASSEMBLED: Final = 32768
"""The largest payload that is put together: one block, or a FETCH of a thousand references."""
# Payloads one connection may have begun and not finished.
_MAX_ASSEMBLIES: Final = 4
FRAGMENT_EXPONENT: Final = 6
"""Of pieces of 1024 bytes."""


class Fragmenting(aiocoap.resource.Resource):  # type: ignore[misc]
    """A resource whose requests and responses may come and go in pieces (RFC 7959)."""

    async def render_to_pipe(self, pipe: Any) -> None:
        """Put the request together, answer it, cut the response."""
        request = pipe.request
        whole = _assemble(request)
        response = await self.render(whole)
        if request.opt.block1 is not None:
            response.opt.block1 = request.opt.block1
        pipe.add_response(_fragment(request, response), is_last=True)


def _assemble(request: Any) -> Any:
    """Collect a payload that comes in Block1 pieces, in order.

    Raises: ContinueException until it is whole; IncompleteException on a gap; 4.13 over the limit.
    """
    piece = request.opt.block1
    if piece is None:
        return request
    assemblies = request.remote.assemblies
    key = (request.code, request.opt.uri_path, request.opt.uri_query)
    if piece.start == 0:
        if key not in assemblies and len(assemblies) >= _MAX_ASSEMBLIES:
            raise _TooManyTransfers
        assemblies[key] = bytearray()
    collected = assemblies.get(key)
    if collected is None or len(collected) != piece.start:
        assemblies.pop(key, None)
        raise IncompleteException
    if len(collected) + len(request.payload) > MAX_ASSEMBLED:
        del assemblies[key]
        raise aiocoap.error.RequestEntityTooLarge
    collected += request.payload
    if piece.more:
        raise ContinueException(piece)
    del assemblies[key]
    whole = request.copy(payload=bytes(collected), block1=None)
    whole.direction = Direction.INCOMING
    whole.remote = request.remote
    return whole


def _fragment(request: Any, response: Any) -> Any:
    """Cut out the piece of a response that was asked for, or the first if it is too long."""
    asked, most = request.opt.block2, request.remote.fragment_exponent
    size = len(response.payload)
    if not response.code.is_successful():
        return response
    if asked is None:
        if size <= request.remote.maximum_payload_size:
            return response
        number, exponent = 0, most
    else:
        number, exponent = asked.block_number, min(asked.size_exponent, most)
    length = 1 << exponent + 4
    start = number * length
    if start and start >= size:
        raise aiocoap.error.BadRequest
    more = start + length < size
    response.payload = response.payload[start : start + length]
    response.opt.block2 = (number, more, exponent)
    response.opt.size2 = size
    return response


class _TooManyTransfers(aiocoap.error.RenderableError):  # type: ignore[misc]
    def to_message(self) -> Any:
        return respond(Code.SERVICE_UNAVAILABLE, b"too many payloads in pieces at once")


def respond(code: int, payload: bytes = b"") -> Any:
    """A response."""
    return aiocoap.Message(code=aiocoap.Code(code), payload=payload)


def accepts(request: Any, content_format: int) -> bool:
    """Whether the peer takes an answer in this format."""
    return request.opt.accept is None or int(request.opt.accept) == content_format
