"""The aiocoap lane: every request that the fast lane does not recognise.

aiocoap brings its resources, discovery and option types; the transports are ours, so a request is
handed to its `Site` with a stand-in for its remote. Payloads in pieces (Block1, Block2) are put
together and cut here, with limits: pieces are kept by the connection and die with it, and what is
asked in pieces is fetched anew for each, since blocks never change.

aiocoap is loosely typed; the casts this needs stay in this file.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiocoap
import aiocoap.error
import aiocoap.resource
from aiocoap.blockwise import ContinueException, IncompleteException
from aiocoap.message import Direction
from aiocoap.numbers import ContentFormat

from eris.crypto import reference_of
from eris.errors import ErisError
from kapla.coap.blocks import (
    BLOCK_SIZES,
    BLOCKS_PATHS,
    STAT_PATH,
    BadRequest,
    code_of_error,
    diagnostic,
    pack_bitmap,
    parse_block_query,
    split_references,
)
from kapla.coap.caller import NOBODY, Caller
from kapla.coap.connection import Connection
from kapla.coap.frame import Code, Frame, OptionNumber, encode_options, format_frame, format_message
from kapla.coap.request import Rejected, Request, read_request
from kapla.storage.access import BlockAccess, Wanted, always

__all__ = ["AiocoapLane", "Remote"]

_log = logging.getLogger(__name__)

# The largest payload that is put together: one block, or a FETCH of a thousand references.
_MAX_ASSEMBLED: Final = 32768
# Payloads one connection may have begun and not finished.
_MAX_ASSEMBLIES: Final = 4
_FRAGMENT_EXPONENT: Final = 6  # 1024 bytes
# RFC 6690 section 4.1; a filter on anything else is passed over.
_LINK_FILTERS: Final = ("href=", "rt=", "ct=")


class Remote:
    """The peer of one connection, as aiocoap's resources want to see it."""

    scheme = "coap+tcp"
    is_multicast = False
    is_multicast_locally = False
    hostinfo = "client"
    hostinfo_local = "server"
    uri_base = "coap+tcp://client"
    uri_base_local = "coap+tcp://server"
    authenticated_claims: tuple[str, ...] = ()
    maximum_block_size_exp = _FRAGMENT_EXPONENT

    def __init__(self, connection: Connection, is_there: Wanted = always) -> None:
        self._connection = connection
        self.is_there = is_there
        self.caller: Caller = NOBODY
        """Who it is: known once the connection is made."""
        self.assemblies: dict[object, bytearray] = {}

    @property
    def blockwise_key(self) -> int:
        """What tells the transfers of this peer from those of others."""
        return id(self)

    @property
    def maximum_payload_size(self) -> int:
        """The longest payload that may go in one message."""
        if self._connection.takes_whole_blocks:
            return _MAX_ASSEMBLED
        return 1024


class AiocoapLane:
    """Answers any request about the blocks that one listener gives access to."""

    def __init__(
        self, access: BlockAccess, report: Callable[[], Awaitable[dict[str, object]]]
    ) -> None:
        self._access = access
        self._site = aiocoap.resource.Site()
        blocks = _Blocks(access)
        for path in BLOCKS_PATHS:
            self._site.add_resource(list(path), blocks)
        self._site.add_resource(list(STAT_PATH), _Stat(access, report))
        self._site.add_resource(
            [".well-known", "core"],
            _Core(self._site.get_resources_as_linkheader, impl_info=None),
        )

    async def answer(self, frame: Frame, remote: Remote) -> bytes:
        """Answer one request; returns the bytes of the response."""
        token = frame[1]
        try:
            request = read_request(frame)
        except Rejected as rejected:
            self._access.statistics.other += 1
            return format_message(rejected.code, token, payload=rejected.diagnostic.encode())
        if not _asks_for_a_block(request):
            # The others are counted where the rights are checked, whichever lane they came by.
            self._access.statistics.other += 1
        try:
            response = await self._render(request, remote)
        except aiocoap.error.RenderableError as error:
            response = error.to_message()
        except ErisError as error:
            return format_message(code_of_error(error), token, payload=diagnostic(error))
        except Exception:
            # One request must not take the connection, let alone the daemon, with it.
            _log.exception("A request failed")
            return format_message(Code.INTERNAL_SERVER_ERROR, token)
        body = response.opt.encode()
        if response.payload:
            body += b"\xff" + response.payload
        return format_frame(int(response.code), token, body)

    async def _render(self, request: Request, remote: Remote) -> Any:
        message = aiocoap.Message(code=aiocoap.Code(request.code), payload=request.payload)
        message.opt.decode(encode_options(request.options))
        message.direction = Direction.INCOMING
        message.remote = remote
        pipe = _Pipe(message)
        await self._site.render_to_pipe(pipe)
        return pipe.response


