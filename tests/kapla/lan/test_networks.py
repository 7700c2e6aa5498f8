"""Networks: how they are named, which is which, and who is in them."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kapla.errors import ConfigError
from kapla.lan.networks import (
    Entry,
    Gateway,
    Kind,
    Network,
    check_entries,
    is_in,
    is_of_this_machine,
    is_on_link,
    might_match,
    names,
    parse_entries,
    parse_entry,
    suggested,
)

MAC = "02:00:00:00:00:01"
OTHER = "02:00:00:00:00:02"
HOME = Network(
    "wlan0",
    3,
    Kind.WIRELESS,
    True,
    (ip_interface("192.168.1.5/24"), ip_interface("fd00::5/64"), ip_interface("fe80::5/64")),
    (Gateway(ip_address("192.168.1.1"), MAC), Gateway(ip_address("fe80::1"), OTHER)),
)


def like(network: Network, **changes: object) -> Network:
    fields = {name: getattr(network, name) for name in Network.__slots__}
    return Network(**{**fields, **changes})


@pytest.mark.parametrize(
    "text",
    [
        f"192.168.1.0/24 via {MAC}",
        f"fd00::/64 via {MAC}",
        f"wlan0 via {MAC}",
        "eth0",
        "wg-home.1",
    ],
)
def test_an_entry_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_entry(text)) == text


def test_letters_of_a_gateway_may_be_capitals() -> None:
    assert parse_entry("wlan0 via AA:BB:CC:DD:EE:0F").mac == "aa:bb:cc:dd:ee:0f"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("192.168.1.0/24", "a prefix alone"),
        ("192.168.1.1", "a prefix alone"),
        ("fd00::/64", "a prefix alone"),
        (MAC, "a gateway alone"),
        (f"192.168.1.7/24 via {MAC}", "whose prefix may be 192.168.1.0/24"),
        (f"192.168.1.0 via {MAC}", "this is an address"),
        (f"192.168.1.0/33 via {MAC}", "the prefix makes no sense"),
        (f"fe80::/64 via {MAC}", "of no network of its own"),
        (f"169.254.0.0/16 via {MAC}", "of no network of its own"),
        (f"224.0.0.0/4 via {MAC}", "of no network of its own"),
        ("wlan0 via 02:00:00:00:00", "link-layer address"),
        ("wlan0 via 00:00:00:00:00:00", "link-layer address"),
        ("wlan0 via ff:ff:ff:ff:ff:ff", "link-layer address"),
        ("wlan0 via 192.168.1.1", "link-layer address"),
        (f"wlan0 through {MAC}", "a prefix or an interface"),
        (f"wlan0 via {MAC} {MAC}", "a prefix or an interface"),
        ("", "a prefix or an interface"),
        ("lo", "an interface"),
        ("a-name-that-is-too-long", "an interface"),
        ("et\x1bh0", "an interface"),
        ("..", "an interface"),
    ],
)
def test_what_names_no_network_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_entry(text)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        entry = parse_entry(text)
    except ValueError:
        return
    assert parse_entry(str(entry)) == entry
    assert entry.mac is not None or entry.prefix is None


def test_entries_are_a_list_or_a_text_with_commas() -> None:
    entries = parse_entries(["eth0", f"wlan0 via {MAC}"])
    assert parse_entries(f"eth0,wlan0 via {MAC}") == entries
    for wrong in (7, ["eth0", 7], ["eth0", "10.0.0.0/8"], ["eth0"] * 65):
        with pytest.raises(ValueError, match=r"list|network 2|more than 64"):
            parse_entries(wrong)


@pytest.mark.parametrize(
    ("text", "network", "is_named", "may_be"),
    [
        (f"192.168.1.0/24 via {MAC}", HOME, True, True),
        (f"192.168.1.0/24 via {OTHER}", HOME, False, False),
        # That of the other family's gateway.
        (f"fd00::/64 via {OTHER}", HOME, True, True),
        (f"fd00::/64 via {MAC}", HOME, False, False),
        (f"192.168.1.0/25 via {MAC}", HOME, False, False),
        (f"192.168.0.0/16 via {MAC}", HOME, False, False),
        (f"192.168.2.0/24 via {MAC}", HOME, False, False),
        (f"wlan0 via {MAC}", HOME, True, True),
        (f"wlan0 via {OTHER}", HOME, True, True),
        (f"wlan1 via {MAC}", HOME, False, False),
        # Wi-Fi alone never, not even what is not known.
        ("wlan0", HOME, False, False),
        ("wlan0", like(HOME, kind=Kind.WIRED), True, True),
        ("wlan0", like(HOME, kind=Kind.TUNNEL), True, True),
        ("wlan0", like(HOME, kind=Kind.LOOPBACK), False, False),
        (f"wlan0 via {MAC}", like(HOME, is_up=False), False, False),
        ("wlan0", like(HOME, kind=Kind.WIRED, is_up=False), False, False),
        (f"192.168.1.0/24 via {MAC}", like(HOME, gateways=()), False, False),
        (
            f"192.168.1.0/24 via {MAC}",
            like(HOME, gateways=(Gateway(ip_address("192.168.1.1")),)),
            False,
            True,
        ),
    ],
)
def test_which_network_an_entry_names(
    text: str, network: Network, is_named: bool, may_be: bool
) -> None:
    entry = parse_entry(text)
    assert (names(entry, network), might_match(entry, network)) == (is_named, may_be)


def test_a_prefix_without_a_gateway_names_nothing_wherever_it_comes_from() -> None:
    assert not names(Entry(prefix=ip_network("192.168.1.0/24")), HOME)


@pytest.mark.parametrize(
    ("text", "is_there"),
    [
        ("192.168.1.20", True),
        ("192.168.1.5", False),
        ("192.168.1.255", False),
        ("192.168.2.20", False),
        ("8.8.8.8", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.251", False),
        ("fd00::20", True),
        ("fd00::5", False),
        ("fd01::20", False),
        ("fe80::20%3", True),
        ("fe80::20%wlan0", True),
        ("fe80::20%4", False),
        ("fe80::20", False),
        ("::1", False),
        ("desktop.local", False),
        ("", False),
    ],
)
def test_who_is_a_neighbour(text: str, is_there: bool) -> None:
    assert is_on_link(HOME, text) is is_there
    assert not is_on_link(like(HOME, is_up=False), text)


def test_an_address_of_this_machine_is_nobody_elses_whatever_its_prefix() -> None:
    two = like(HOME, addresses=(ip_interface("10.0.0.1/24"), ip_interface("10.0.0.2/24")))
    assert not is_on_link(two, "10.0.0.1")
    assert not is_on_link(two, "10.0.0.2")
    assert is_on_link(two, "10.0.0.3")


@pytest.mark.parametrize(
    ("network", "entry"),
    [
        (HOME, f"192.168.1.0/24 via {MAC}"),
        (like(HOME, gateways=HOME.gateways[1:]), f"wlan0 via {OTHER}"),
        (like(HOME, gateways=()), None),
        (like(HOME, gateways=(), kind=Kind.WIRED), "wlan0"),
        (like(HOME, kind=Kind.WIRED), f"192.168.1.0/24 via {MAC}"),
        (like(HOME, is_up=False), None),
    ],
)
def test_what_is_suggested_names_the_network(network: Network, entry: str | None) -> None:
    found = suggested(network)
    assert (None if found is None else str(found)) == entry
    assert found is None or names(parse_entry(str(found)), network)


def test_wifi_alone_is_refused_where_it_is_seen() -> None:
    entries = parse_entries(["wlan0", "eth7"])
    with pytest.raises(ConfigError, match="wlan0 alone names no network"):
        check_entries(entries, [HOME])
    check_entries(entries, [like(HOME, kind=Kind.WIRED)])
    check_entries(parse_entries([f"wlan0 via {MAC}"]), [HOME])
    check_entries(entries, [])


@pytest.mark.parametrize(
    ("text", "is_near"),
    [
        ("192.168.1.77", True),
        ("::ffff:192.168.1.77", True),
        ("fe80::7%wlan0", True),
        ("fe80::7", True),
        ("192.168.2.77", False),
        ("::ffff:192.168.2.77", False),
        ("2001:db8::7", False),
        ("nowhere", False),
        ("", False),
    ],
)
def test_who_is_near_has_an_address_in_a_prefix_of_ours(text: str, is_near: bool) -> None:
    prefixes = [ip_network("192.168.1.0/24"), ip_network("fe80::/64")]
    assert is_in(text, prefixes) is is_near
    assert not is_in(text, [])


def test_an_address_of_this_machine_is_known_in_whichever_network() -> None:
    twin = like(HOME, name="eth0", addresses=(ip_interface("192.168.1.6/24"),))
    for text in ("192.168.1.5", "192.168.1.6", "fd00::5"):
        assert is_of_this_machine([HOME, twin], text)
    # Of link-local ones each link may have that one.
    for text in ("192.168.1.7", "fe80::5%eth0", "nobody"):
        assert not is_of_this_machine([HOME, twin], text)
