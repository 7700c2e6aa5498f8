"""What is told of the local network: the facts of `kapla peers --found`. Pure.

What others announced is anything they liked: it is told without what would not show, and no longer
than names may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kapla.identity.key import PeerKey
from kapla.lan.judging import Verdict
from kapla.lan.networks import Entry, Kind, Network, names, suggested
from kapla.lan.service import Service

__all__ = ["network_facts", "service_facts"]

_LONGEST: Final = 63
# Of addresses, prefixes and gateways each.
_MOST: Final = 4


def service_facts(
    service: Service, verdict: Verdict, key: PeerKey | None, state: str | None
) -> dict[str, object]:
    """All of one that was found; `state`: how it stands with the connection to it."""
    return {
        "what": "service",
        "name": _shown(service.name),
        "kind": service.kind,
        "addresses": [_shown(one) for one in service.addresses[:_MOST]],
        "port": service.port,
        "key": None if key is None else str(key),
        "asked": verdict.is_asked,
        "why": verdict.value,
        "state": state,
    }


def network_facts(network: Network, entries: Sequence[Entry]) -> dict[str, object] | None:
    """All of one of this machine's networks; None: there is nothing to tell."""
    if not network.is_up or network.kind is Kind.LOOPBACK or not network.addresses:
        return None
    entry = suggested(network)
    return {
        "what": "network",
        "interface": _shown(network.name),
        "kind": network.kind.value,
        "prefixes": [str(one) for one in network.prefixes[:_MOST]],
        "gateways": [
            {"address": str(one.address), "mac": one.mac} for one in network.gateways[:_MOST]
        ],
        "named": any(names(one, network) for one in entries),
        "entry": None if entry is None else str(entry),
    }


def _shown(text: str) -> str:
    kept = "".join(letter if letter.isprintable() else "?" for letter in text[:_LONGEST])
    return kept.encode("utf-8", "replace").decode()
