"""What is announced of listeners, and what is told of who was found."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface

import pytest

from kapla.announcing import Listener, services_of
from kapla.cli.found import found_lines
from kapla.config import load_config
from kapla.errors import ConfigError
from kapla.identity.key import PeerKey
from kapla.lan.judging import Verdict
from kapla.lan.networks import Gateway, Kind, Network, parse_entries
from kapla.lan.service import COAP, COAPS, Service
from kapla.near_report import network_facts, service_facts
from kapla.urls import TcpEndpoint, TlsEndpoint

KEY = PeerKey(bytes(32))
TEXTS = {"rt": "eris.blocks", "path": "/.well-known/eris", "v": "1"}
HOME = Network(
    "wlan0",
    3,
    Kind.WIRELESS,
    True,
    (ip_interface("10.0.0.5/24"),),
    (Gateway(ip_address("10.0.0.1"), "02:00:00:00:00:01"),),
)
ENTRY = "10.0.0.0/24 via 02:00:00:00:00:01"


def test_a_listener_is_announced_as_it_is() -> None:
    services = services_of(
        [
            Listener(TlsEndpoint("0.0.0.0", 5684), KEY),
            Listener(TlsEndpoint("::", 5684), KEY),
            Listener(TlsEndpoint("10.0.0.5", 5685)),
            Listener(TcpEndpoint("fe80::1%eth0", 5683)),
        ],
        "desktop",
    )
    assert services == [
        Service(COAPS, "desktop", 5684, {**TEXTS, "pk": str(KEY)}, ("0.0.0.0", "::")),
        # With files of certificates: there is no key to show.
        Service(COAPS, "desktop", 5685, TEXTS, ("10.0.0.5",)),
        Service(COAP, "desktop", 5683, TEXTS, ("fe80::1",)),
    ]


def test_what_nobody_else_can_reach_is_not_announced() -> None:
    listeners = [
        Listener(TcpEndpoint("127.0.0.1", 5683)),
        Listener(TlsEndpoint("::1", 5684), KEY),
    ]
    assert services_of(listeners, "desktop") == []


def test_settings_are_read_and_go_together() -> None:
    environment = {
        "KAPLA_STORE": "/nowhere/store",
        "KAPLA_LISTEN": "coap+unix:///nowhere/eris.sock",
        "KAPLA_CONFIG": "/dev/null",
        "KAPLA_ADVERTISE": "true",
        "KAPLA_DISCOVER": "lan",
        "KAPLA_DISCOVER_NETWORKS": f"eth0,{ENTRY}",
    }
    config = load_config(environment=environment)
    assert (config.advertise, config.discover) == (True, "lan")
    assert [str(one) for one in config.discover_networks] == ["eth0", ENTRY]
    for wrong in ({"KAPLA_DISCOVER": ""}, {"KAPLA_DISCOVER": "wan"}, {"KAPLA_ADVERTISE": "maybe"}):
        with pytest.raises(ConfigError):
            load_config(environment={**environment, **wrong})
    with pytest.raises(ConfigError, match="network 1: a prefix alone"):
        load_config(environment={**environment, "KAPLA_DISCOVER_NETWORKS": "10.0.0.0/24"})


def test_what_others_announced_is_told_bounded_and_without_what_does_not_show() -> None:
    addresses = tuple(f"10.0.0.{number}" for number in range(16))
    service = Service(COAPS, "a\x1b[2J\u202eb\ud800" + "x" * 500, 5684, TEXTS, addresses)
    facts = service_facts(service, Verdict.TRUSTED, KEY, "connected")
    assert len(str(facts["name"])) == 63
    assert str(facts["name"]).startswith("a?[2J?b?x")
    assert facts["addresses"] == list(addresses[:4])
    # Twenty of them are a page, which has to fit into a message with a block.
    assert 20 * len(json.dumps(facts).encode()) < 32768


def test_people_see_who_is_asked_and_the_entry_to_paste() -> None:
    service = Service(COAPS, "desktop", 5684, TEXTS, ("fd00::2",))
    told = [
        network_facts(HOME, ()),
        service_facts(service, Verdict.FOREIGN, KEY, None),
        service_facts(service, Verdict.TRUSTED, KEY, "waiting"),
    ]
    assert told[0] is not None
    lines = found_lines([one for one in told if one])
    assert any(line.startswith("no ") and "not in discover-networks" in line for line in lines)
    assert any(line.startswith("yes") and "waiting: its network" in line for line in lines)
    assert any("[fd00::2]:5684" in line for line in lines)
    assert lines[-1] == f'discover-networks = ["{ENTRY}"]'
    named = network_facts(HOME, parse_entries([ENTRY]))
    assert named is not None
    assert not any("discover-networks" in line for line in found_lines([named]))


def test_people_are_told_when_there_is_nothing() -> None:
    assert found_lines([]) == ["Nobody was found.", "", "This machine is in no network."]
    loopback = Network("lo", 1, Kind.LOOPBACK, True, (ip_interface("127.0.0.1/8"),))
    assert network_facts(loopback, ()) is None
