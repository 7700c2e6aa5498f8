"""Targets of the local network: what the kernel tells, others announce, and the user names."""

from __future__ import annotations

import json
from contextlib import suppress
from ipaddress import ip_address, ip_interface
from typing import Final

from kapla.identity.key import PeerKey
from kapla.lan.judging import judge
from kapla.lan.netlink import (
    messages,
    parse_address,
    parse_link,
    parse_neighbour,
    parse_routes,
)
from kapla.lan.networks import Gateway, Kind, Network, parse_entry
from kapla.lan.service import COAPS, Service
from kapla.near_report import service_facts
from tests.fuzz.cutting import as_text

__all__ = ["found_service", "netlink", "network_entry"]

_HOME: Final = Network(
    "wlan0",
    3,
    Kind.WIRELESS,
    True,
    (ip_interface("192.168.1.5/24"),),
    (Gateway(ip_address("192.168.1.1"), "02:00:00:00:00:01"),),
)
_ENTRIES: Final = (parse_entry("192.168.1.0/24 via 02:00:00:00:00:01"),)
_LONGEST_FACTS: Final = 1500


def network_entry(data: bytes) -> None:
    """Read what names a network; what is taken for a network never is a prefix alone."""
    with suppress(ValueError):
        entry = parse_entry(as_text(data))
        assert parse_entry(str(entry)) == entry
        assert entry.prefix is None or entry.mac is not None


def netlink(data: bytes) -> None:
    """Read messages of the kernel."""
    for message in messages(data):
        for parse in (parse_link, parse_address, parse_routes, parse_neighbour):
            parse(message.payload)


def found_service(data: bytes) -> None:
    """Judge what somebody announced: lines of its name, addresses and TXT record."""
    name, addresses, *texts = [*as_text(data).split("\n"), "", ""][:20]
    pairs = dict(one.partition("=")[::2] for one in texts)
    service = Service(COAPS, name, 5684, pairs, tuple(addresses.split(" ")))
    judgement = judge(service, [_HOME], _ENTRIES, frozenset(), PeerKey(bytes(32)))
    if judgement.verdict.is_asked:
        assert all(place.address.startswith("192.168.1.") for place in judgement.places)
    told = json.dumps(service_facts(service, judgement.verdict, judgement.key, None))
    assert len(told) <= 2 * _LONGEST_FACTS
    assert json.loads(told)["name"].isprintable()