def _asks_for_a_block(request: Request) -> bool:
    path = tuple(v.decode() for number, v in request.options if number == OptionNumber.URI_PATH)
    return path in BLOCKS_PATHS and request.code in (Code.GET, Code.PUT)


class _Pipe:
    """What a site needs of aiocoap's `Pipe`: a request, and a place for the response."""

    def __init__(self, request: Any) -> None:
        self.request = request
        self.response: Any = None

    def add_response(self, response: Any, is_last: bool = False) -> None:
        self.response = response


class _Fragmenting(aiocoap.resource.Resource):  # type: ignore[misc]
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
    if len(collected) + len(request.payload) > _MAX_ASSEMBLED:
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
    asked = request.opt.block2
    size = len(response.payload)
    if not response.code.is_successful():
        return response
    if asked is None:
        if size <= request.remote.maximum_payload_size:
            return response
        number, exponent = 0, _FRAGMENT_EXPONENT
    else:
        number, exponent = asked.block_number, min(asked.size_exponent, _FRAGMENT_EXPONENT)
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
        return _message(Code.SERVICE_UNAVAILABLE, b"too many payloads in pieces at once")


def _message(code: int, payload: bytes = b"") -> Any:
    return aiocoap.Message(code=aiocoap.Code(code), payload=payload)


def _accepts(request: Any, content_format: int) -> bool:
    return request.opt.accept is None or int(request.opt.accept) == content_format


class _Blocks(_Fragmenting):
    """GET and PUT of blocks, one at a time."""

    rt = "eris.blocks"

    def __init__(self, access: BlockAccess) -> None:
        super().__init__()
        self._access = access

    async def render_get(self, request: Any) -> Any:
        """Give a block."""
        if not _accepts(request, ContentFormat.OCTETSTREAM):
            return _message(Code.NOT_ACCEPTABLE)
        queries = request.opt.uri_query
        try:
            if len(queries) != 1:
                raise BadRequest(f"{len(queries)} queries instead of one reference")
            block = await self._access.fetch(
                parse_block_query(queries[0].encode()), request.remote.is_there
            )
        except BadRequest as error:
            return _message(Code.BAD_REQUEST, str(error).encode())
        except ErisError as error:
            return _message(code_of_error(error), diagnostic(error))
        if len(block) not in BLOCK_SIZES:  # damage, which counts as not there
            return _message(Code.NOT_FOUND)
        return _message(Code.CONTENT, block)

    async def render_fetch(self, request: Any) -> Any:
        """Tell which of many blocks are there."""
        try:
            references = split_references(request.payload)
            present = await self._access.find(references, request.remote.is_there)
        except BadRequest as error:
            return _message(Code.BAD_REQUEST, str(error).encode())
        except ErisError as error:
            return _message(code_of_error(error), diagnostic(error))
        return _message(Code.CONTENT, pack_bitmap(present))

    async def render_put(self, request: Any) -> Any:
        """Take a block."""
        block = request.payload
        if len(block) not in BLOCK_SIZES:
            if not self._access.rights.put:
                # So that clients can ask with a PUT of nothing whether they may.
                return _message(Code.FORBIDDEN, b"this store is read-only here")
            text = f"{len(block)} bytes: a block has 1024 or 32768"
            return _message(Code.BAD_REQUEST, text.encode())
        try:
            await self._access.put(reference_of(block), block, request.remote.is_there)
        except ErisError as error:
            return _message(code_of_error(error), diagnostic(error))
        return _message(Code.CREATED)


class _Stat(_Fragmenting):
    """What the daemon holds."""

    def __init__(
        self, access: BlockAccess, report: Callable[[], Awaitable[dict[str, object]]]
    ) -> None:
        super().__init__()
        self._access = access
        self._report = report

    def get_link_description(self) -> dict[str, str] | None:
        """Shown in discovery only to those who may ask."""
        return {"ct": "50"} if self._access.rights.stat else None

    async def render_get(self, request: Any) -> Any:
        """Give the report."""
        if not self._access.rights.stat:
            return _message(Code.FORBIDDEN, b"not told to peers of this listener")
        if not _accepts(request, ContentFormat.JSON):
            return _message(Code.NOT_ACCEPTABLE)
        message = _message(Code.CONTENT, json.dumps(await self._report()).encode())
        message.opt.content_format = ContentFormat.JSON
        return message


class _Core(_Fragmenting, aiocoap.resource.WKCResource):  # type: ignore[misc]
    """Discovery: `/.well-known/core`."""

    async def render_get(self, request: Any) -> Any:
        """Give the list, filtered by what resources have here.

        aiocoap would look up whatever name a query has as an attribute of its own objects.
        """
        queries = request.opt.uri_query
        request.opt.uri_query = [q for q in queries if q.startswith(_LINK_FILTERS)]
        return await super().render_get(request)
