"""Answers requests for blocks: those that are lent, and those of seeds, to anybody.

Blocks of a batch are looked up in parts, and written as they come and as the client takes them, so
that one part is all that is kept: a megabyte where many are connected. It is handed on in pieces,
since what writes a piece holds it once more, or twice, until it is taken. Whether there is a block
costs what it costs by CoAP, and what is not lent is not there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from aiohttp import HttpVersion11, hdrs, web

from eris.errors import ErisError
from eris.model import Reference
from kapla.coap.beyond import Reach, cost_of_seeds_s
from kapla.http.door.headers import (
    FOR_ALL,
    TEXT,
    names_tag,
    of_batch,
    of_block,
    of_preflight,
    tag_of,
)
from kapla.http.door.routes import (
    Batch,
    BlockOf,
    Home,
    Malformed,
    NoPath,
    Route,
    methods_of,
    parse_target,
)
from kapla.http.door.seeded import Looked, with_seeds
from kapla.http.serving.connection import SERVER_NAME
from kapla.http.turns.connection import PacedConnection
from kapla.http.wire.batch import (
    BATCH_PATH,
    MAX_BODY,
    MAX_REFERENCES,
    InvalidBatch,
    format_entries,
    parse_request,
)
from kapla.http.wire.n2r import N2R_PATH
from kapla.storage.access import BlockAccess

__all__ = ["Answering"]

_log = logging.getLogger(__name__)

_FIRST_PART: Final = 32
"""Blocks of a batch that are looked up first, so that the answer begins soon."""
_BODY_S: Final = 30.0
"""For the body of a batch to come, which fits into six packets."""

_HOME: Final = (
    "This is a store of ERIS blocks. Blocks are ciphertext; what is lent is given to anybody.\n"
    "\n"
    f"GET  {N2R_PATH}?urn:blake2b:<52 letters>\n"
    "     a block\n"
    "GET  /ipfs/<cid>?format=raw\n"
    "     a block, by its CID: raw bytes, blake2b-256\n"
    f"POST {BATCH_PATH}\n"
    f"     1 to {MAX_REFERENCES} references of 32 bytes: for each 01 and the block, or 00\n"
)


class Answering:
    """Answers what comes by one door. `access` lends, and nothing else; `reach` has the seeds."""

    def __init__(self, access: BlockAccess, reach: Reach | None = None) -> None:
        self._access = access
        self._reach = reach

    async def __call__(
        self, request: web.BaseRequest, connection: PacedConnection
    ) -> web.StreamResponse:
        """The answer to a request, whatever it is.

        Raises: ErisError, if it fails on its way; ConnectionError.
        """
        try:
            route = self._route(request)
            match route:
                case BlockOf():
                    return await self._block(request, route, connection)
                case Batch():
                    return await self._batch(request, connection)
            await self._of_others(connection)
            return _text(200, _HOME) if isinstance(route, Home) else _empty(request)
        except Malformed as error:
            await self._of_others(connection)
            return _text(error.status, f"{error}\n")
        except NoPath:
            await self._of_others(connection)
            return _text(404, "There is nothing here; see /\n")
        except _OtherMethod as error:
            await self._of_others(connection)
            if request.method == hdrs.METH_OPTIONS:
                return web.Response(status=204, headers=of_preflight(error.methods))
            allow = ", ".join((*error.methods, hdrs.METH_OPTIONS))
            return _text(405, "This cannot be done here\n", {"Allow": allow})

    def _route(self, request: web.BaseRequest) -> Route:
        methods = methods_of(request.raw_path)
        if request.method not in methods:
            raise _OtherMethod(methods)
        return parse_target(request.raw_path, request.headers.get(hdrs.ACCEPT))

    async def _of_others(self, connection: PacedConnection) -> None:
        """What is no request for a block counts, and has its turn, as those do."""
        self._access.statistics.other += 1
        await connection.pace.room(0)

    async def _block(
        self, request: web.BaseRequest, block: BlockOf, connection: PacedConnection
    ) -> web.StreamResponse:
        if names_tag(request.headers.get(hdrs.IF_NONE_MATCH), tag_of(block)):
            # It never changes: nobody needs to look.
            await self._of_others(connection)
            return web.Response(status=304, headers=of_block(block))
        await connection.pace.room(1)
        try:
            (found,), made = await self._look_up([block.reference], connection)
        except ErisError as error:
            return self._failed(error)
        if request.method == hdrs.METH_HEAD:
            connection.pace.told(found is not None, found is None)
        else:
            connection.pace.gave(found is not None, len(found or b""), found is None, made)
        if found is not None:
            return web.Response(body=found, headers=of_block(block))
        only_if_cached = "only-if-cached" in request.headers.get(hdrs.CACHE_CONTROL, "").lower()
        if block.cid is not None and only_if_cached:
            return _text(412, "This block is not here\n")
        return _text(404, "This block is not here\n")

    async def _batch(
        self, request: web.BaseRequest, connection: PacedConnection
    ) -> web.StreamResponse:
        references = parse_batch(await _body(request))
        most = _FIRST_PART
        response = web.StreamResponse(headers={**of_batch(), hdrs.SERVER: SERVER_NAME})
        while references:
            wanted = min(most, connection.share, len(references))
            part = references[: await connection.pace.room(wanted)]
            most *= 2
            try:
                blocks, made = await self._look_up(part, connection)
            except ErisError as error:
                if response.prepared:
                    raise
                return self._failed(error)
            size = sum(len(block or b"") for block in blocks)
            missing = blocks.count(None)
            connection.pace.gave(len(blocks) - missing, size, missing, made)
            if not response.prepared:
                await response.prepare(request)
            for piece in format_entries(blocks):
                connection.handed += len(piece)
                await response.write(piece)
                # Until the kernel has all of it, which takes only what the client takes.
                await request.writer.drain()
            references = references[len(part) :]
        return response

    async def _look_up(
        self, references: Sequence[Reference], connection: PacedConnection
    ) -> Looked:
        try:
            group = connection.pace.turn.group
            stored = await self._access.fetch_many(references, lambda: not connection.lost, group)
            looked = await with_seeds(self._reach, references, stored)
            connection.pace.turn.owes(cost_of_seeds_s(*looked.made))
            return looked
        finally:
            connection.pace.settle()

    def _failed(self, error: ErisError) -> web.StreamResponse:
        # The store has said it in the log, once.
        _log.debug("A block could not be looked up: %s", error)
        return _text(503, "The store cannot tell at the moment\n")


class _OtherMethod(Exception):
    def __init__(self, methods: tuple[str, ...]) -> None:
        self.methods = methods


def parse_batch(body: bytes) -> list[Reference]:
    """The references that a body names. Raises: Malformed."""
    try:
        return parse_request(body)
    except InvalidBatch as error:
        raise Malformed(str(error)) from None


async def _body(request: web.BaseRequest) -> bytes:
    """The body of a request. Raises: Malformed; ConnectionError, if it does not come."""
    if hdrs.CONTENT_ENCODING in request.headers:
        raise Malformed("references are sent as they are, in no encoding", 415)
    if (request.content_length or 0) > MAX_BODY:
        raise _too_long()
    await _go_ahead(request)
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            while data := await request.content.readany():
                body += data
                if len(body) > MAX_BODY:
                    raise _too_long()
    except TimeoutError:
        raise ConnectionResetError("no whole body came") from None
    except web.RequestPayloadError:
        raise Malformed("the body is not what its head says") from None
    return bytes(body)


async def _go_ahead(request: web.BaseRequest) -> None:
    """Say that the body is wanted, to those who wait for that. Raises: Malformed."""
    expected = request.headers.get(hdrs.EXPECT)
    if expected is None or request.version < HttpVersion11:
        # Older clients know no answer before the answer (RFC 9110, section 10.1.1).
        return
    if expected.lower() != "100-continue":
        raise Malformed("the only thing to expect is 100-continue", 417)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # It is no part of the reply.
    request.writer.output_size = 0


def _too_long() -> Malformed:
    return Malformed(f"a batch has {MAX_REFERENCES} references, of 32 bytes, at most", 413)


def _text(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=text.encode(),
        headers={**FOR_ALL, "Content-Type": TEXT, **(headers or {})},
    )


def _empty(request: web.BaseRequest) -> web.Response:
    """What the CID of nothing names."""
    return web.Response(
        body=b"", headers={**FOR_ALL, "Content-Type": "application/vnd.ipld.raw", "Vary": "Accept"}
    )
