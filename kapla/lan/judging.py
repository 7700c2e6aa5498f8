"""Who of those that are found may be asked for blocks. Pure.

Whoever is asked learns what is read here, and on a local network anybody can announce anything. So
a daemon is asked if the user has named its key, wherever it is found, or if it is found on a
network that he has named; always over TLS, with the key that it is to prove; and only at an address
that is on one of this machine's networks, so that nobody can have us connect to where he likes.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from kapla.identity.key import PeerKey
from kapla.lan.networks import (
    Entry,
    Network,
    is_of_this_machine,
    is_on_link,
    might_match,
    names,
)
from kapla.lan.service import COAPS, Service

__all__ = ["BLOCKS_PATH", "BLOCKS_TYPE", "VERSION", "Judgement", "Place", "Verdict", "judge"]

BLOCKS_TYPE: Final = "eris.blocks"
BLOCKS_PATH: Final = "/.well-known/eris"
VERSION: Final = "1"


class Verdict(Enum):
    """Whether one is asked, and why, in words for people."""

    KNOWN = "its key is that of a peer"
    TRUSTED = "its network is in discover-networks"
    PLAIN = "without TLS nobody can tell who it is"
    OTHER = "it is no store of blocks of a kind that is known here"
    KEYLESS = "it names no key"
    OWN = "it has this daemon's own key"
    AWAY = "its address is on no network of this machine"
    GATEWAY_UNKNOWN = "the link-layer address of its network's gateway is not known yet"
    FOREIGN = "its network is not in discover-networks"
    TOO_MANY = "there are too many"

    @property
    def is_asked(self) -> bool:
        """Whether it may be asked."""
        return self in (Verdict.KNOWN, Verdict.TRUSTED)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one is that may be asked."""

    address: str
    port: int
    interface: str | None = None
    """That of the network that was named: it is reached by this one, or not at all."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be thought of a service."""

    verdict: Verdict
    key: PeerKey | None = None
    """What it says to be its key."""
    places: tuple[Place, ...] = ()
    """Where it may be asked: some, if it may."""


def judge(
    service: Service,
    networks: Sequence[Network],
    entries: Sequence[Entry],
    known: Container[PeerKey],
    own: PeerKey | None = None,
) -> Judgement:
    """What is to be thought of a service that was found.

    `entries` are the networks that the user named, `known` the keys of his peers, `own` ours.
    """
    key = _key_of(service)
    if key is not None and key == own:
        return Judgement(Verdict.OWN, key)
    if service.kind != COAPS:
        return Judgement(Verdict.PLAIN, key)
    if not _is_ours(service):
        return Judgement(Verdict.OTHER, key)
    if key is None:
        return Judgement(Verdict.KEYLESS)
    near = [
        (text, network)
        for text in service.addresses
        for network in networks
        if is_on_link(network, text) and not is_of_this_machine(networks, text)
    ]
    if not near:
        return Judgement(Verdict.AWAY, key)
    if key in known:
        places = [Place(text, service.port) for text in dict(near)]
        return Judgement(Verdict.KNOWN, key, tuple(places))
    places = [
        Place(text, service.port, network.name)
        for text, network in near
        if any(names(entry, network) for entry in entries)
    ]
    if places:
        return Judgement(Verdict.TRUSTED, key, tuple(places))
    if any(might_match(entry, network) for entry in entries for _, network in near):
        return Judgement(Verdict.GATEWAY_UNKNOWN, key)
    return Judgement(Verdict.FOREIGN, key)


def _key_of(service: Service) -> PeerKey | None:
    try:
        return PeerKey.parse(service.texts.get("pk", ""))
    except ValueError:
        return None


def _is_ours(service: Service) -> bool:
    texts = service.texts
    wanted = {"rt": BLOCKS_TYPE, "path": BLOCKS_PATH, "v": VERSION}
    return bool(service.port) and all(texts.get(key) == value for key, value in wanted.items())
