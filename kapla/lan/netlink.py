"""What the kernel tells of links, addresses, routes and neighbours: rtnetlink(7), read. Pure.

Of each kind of message only what networks are told apart by is read; what is too short is left
out, as the kernel's newer ones may be longer than is known here. Numbers are of linux/rtnetlink.h,
if_link.h, if_addr.h and neighbour.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

__all__ = [
    "Address",
    "Dump",
    "Flag",
    "Link",
    "Message",
    "Neighbour",
    "Route",
    "State",
    "attributes",
    "format_dump",
    "messages",
    "parse_address",
    "parse_link",
    "parse_neighbour",
    "parse_routes",
]

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_HOP: Final = struct.Struct("=HBBi")
_NEIGHBOUR: Final = struct.Struct("=BxxxiHBB")

_REQUEST_DUMP: Final = 0x301
_TYPE_BITS: Final = 0x3FFF
_UNICAST: Final = 1
_DEAD: Final = 0x11
"""RTNH_F_DEAD, RTNH_F_LINKDOWN."""

IpAddress = IPv4Address | IPv6Address


class Dump(IntEnum):
    """What can be asked for; the answers' type is two less."""

    LINKS = 18
    ADDRESSES = 22
    ROUTES = 26
    NEIGHBOURS = 30


class Flag(IntFlag):
    """Of a link."""

    UP = 0x1
    LOOPBACK = 0x8
    LOWER_UP = 0x10000


class State(IntFlag):
    """Of a neighbour."""

    REACHABLE = 0x02
    KNOWN = 0x02 | 0x04 | 0x08 | 0x10 | 0x80
    """Its link-layer address is there: reachable, stale, delay, probe, permanent."""


class Message(NamedTuple):
    """One message: `kind` as the kernel numbers them."""

    kind: int
    flags: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Link:
    """An interface."""

    index: int
    name: str
    hardware: int
    """Its type, as in linux/if_arp.h."""
    flags: int
    kind: str = ""
    """What made it: `veth`, `bridge`, `wireguard`; empty: a device of its own."""
    below: int | None = None
    """The index of what it stands on."""
    is_below_elsewhere: bool = False
    """What it stands on is in another namespace."""
    master: int | None = None
    """The index of the bridge or bond that it is in."""


@dataclass(frozen=True, slots=True)
class Address:
    """One of this machine's addresses, and how much of it is the network's."""

    index: int
    address: IpAddress
    length: int
    end: IpAddress | None = None
    """The other end, and so the network's address, where the link has but two."""


@dataclass(frozen=True, slots=True)
class Route:
    """A default route by one gateway."""

    index: int
    gateway: IpAddress


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The link-layer address of somebody, `aa:bb:…`; empty while it is not known."""

    index: int
    address: IpAddress
    mac: str
    state: int


def format_dump(what: Dump, sequence: int) -> bytes:
    """A request for all there are, of any family."""
    body = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
    return _HEADER.pack(_HEADER.size + len(body), what, _REQUEST_DUMP, sequence, 0) + body


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, _, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            return
        yield Message(kind, flags, data[offset + _HEADER.size : offset + length])
        offset += _aligned(length)


def attributes(payload: bytes, offset: int) -> dict[int, bytes]:
    """The attributes behind a message's own fields."""
    found = {}
    while offset + _ATTRIBUTE.size <= len(payload):
        length, kind = _ATTRIBUTE.unpack_from(payload, offset)
        if length < _ATTRIBUTE.size or offset + length > len(payload):
            break
        found[kind & _TYPE_BITS] = payload[offset + _ATTRIBUTE.size : offset + length]
        offset += _aligned(length)
    return found


def parse_link(payload: bytes) -> Link | None:
    """Read RTM_NEWLINK."""
    if len(payload) < _LINK.size:
        return None
    _, hardware, index, flags, _ = _LINK.unpack_from(payload)
    told = attributes(payload, _LINK.size)
    return Link(
        index,
        _text(told.get(3, b"")),
        hardware,
        flags,
        _text(attributes(told.get(18, b""), 0).get(1, b"")),
        _number(told.get(5)),
        37 in told,
        _number(told.get(10)),
    )


def parse_address(payload: bytes) -> Address | None:
    """Read RTM_NEWADDR."""
    if len(payload) < _ADDRESS.size:
        return None
    _, length, _, _, index = _ADDRESS.unpack_from(payload)
    told = attributes(payload, _ADDRESS.size)
    # IFA_ADDRESS is the other end where the link has but two, else it is ours.
    network = _address(told.get(1))
    address = _address(told.get(2)) or network
    if address is None:
        return None
    return Address(index, address, length, None if network == address else network)


def parse_routes(payload: bytes) -> list[Route]:
    """Read RTM_NEWROUTE: what it says of default gateways."""
    if len(payload) < _ROUTE.size:
        return []
    _, length, _, _, _, _, _, kind, flags = _ROUTE.unpack_from(payload)
    if length != 0 or kind != _UNICAST or flags & _DEAD:
        return []
    told = attributes(payload, _ROUTE.size)
    found = [(_number(told.get(4)), _address(told.get(5))), *_hops(told.get(9, b""))]
    return [Route(index, gateway) for index, gateway in found if index and gateway]


def _hops(data: bytes) -> Iterator[tuple[int, IpAddress | None]]:
    offset = 0
    while offset + _HOP.size <= len(data):
        length, flags, _, index = _HOP.unpack_from(data, offset)
        if length < _HOP.size:
            return
        if not flags & _DEAD:
            yield index, _address(attributes(data[: offset + length], offset + _HOP.size).get(5))
        offset += _aligned(length)


def parse_neighbour(payload: bytes) -> Neighbour | None:
    """Read RTM_NEWNEIGH."""
    if len(payload) < _NEIGHBOUR.size:
        return None
    _, index, state, _, _ = _NEIGHBOUR.unpack_from(payload)
    told = attributes(payload, _NEIGHBOUR.size)
    address = _address(told.get(1))
    if address is None:
        return None
    return Neighbour(index, address, told.get(2, b"").hex(":"), state)


def _address(data: bytes | None) -> IpAddress | None:
    return ip_address(data) if data is not None and len(data) in (4, 16) else None


def _number(data: bytes | None) -> int | None:
    return int(struct.unpack("=i", data)[0]) if data is not None and len(data) == 4 else None


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "replace")


def _aligned(length: int) -> int:
    return (length + 3) & ~3
