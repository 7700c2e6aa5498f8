"""The networks that this machine is in right now, as the kernel tells them by netlink.

Asked anew each time: it takes a millisecond or two. All of it is of the network namespace that the
program is in.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from typing import Final

from kapla.lan.kinds import kinds_of
from kapla.lan.netlink import (
    Dump,
    Flag,
    Link,
    Message,
    Neighbour,
    State,
    format_dump,
    messages,
    parse_address,
    parse_link,
    parse_neighbour,
    parse_routes,
)
from kapla.lan.networks import Gateway, IpNetwork, Network

__all__ = ["look_at_networks", "open_netlink", "prefixes_here"]

_ROUTE: Final = 0
"""NETLINK_ROUTE: the protocol."""
_ERROR: Final = 2
_DONE: Final = 3
_INTERRUPTED: Final = 0x10
"""NLM_F_DUMP_INTR: something changed meanwhile."""
_TRIES: Final = 4
_PATIENCE_S: Final = 1.0
_LONGEST: Final = 1 << 17
_MOST: Final = 65536
"""Messages of one kind: more neighbours than the kernel keeps by default."""


def open_netlink(groups: int = 0) -> socket.socket:
    """A socket to the kernel; `groups`: of what changes it tells.

    Raises: OSError, where the kernel or a sandbox has none.
    """
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _ROUTE)
    try:
        opened.settimeout(_PATIENCE_S)
        opened.bind((0, groups))
    except OSError:
        opened.close()
        raise
    return opened


def look_at_networks() -> tuple[Network, ...]:
    """All networks, by the number of their interface.

    Raises: OSError.
    """
    with open_netlink() as kernel:
        links = {one.index: one for one in map(parse_link, _dump(kernel, Dump.LINKS)) if one}
        addresses = [one for one in map(parse_address, _dump(kernel, Dump.ADDRESSES)) if one]
        routes = [one for told in _dump(kernel, Dump.ROUTES) for one in parse_routes(told)]
        neighbours = [one for one in map(parse_neighbour, _dump(kernel, Dump.NEIGHBOURS)) if one]
    kinds = kinds_of(links)
    macs = {(one.index, one.address): one.mac for one in neighbours if _is_known(one)}
    return tuple(
        Network(
            link.name,
            index,
            kinds[index],
            _is_up(link),
            tuple(ip_interface((a.address, a.length)) for a in addresses if a.index == index),
            tuple(
                Gateway(gateway, macs.get((index, gateway)))
                for gateway in dict.fromkeys(one.gateway for one in routes if one.index == index)
            ),
        )
        for index, link in sorted(links.items())
    )


def prefixes_here() -> tuple[IpNetwork, ...]:
    """Where those are that are near: the prefixes of all addresses of this machine.

    Raises: OSError.
    """
    with open_netlink() as kernel:
        found = [one for one in map(parse_address, _dump(kernel, Dump.ADDRESSES)) if one]
    networks = (ip_network((one.end or one.address, one.length), strict=False) for one in found)
    return tuple(dict.fromkeys(networks))


def _is_up(link: Link) -> bool:
    wanted = Flag.UP | Flag.LOWER_UP
    return link.flags & wanted == wanted


def _is_known(one: Neighbour) -> bool:
    return bool(one.state & State.KNOWN and one.mac)


def _dump(kernel: socket.socket, what: Dump) -> list[bytes]:
    """All messages of one kind. Raises: OSError."""
    found: list[bytes] = []
    for sequence in range(1, _TRIES + 1):
        kernel.send(format_dump(what, sequence))
        found, is_whole = [], True
        for message in _answers(kernel):
            is_whole = is_whole and not message.flags & _INTERRUPTED
            if message.kind == what - 2 and len(found) < _MOST:
                found.append(message.payload)
        if is_whole:
            break
    # What was changing all the time is looked at again: its change is told.
    return found


def _answers(kernel: socket.socket) -> Iterator[Message]:
    """The messages of one answer. Raises: OSError."""
    while True:
        data, sender = kernel.recvfrom(_LONGEST)
        if sender[0] != 0:
            # Another program, not the kernel.
            continue
        for message in messages(data):
            if message.kind == _ERROR:
                number = -int.from_bytes(message.payload[:4], "little", signed=True)
                raise OSError(number, "the kernel does not tell its networks")
            yield message
            if message.kind == _DONE:
                return
