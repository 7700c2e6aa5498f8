"""The aiocoap lane: every request that the fast lane does not recognise.

aiocoap brings its resources, discovery and option types; the transports are ours, so a request is
handed to its `Site` with a stand-in for its remote. Payloads in pieces (Block1, Block2) are put
together and cut here, with limits: pieces are kept by the connection and die with it, and what is
asked in pieces is fetched anew for each, since blocks never change.

aiocoap is loosely typed; the casts this needs stay in this file.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import aiocoap
import aiocoap.error
import aiocoap.resource
from aiocoap.message import Direction
from aiocoap.numbers import ContentFormat
from aiocoap.optiontypes import OpaqueOption

from eris.crypto import reference_of
from eris.errors import BlockNotFound, ErisError
from eris.model import Reference
from kapla.coap.allowance import Share
from kapla.coap.blocks import (
    BLOCK_SIZES,
    BLOCKS_PATHS,
    FOUND_PATH,
    ORIGIN_PATH,
    PEERS_PATH,
    SEED_PATH,
    STAT_PATH,
    BadRequest,
    code_of_error,
    diagnostic,
    pack_bitmap,
    parse_block_query,
    split_references,
)
from kapla.coap.caller import NOBODY, Caller
from kapla.coap.care import care_resources
from kapla.coap.connection import Connection
from kapla.coap.facts import Facts
from kapla.coap.fragments import (
    FRAGMENT_EXPONENT,
    MAX_ASSEMBLED,
    Fragmenting,
    accepts,
    respond,
)
from kapla.coap.frame import Code, Frame, OptionNumber, encode_options, format_frame, format_message
from kapla.coap.further import Further
from kapla.coap.list_pages import list_path
from kapla.coap.listing import BlockList
from kapla.coap.open_pin import ConnectionPin
from kapla.coap.origin import OriginResource, Origins
from kapla.coap.peer_list import PeerList, PeerReport
from kapla.coap.pins import pin_resources
from kapla.coap.request import Rejected, Request, read_request
from kapla.coap.seed import SeedResource
from kapla.coap.status import StatusReport, status_resources
from kapla.storage.access import BlockAccess, Wanted, always

__all__ = ["AiocoapLane", "Remote"]

_log = logging.getLogger(__name__)

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
    maximum_block_size_exp = FRAGMENT_EXPONENT

    def __init__(
        self,
        connection: Connection,
        is_there: Wanted = always,
        group: Callable[[], object] = lambda: None,
        looking: Callable[[int], AbstractContextManager[None]] = lambda size: nullcontext(),
    ) -> None:
        self._connection = connection
        self.is_there = is_there
        self.group = group
        """Tells with whom its requests share the store."""
        self.looking = looking
        """The context in which the store looks up what takes so many bytes to ask for."""
        self.caller: Caller = NOBODY
        """Who it is: known once the connection is made."""
        self.share: Share | None = None
        """What it may take and learn. None: any."""
        self.pin = ConnectionPin()
        self.further: Further | None = None
        """Asks others for what is not here."""
        self.enter_seed: Callable[[], bool] = lambda: False
        """Makes it a seed: see kapla.coap.seed."""
        self.origins = Origins()
        """Where what it was given came from."""
        self.assemblies: dict[object, bytearray] = {}

    def paying_for(self, question: bytes) -> AbstractContextManager[None]:
        """While these references are looked for."""
        return nullcontext() if self.share is None else self.share.looking(len(question))

    @property
    def blockwise_key(self) -> int:
        """What tells the transfers of this peer from those of others."""
        return id(self)

    @property
    def maximum_payload_size(self) -> int:
        """The longest payload that may go in one message."""
        if self._connection.takes_whole_blocks:
            return MAX_ASSEMBLED
        return self._connection.piece_size

    @property
    def fragment_exponent(self) -> int:
        """Of pieces that fit a message: they have two to the power of this and 4 more bytes."""
        return self._connection.piece_size.bit_length() - 5


class AiocoapLane:
    """Answers any request about the blocks that one listener gives access to."""

    def __init__(
        self,
        access: BlockAccess,
        report: Callable[[], Awaitable[dict[str, object]]],
        peers: PeerReport = list,
        found: PeerReport | None = None,
        status: StatusReport | None = None,
    ) -> None:
        self._access = access
        self._site = aiocoap.resource.Site()
        blocks, listing = _Blocks(access), BlockList(access)
        of_pins = pin_resources(access)
        for path in BLOCKS_PATHS:
            self._site.add_resource(list(path), blocks)
            self._site.add_resource(list(list_path(path)), listing)
            for below, resource in of_pins.items():
                self._site.add_resource([*path[:-1], *below], resource)
        self._site.add_resource(list(STAT_PATH), _Stat(access, report))
        self._site.add_resource(list(ORIGIN_PATH), OriginResource(access))
        self._site.add_resource(list(SEED_PATH), SeedResource())
        self._site.add_resource(list(PEERS_PATH), PeerList(access, peers))
        if found is not None:
            self._site.add_resource(list(FOUND_PATH), PeerList(access, found))
        if status is not None:
            for place, one in status_resources(access, status).items():
                self._site.add_resource(list(place), one)
        for place, one in care_resources(access).items():
            self._site.add_resource(list(place), one)
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


class _Blocks(Fragmenting):
    """GET and PUT of blocks, one at a time."""

    rt = "eris.blocks"

    def __init__(self, access: BlockAccess) -> None:
        super().__init__()
        self._access = access

    async def render_get(self, request: Any) -> Any:
        """Give a block."""
        if not accepts(request, ContentFormat.OCTETSTREAM):
            return respond(Code.NOT_ACCEPTABLE)
        queries, share = request.opt.uri_query, request.remote.share
        try:
            if len(queries) != 1:
                raise BadRequest(f"{len(queries)} queries instead of one reference")
            reference = parse_block_query(queries[0].encode())
            block, is_lent = await self._fetch(reference, request)
        except BadRequest as error:
            return respond(Code.BAD_REQUEST, str(error).encode())
        except ErisError as error:
            if share is not None and isinstance(error, BlockNotFound):
                share.gave(0, 0, 1)
            return respond(code_of_error(error), diagnostic(error))
        if share is not None:
            share.gave(1, len(block), 0)
        if len(block) not in BLOCK_SIZES:  # damage, which counts as not there
            return respond(Code.NOT_FOUND)
        response = respond(Code.CONTENT, block)
        if is_lent:
            response.opt.add_option(OpaqueOption(OptionNumber.LENT, b""))
        return response

    async def _fetch(self, reference: Reference, request: Any) -> tuple[bytes, bool]:
        """A block, and whether whoever asks is to be told that it may be given on."""
        received = _hop_limit(request)
        remote: Remote = request.remote
        try:
            if received is None:
                block, is_lent = await self._access.fetch(reference, remote.is_there), False
            else:
                block, is_lent = await self._access.fetch_marked(reference, remote.is_there)
            remote.origins.here.add(1, len(block))
            return block, is_lent
        except BlockNotFound:
            if remote.further is None:
                raise
            hops = remote.further.hops(received)
            if not remote.further.may_ask(hops):
                raise
        found = await remote.further.fetch(reference, hops)
        return found.block, received is not None and found.is_lent

    async def render_fetch(self, request: Any) -> Any:
        """Tell which of many blocks are there."""
        try:
            references = split_references(request.payload)
            remote = request.remote
            with remote.paying_for(request.payload):
                present = await self._find(references, request)
        except BadRequest as error:
            return respond(Code.BAD_REQUEST, str(error).encode())
        except ErisError as error:
            return respond(code_of_error(error), diagnostic(error))
        if remote.share is not None:
            remote.share.told(sum(present), len(present) - sum(present))
        return respond(Code.CONTENT, pack_bitmap(present))

    async def _find(self, references: list[Reference], request: Any) -> list[bool]:
        """Here, and beyond if it may be."""
        remote: Remote = request.remote
        with remote.looking(len(request.payload)):
            present = await self._access.find(
                references, remote.is_there, remote.pin.hold, remote.group()
            )
        received = _hop_limit(request)
        if received is None or remote.further is None:
            return present
        return await _find_further(remote.further, received, references, present)

    async def render_put(self, request: Any) -> Any:
        """Take a block."""
        block = request.payload
        if len(block) not in BLOCK_SIZES:
            if not self._access.rights.put:
                # So that clients can ask with a PUT of nothing whether they may.
                return respond(Code.FORBIDDEN, b"this store is read-only here")
            text = f"{len(block)} bytes: a block has 1024 or 32768"
            return respond(Code.BAD_REQUEST, text.encode())
        try:
            remote = request.remote
            remote.origins.put.add(1, len(block))
            await self._access.put(reference_of(block), block, remote.is_there, remote.pin.hold)
        except ErisError as error:
            return respond(code_of_error(error), diagnostic(error))
        return respond(Code.CREATED)


def _hop_limit(request: Any) -> int | None:
    found = request.opt.get_option(OptionNumber.HOP_LIMIT)
    return int(found[0].value) if found else None


async def _find_further(
    further: Further, received: int, references: list[Reference], present: list[bool]
) -> list[bool]:
    """What is here, and what others have."""
    hops = further.hops(received)
    missing = [name for name, is_here in zip(references, present, strict=True) if not is_here]
    if not missing or not further.may_ask(hops):
        return present
    found = iter(await further.find(missing, hops))
    return [is_here or next(found) for is_here in present]


class _Stat(Facts):
    """What the daemon holds."""

    def __init__(
        self, access: BlockAccess, report: Callable[[], Awaitable[dict[str, object]]]
    ) -> None:
        super().__init__(access)
        self._report = report

    async def facts(self, request: Any) -> object:
        """The report."""
        return await self._report()


class _Core(Fragmenting, aiocoap.resource.WKCResource):  # type: ignore[misc]
    """Discovery: `/.well-known/core`."""

    async def render_get(self, request: Any) -> Any:
        """Give the list, filtered by what resources have here.

        aiocoap would look up whatever name a query has as an attribute of its own objects.
        """
        queries = request.opt.uri_query
        request.opt.uri_query = [q for q in queries if q.startswith(_LINK_FILTERS)]
        return await super().render_get(request)
