"""What `kapla peers --found` shows: who is near, and how to trust the networks that we are in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from eris_fs.model import printable
from kapla.cli.columns import table

__all__ = ["found_lines"]

_SERVICES: Final = ("ASKED", "KIND", "NAME", "ADDRESS", "KEY", "NOTE")
_NETWORKS: Final = ("NETWORK", "IS", "NAMED", "PREFIXES", "GATEWAYS")
_NONE: Final = "-"


def found_lines(told: Sequence[dict[str, Any]]) -> list[str]:
    """Lines for people. Raises: KeyError, TypeError, AttributeError, if it is no such list."""
    networks = [one for one in told if one["what"] == "network"]
    services = [one for one in told if one["what"] == "service"]
    parts = [
        table(_SERVICES, [_service(one) for one in services]) or ["Nobody was found."],
        table(_NETWORKS, [_network(one) for one in networks]) or ["This machine is in no network."],
        _entries(networks),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part).split("\n")


def _service(one: dict[str, Any]) -> list[str]:
    place = one["addresses"][0] if one["addresses"] else _NONE
    host = f"[{place}]" if ":" in place else place
    note = one["why"] if one["state"] is None else f"{one['state']}: {one['why']}"
    return [
        "yes" if one["asked"] else "no",
        printable(one["kind"]),
        printable(one["name"]),
        printable(f"{host}:{one['port']}"),
        printable(one["key"] or _NONE),
        printable(note),
    ]


def _network(one: dict[str, Any]) -> list[str]:
    gateways = [f"{each['address']} ({each['mac'] or 'not known'})" for each in one["gateways"]]
    return [
        printable(one["interface"]),
        "Wi-Fi" if one["kind"] == "wireless" else printable(one["kind"]),
        "yes" if one["named"] else "no",
        printable(", ".join(one["prefixes"]) or _NONE),
        printable(", ".join(gateways) or _NONE),
    ]


def _entries(networks: Sequence[dict[str, Any]]) -> list[str]:
    """What would trust those that are not named yet, as it stands in the settings."""
    entries = [one["entry"] for one in networks if one["entry"] and not one["named"]]
    if not entries:
        return []
    return [
        "To ask whoever is found there, name those that are yours in the settings:",
        *(f'discover-networks = ["{printable(one)}"]' for one in entries),
    ]
