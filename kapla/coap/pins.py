"""Pins over the wire: `pins` and what is below it, beside `blocks`. See docs/wire.md.

Who may do what is decided here, by who is at the other end (`kapla.coap.caller`). To others a pin
does not exist: they are told the same as of one that is not there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from eris.errors import ErisError, StoreRefused
from eris.model import REFERENCE_SIZE, Reference
from kapla.coap.blocks import BadRequest, code_of_error, diagnostic, pack_bitmap, split_references
from kapla.coap.caller import Caller
from kapla.coap.fragments import MAX_ASSEMBLED, Fragmenting, accepts, respond
from kapla.coap.frame import Code
from kapla.coap.maps import MAP_FORMAT, format_map, read_map
from kapla.coap.open_pin import AlreadyOpen, ConnectionPin, OpenPins
from kapla.errors import NotAllowed, PinIncomplete, PinNotFound, RequestMalformed
from kapla.pins import PinSummary
from kapla.storage.access import BlockAccess
from kapla.storage.pinning import OpenPin

__all__ = ["pin_resources"]

# Summaries in one page. As many fit into a message; with the longest names, the fewer do.
_PAGES: Final = (100, 40)
_TOKEN_SIZE: Final = 16
_NEXT: Final = "after="
_CODES: Final = (
    (PinNotFound, Code.NOT_FOUND),
    (PinIncomplete, Code.CONFLICT),
    (RequestMalformed, Code.BAD_REQUEST),
)


def pin_resources(access: BlockAccess) -> dict[tuple[str, ...], Fragmenting]:
    """The resources of pins, by their paths beside `blocks`."""
    open_pins = OpenPins()
    return {
        ("pins",): _List(access),
        ("pins", "open"): _Open(access, open_pins),
        ("pins", "close"): _Close(access),
        ("pins", "abandon"): _Abandon(access),
        ("pins", "change"): _Change(access),
        ("pins", "release"): _Release(access),
    }


class _PinResource(Fragmenting):
    """What all have in common: the right to have pins, and errors as codes."""

    def __init__(self, access: BlockAccess) -> None:
        super().__init__()
        self._access = access
        self._pinning = access.storage.pinning

    def get_link_description(self) -> None:
        """Not shown in discovery: whether they may be used depends on who asks."""

    async def render(self, request: Any) -> Any:
        """Answer a request, if this peer may have pins."""
        try:
            if not request.remote.caller.may_pin:
                raise NotAllowed("there are no pins for you on this listener")
            if len(request.payload) > MAX_ASSEMBLED:
                text = f"{len(request.payload)} bytes: a request has {MAX_ASSEMBLED} at most"
                return respond(Code.REQUEST_ENTITY_TOO_LARGE, text.encode())
            return await super().render(request)
        except BadRequest as error:
            return respond(Code.BAD_REQUEST, str(error).encode())
        except AlreadyOpen:
            return respond(Code.CONFLICT, b"a pin is open on this connection already")
        except ErisError as error:
            return respond(_code_of(error), diagnostic(error))


def _code_of(error: ErisError) -> int:
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return code_of_error(error)


def _in_map(code: int, values: Mapping[str, object]) -> Any:
    response = respond(code, format_map(values))
    response.opt.content_format = MAP_FORMAT
    return response


def _told(summary: PinSummary) -> dict[str, object]:
    return dataclasses.asdict(summary)


def _pin_of(request: Any) -> OpenPin:
    pin: OpenPin | None = request.remote.pin.pin
    if pin is None:
        raise PinNotFound("no pin is open on this connection")
    return pin


def _root(values: Mapping[str, Any]) -> Reference | None:
    root = values.get("root")
    if root is not None and len(root) != REFERENCE_SIZE:
        raise BadRequest(f"root has to be a reference, {REFERENCE_SIZE} bytes")
    return None if root is None else Reference(root)


class _Open(_PinResource):
    """Beginning a pin, and holding what is there already."""

    def __init__(self, access: BlockAccess, open_pins: OpenPins) -> None:
        super().__init__(access)
        self._open_pins = open_pins

    async def render_post(self, request: Any) -> Any:
        """Begin a pin on this connection, or go on with one whose connection has ended."""
        asked = read_map(request.payload, {"bytes": int, "token": bytes})
        token = asked.get("token")
        if token is not None and len(token) != _TOKEN_SIZE:
            raise BadRequest(f"token has to be {_TOKEN_SIZE} bytes")
        owner: int = request.remote.caller.uid
        mine: ConnectionPin = request.remote.pin

        async def opened() -> OpenPin:
            if token is None:
                return await self._pinning.open(owner, wants=asked.get("bytes"))
            self._open_pins.take_over(token, owner)
            return await self._pinning.resume(owner, token)

        pin = await mine.begin(opened)
        self._open_pins.note(pin.token, mine)
        return _in_map(Code.CREATED, {"token": pin.token, "room": pin.room})

    async def render_fetch(self, request: Any) -> Any:
        """Hold what is there of many blocks, and tell which are."""
        if not self._access.rights.get:
            # It tells of all blocks, and makes them one's own to lend.
            raise StoreRefused("this store gives no blocks away")
        references = split_references(request.payload)
        return respond(
            Code.CONTENT, pack_bitmap(await self._pinning.want(_pin_of(request), references))
        )


class _Close(_PinResource):
    """Giving the open pin a name: from then on it stays."""

    async def render_post(self, request: Any) -> Any:
        """Close the open pin."""
        types = {"name": str, "root": bytes, "lend": bool, "keep": bool, "incomplete": bool}
        asked = read_map(request.payload, types)
        pin, root = _pin_of(request), _root(asked)
        if root is None and "name" not in asked:
            raise BadRequest("a pin has a name or a root")
        summary = await self._pinning.close(
            pin,
            name=asked.get("name"),
            root=root,
            lend=asked.get("lend", False),
            keep=asked.get("keep", True),
            incomplete=asked.get("incomplete", False),
        )
        request.remote.pin.end(pin)
        return _in_map(Code.CHANGED, _told(summary))


class _Abandon(_PinResource):
    """Letting go of the open pin."""

    async def render_post(self, request: Any) -> Any:
        """Hold nothing any more, or lend it while it is there.

        Nothing being open is as good, where nothing is to be lent.
        """
        lend = read_map(request.payload, {"lend": bool}).get("lend", False)
        if not lend and request.remote.pin.pin is None:
            return respond(Code.CHANGED)
        pin = _pin_of(request)
        request.remote.pin.end(pin)
        lent = await self._pinning.abandon(pin, lend=lend)
        return _in_map(Code.CHANGED, {"lent": lent}) if lend else respond(Code.CHANGED)


class _List(_PinResource):
    """Which pins there are."""

    async def render_get(self, request: Any) -> Any:
        """One page of the caller's pins; of everybody's, for who may see to the whole store."""
        if not accepts(request, MAP_FORMAT):
            return respond(Code.NOT_ACCEPTABLE)
        caller: Caller = request.remote.caller
        queries = [q.removeprefix(_NEXT) for q in request.opt.uri_query if q.startswith(_NEXT)]
        # A query has 255 bytes, and a name may have as many: what does not fit goes on in the next.
        after = "".join(queries) or None
        owner = None if caller.may_administer else caller.uid
        for most in _PAGES:
            summaries, following = await self._pinning.list(owner, after, most)
            page: dict[str, object] = {"pins": list(map(_told, summaries))}
            if following is not None:
                page["next"] = following
            response = _in_map(Code.CONTENT, page)
            if len(response.payload) <= MAX_ASSEMBLED:
                break
        return response


class _OfAPin(_PinResource):
    """What is done to pins that are closed."""

    async def render_post(self, request: Any) -> Any:
        """Do it to the one of a name, or to all of a root."""
        asked = read_map(request.payload, self._types())
        caller: Caller = request.remote.caller
        mine: Any = caller.uid
        owner: int = asked.get("owner", mine)
        if owner != mine and not caller.may_administer:
            raise PinNotFound("there is no such pin")
        root = _root(asked)
        if (root is None) == ("name" not in asked):
            raise BadRequest("either the name or the root of a pin is expected")
        summary = await self._do(owner, asked.get("name"), root, asked)
        return _in_map(Code.CHANGED, _told(summary))

    def _types(self) -> dict[str, type]:
        return {"name": str, "root": bytes, "owner": int}

    async def _do(
        self, owner: int, name: str | None, root: Reference | None, asked: Mapping[str, Any]
    ) -> PinSummary:
        raise NotImplementedError


class _Change(_OfAPin):
    """Setting switches."""

    def _types(self) -> dict[str, type]:
        return {**super()._types(), "lend": bool, "keep": bool}

    async def _do(
        self, owner: int, name: str | None, root: Reference | None, asked: Mapping[str, Any]
    ) -> PinSummary:
        lend, keep = asked.get("lend"), asked.get("keep")
        return await self._pinning.change(owner, name=name, root=root, lend=lend, keep=keep)


class _Release(_OfAPin):
    """Removing pins."""

    async def _do(
        self, owner: int, name: str | None, root: Reference | None, asked: Mapping[str, Any]
    ) -> PinSummary:
        return await self._pinning.release(owner, name=name, root=root)
