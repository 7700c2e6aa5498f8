"""What a daemon announces of its listeners on the local network: their kind, port and key. Pure.

Never the path of a store, which may be a capability; what others can reach is what they could find
by trying, and the key that each of them is shown anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from types import MappingProxyType

from kapla.identity.key import PeerKey
from kapla.lan.judging import BLOCKS_PATH, BLOCKS_TYPE, VERSION
from kapla.lan.service import COAP, COAPS, Service
from kapla.urls import TcpEndpoint, TlsEndpoint

__all__ = ["Listener", "services_of"]


@dataclass(frozen=True, slots=True)
class Listener:
    """One socket that listens: where, by address and the port that it got, and as whom."""

    place: TcpEndpoint | TlsEndpoint
    key: PeerKey | None = None
    """What it shows, if that is a key."""


def services_of(listeners: Iterable[Listener], name: str) -> list[Service]:
    """What is to be announced, under this name: those of one kind, port and key as one."""
    found: dict[tuple[str, int, PeerKey | None], list[str]] = {}
    for one in listeners:
        address = one.place.host.partition("%")[0]
        if not ip_address(address).is_loopback:
            kind = COAPS if isinstance(one.place, TlsEndpoint) else COAP
            found.setdefault((kind, one.place.port, one.key), []).append(address)
    return [
        Service(kind, name, port, _texts(key), tuple(addresses))
        for (kind, port, key), addresses in found.items()
    ]


def _texts(key: PeerKey | None) -> MappingProxyType[str, str]:
    texts = {"rt": BLOCKS_TYPE, "path": BLOCKS_PATH, "v": VERSION}
    return MappingProxyType(texts if key is None else texts | {"pk": str(key)})
