"""A server with pins for the tests of the client: the resources of `docs/wire.md`, in memory."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import cbor2

from eris import reference_of
from eris.base32 import format_base32, parse_base32
from eris.model import Reference
from kapla.coap.blocks import pack_bitmap, split_references
from kapla.coap.frame import Code, Message
from tests.kapla.fake_server import Peer

__all__ = ["Held", "PinServer"]


@dataclass
class Held:
    """An open pin, or one that was closed."""

    token: bytes
    there: set[Reference] = field(default_factory=set)
    lacking: set[Reference] = field(default_factory=set)
    facts: dict[str, Any] = field(default_factory=dict)


class PinServer:
    """A script for `fake_server`. `page`: how many pins are listed at a time."""

    def __init__(self, *, room: int = 1 << 30, page: int = 100) -> None:
        self.room = room
        self.page = page
        self.blocks: dict[Reference, bytes] = {}
        self.open: dict[bytes, Held] = {}
        self.by_peer: dict[Peer, Held] = {}
        self.pins: dict[str, Held] = {}
        self.asked: list[tuple[int, tuple[str, ...]]] = []
        """Code and path of every request, in order."""
        self._tokens = itertools.count(1)

    def __call__(self, peer: Peer, request: Message) -> None:
        path = tuple(value.decode() for value in request.values(11))
        assert path[:2] == (".well-known", "eris")
        path = path[2:]
        self.asked.append((request.code, path))
        if path == ("blocks",):
            code, payload = self._blocks(peer, request)
        elif path == ("pins", "open") and request.code == Code.FETCH:
            code, payload = self._want(peer, split_references(request.payload))
        elif path == ("pins",):
            code, payload = self._list(request)
        else:
            assert request.code == Code.POST and request.values(12) == [b"\x3c"]
            told = cbor2.loads(request.payload)
            code, answer = getattr(self, f"_{path[1]}")(peer, **told)
            payload = answer if isinstance(answer, bytes) else cbor2.dumps(answer)
        peer.send(code, request.token, payload=payload)

    def _blocks(self, peer: Peer, request: Message) -> tuple[int, bytes]:
        held = self.by_peer.get(peer)
        if request.code == Code.PUT:
            if not request.payload:
                return Code.BAD_REQUEST, b""
            reference = reference_of(request.payload)
            self.blocks[reference] = request.payload
            if held is not None:
                held.there.add(reference)
                held.lacking.discard(reference)
            return Code.CREATED, b""
        if request.code == Code.FETCH:
            found = [one in self.blocks for one in split_references(request.payload)]
            return Code.CONTENT, pack_bitmap(found)
        block = self.blocks.get(Reference(parse_base32(request.values(15)[0])))
        return (Code.NOT_FOUND, b"") if block is None else (Code.CONTENT, block)

    def _open(self, peer: Peer, **told: Any) -> tuple[int, Any]:
        if "token" in told:
            if told["token"] not in self.open:
                return Code.NOT_FOUND, b"there is no such open pin"
            self.by_peer[peer] = self.open[told["token"]]
        else:
            if peer in self.by_peer:
                return Code.CONFLICT, b"one is open"
            if told.get("bytes", 0) > self.room:
                return Code.REQUEST_ENTITY_TOO_LARGE, b"there is no room for that"
            token = next(self._tokens).to_bytes(16, "big")
            self.by_peer[peer] = self.open[token] = Held(token)
        return Code.CREATED, {"token": self.by_peer[peer].token, "room": self.room}

    def _want(self, peer: Peer, references: list[Reference]) -> tuple[int, bytes]:
        held = self.by_peer.get(peer)
        if held is None:
            return Code.NOT_FOUND, b""
        found = [one in self.blocks for one in references]
        for one, is_there in zip(references, found, strict=True):
            (held.there if is_there else held.lacking).add(one)
        return Code.CONTENT, pack_bitmap(found)

    def _close(self, peer: Peer, **told: Any) -> tuple[int, Any]:
        held = self.by_peer.get(peer)
        if held is None:
            return Code.NOT_FOUND, b""
        if held.lacking and not told.pop("incomplete", False):
            return Code.CONFLICT, f"{len(held.lacking)} blocks are missing".encode()
        del self.by_peer[peer], self.open[held.token]
        held.facts = told
        name = told.get("name") or format_base32(told["root"])
        self.pins[name] = held
        return Code.CHANGED, self._summary(name)

    def _abandon(self, peer: Peer, lend: bool = False) -> tuple[int, Any]:
        held = self.by_peer.pop(peer, None)
        if held is None:
            return (Code.NOT_FOUND if lend else Code.CHANGED), b""
        del self.open[held.token]
        return Code.CHANGED, {"lent": len(held.there)} if lend else b""

    def _change(self, peer: Peer, **told: Any) -> tuple[int, Any]:
        for name in self._named(told):
            self.pins[name].facts.update(told)
            return Code.CHANGED, self._summary(name)
        return Code.NOT_FOUND, b""

    def _release(self, peer: Peer, **told: Any) -> tuple[int, Any]:
        for name in self._named(told):
            summary = self._summary(name)
            del self.pins[name]
            return Code.CHANGED, summary
        return Code.NOT_FOUND, b""

    def _named(self, told: dict[str, Any]) -> list[str]:
        return [
            name
            for name, pin in self.pins.items()
            if told.get("name") == name or told.get("root", b"") == pin.facts.get("root")
        ]

    def _list(self, request: Message) -> tuple[int, bytes]:
        assert all(len(value) <= 255 for value in request.values(15))
        after = "".join(value.decode().removeprefix("after=") for value in request.values(15))
        names = sorted(name for name in self.pins if name > after)
        told: dict[str, Any] = {"pins": [self._summary(name) for name in names[: self.page]]}
        if len(names) > self.page:
            told["next"] = names[self.page - 1]
        return Code.CONTENT, cbor2.dumps(told)

    def _summary(self, name: str) -> dict[str, Any]:
        held = self.pins[name]
        return {
            "name": name,
            "owner": 1000,
            "root": held.facts.get("root"),
            "keep": held.facts.get("keep", True),
            "lend": held.facts.get("lend", False),
            "created": 1_700_000_000,
            "small": len(held.there),
            "large": 0,
            "own_small": len(held.there),
            "own_large": 0,
            "missing": len(held.lacking),
            "of a later version": None,
        }
