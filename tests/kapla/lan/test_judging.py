"""Whom of those that are found we ask: the table."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from kapla.identity.key import PeerKey
from kapla.lan.judging import Place, Verdict, judge
from kapla.lan.networks import Gateway, Kind, Network, parse_entry
from kapla.lan.service import COAP, COAPS, Service

OWN, FRIEND, STRANGER = (PeerKey(bytes([n]) * 32) for n in (1, 2, 3))
MAC, OTHER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
TEXTS = {"rt": "eris.blocks", "path": "/.well-known/eris", "v": "1", "pk": str(STRANGER)}
SERVICE = Service(COAPS, "desktop", 5684, TEXTS, ("192.168.1.20",))


def wifi(mac: str | None = MAC, *, is_up: bool = True) -> Network:
    gateway = Gateway(ip_address("192.168.1.1"), mac)
    return Network("wlan0", 3, Kind.WIRELESS, is_up, (ip_interface("192.168.1.5/24"),), (gateway,))


CABLE = Network("eth0", 2, Kind.WIRED, True, (ip_interface("10.0.0.5/24"),))
# The same prefix as at home.
TWIN = replace(CABLE, addresses=(ip_interface("192.168.1.6/24"),))
HOME = f"192.168.1.0/24 via {MAC}"


def with_texts(**texts: str) -> Service:
    return replace(SERVICE, texts={**TEXTS, **texts})


def of(key: PeerKey) -> Service:
    return with_texts(pk=str(key))


def without(text: str) -> Service:
    return replace(SERVICE, texts={key: value for key, value in TEXTS.items() if key != text})


def at(*addresses: str) -> Service:
    return replace(SERVICE, addresses=addresses)


@pytest.mark.parametrize(
    ("service", "networks", "entries", "verdict"),
    [
        # On a network that was named, by each way to name it.
        (SERVICE, [wifi()], [HOME], Verdict.TRUSTED),
        (SERVICE, [wifi()], [f"wlan0 via {MAC}"], Verdict.TRUSTED),
        (at("10.0.0.20"), [wifi(), CABLE], ["eth0"], Verdict.TRUSTED),
        # On a foreign one: the same prefix, another gateway; another name; nothing named at all.
        (SERVICE, [wifi(OTHER_MAC)], [HOME], Verdict.FOREIGN),
        (SERVICE, [wifi(OTHER_MAC)], [f"wlan0 via {MAC}"], Verdict.FOREIGN),
        (SERVICE, [wifi()], [f"wlan1 via {MAC}"], Verdict.FOREIGN),
        (SERVICE, [wifi()], ["wlan0"], Verdict.FOREIGN),
        (SERVICE, [wifi()], ["eth0"], Verdict.FOREIGN),
        (SERVICE, [wifi()], [], Verdict.FOREIGN),
        # Not known yet is not trusted.
        (SERVICE, [wifi(None)], [HOME], Verdict.GATEWAY_UNKNOWN),
        (SERVICE, [wifi(None)], [f"10.0.0.0/24 via {MAC}"], Verdict.FOREIGN),
        # Heard on a named network, but at an address that is not there.
        (at("10.0.0.20"), [wifi()], [HOME], Verdict.AWAY),
        (at("8.8.8.8", "127.0.0.1", "fe80::20%9", "192.168.1.5"), [wifi()], [HOME], Verdict.AWAY),
        (at(), [wifi()], [HOME], Verdict.AWAY),
        (SERVICE, [wifi(is_up=False)], [HOME], Verdict.AWAY),
        (SERVICE, [], [HOME], Verdict.AWAY),
        # Our own, on another interface in the same network.
        (at("192.168.1.5"), [wifi(), TWIN], [HOME, "eth0"], Verdict.AWAY),
        (at("192.168.1.6"), [wifi(), TWIN], [HOME, "eth0"], Verdict.AWAY),
        # At an address of another network than the named one.
        (at("10.0.0.20"), [wifi(), CABLE], [HOME], Verdict.FOREIGN),
        # What it announces.
        (replace(SERVICE, kind=COAP), [wifi()], [HOME], Verdict.PLAIN),
        (without("pk"), [wifi()], [HOME], Verdict.KEYLESS),
        (with_texts(pk=""), [wifi()], [HOME], Verdict.KEYLESS),
        (with_texts(pk=str(STRANGER)[:-1]), [wifi()], [HOME], Verdict.KEYLESS),
        (with_texts(pk=str(STRANGER) + "\n"), [wifi()], [HOME], Verdict.KEYLESS),
        (without("rt"), [wifi()], [HOME], Verdict.OTHER),
        (with_texts(rt="light"), [wifi()], [HOME], Verdict.OTHER),
        (with_texts(path="/secret"), [wifi()], [HOME], Verdict.OTHER),
        (with_texts(v="2"), [wifi()], [HOME], Verdict.OTHER),
        (replace(SERVICE, port=0), [wifi()], [HOME], Verdict.OTHER),
        (of(OWN), [wifi()], [HOME], Verdict.OWN),
        # Whose key was named is asked in any network, but nowhere else, and never without TLS.
        (of(FRIEND), [wifi(OTHER_MAC)], [], Verdict.KNOWN),
        (of(FRIEND), [wifi(None)], [HOME], Verdict.KNOWN),
        (of(FRIEND), [wifi()], [HOME], Verdict.KNOWN),
        (of(FRIEND), [CABLE], [HOME], Verdict.AWAY),
        (replace(of(FRIEND), kind=COAP), [wifi()], [HOME], Verdict.PLAIN),
    ],
)
def test_whom_we_ask(
    service: Service, networks: list[Network], entries: list[str], verdict: Verdict
) -> None:
    judgement = judge(service, networks, [parse_entry(one) for one in entries], {FRIEND}, OWN)
    assert judgement.verdict is verdict
    assert bool(judgement.places) is verdict.is_asked
    assert not verdict.is_asked or judgement.key is not None


def test_only_the_interface_of_the_named_network_is_used() -> None:
    entries = [parse_entry("eth0")]
    # Both networks have the address; which of them heard of it is not known.
    judgement = judge(SERVICE, [wifi(OTHER_MAC), TWIN], entries, set(), OWN)
    assert judgement.places == (Place("192.168.1.20", 5684, "eth0"),)


def test_of_many_addresses_those_on_the_named_network_are_used() -> None:
    service = at("10.0.0.20", "192.168.1.20", "203.0.113.1", "192.168.1.21")
    judgement = judge(service, [wifi(), CABLE], [parse_entry(HOME)], set(), OWN)
    assert [one.address for one in judgement.places] == ["192.168.1.20", "192.168.1.21"]


def test_a_peer_that_was_named_is_dialled_by_any_interface() -> None:
    judgement = judge(of(FRIEND), [wifi(), TWIN], [], {FRIEND}, OWN)
    assert judgement.places == (Place("192.168.1.20", 5684),)


def test_without_a_key_of_our_own_nobody_is_taken_for_us() -> None:
    judgement = judge(without("pk"), [wifi()], [parse_entry(HOME)], set(), None)
    assert judgement.verdict is Verdict.KEYLESS
