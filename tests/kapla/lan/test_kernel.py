"""What the kernel tells of networks: its messages, and kinds of interfaces."""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kapla.lan.kinds import kinds_of
from kapla.lan.machine import look_at_networks, prefixes_here
from kapla.lan.netlink import (
    Address,
    Dump,
    Link,
    Message,
    Neighbour,
    Route,
    attributes,
    format_dump,
    messages,
    parse_address,
    parse_link,
    parse_neighbour,
    parse_routes,
)
from kapla.lan.networks import Kind

UP = 0x10001


def attribute(kind: int, data: bytes) -> bytes:
    return (struct.pack("=HH", 4 + len(data), kind) + data).ljust((7 + len(data)) & ~3, b"\0")


def message(kind: int, payload: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, 2, 1, 0) + payload


def number(value: int) -> bytes:
    return struct.pack("=i", value)


LINK = struct.pack("=BxHiII", 0, 1, 7, UP, 0) + b"".join(
    (
        attribute(3, b"br0\0"),
        attribute(18, attribute(1, b"bridge\0")),
        attribute(5, number(4)),
        attribute(10, number(9)),
    )
)
ADDRESS = struct.pack("=BBBBI", 2, 24, 0, 0, 7) + b"".join(
    (attribute(1, bytes([10, 0, 0, 9])), attribute(2, bytes([10, 0, 0, 5])))
)
GATEWAY = attribute(5, bytes([10, 0, 0, 1]))
ROUTE = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 3, 0, 1, 0) + GATEWAY + attribute(4, number(7))
HOPS = attribute(
    9,
    struct.pack("=HBBi", 16, 0, 0, 7) + GATEWAY + struct.pack("=HBBi", 16, 1, 0, 8) + GATEWAY,
)
MULTIPATH = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 3, 0, 1, 0) + HOPS
SPECIFIC = struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 254, 3, 0, 1, 0) + GATEWAY
NEIGHBOUR = struct.pack("=BxxxiHBB", 2, 7, 2, 0, 1) + b"".join(
    (attribute(1, bytes([10, 0, 0, 1])), attribute(2, bytes([2, 0, 0, 0, 0, 1])))
)


def test_messages_are_read() -> None:
    assert parse_link(LINK) == Link(7, "br0", 1, UP, "bridge", 4, False, 9)
    assert parse_address(ADDRESS) == Address(7, ip_address("10.0.0.5"), 24, ip_address("10.0.0.9"))
    assert parse_routes(ROUTE) == [Route(7, ip_address("10.0.0.1"))]
    # One of its ways is dead.
    assert parse_routes(MULTIPATH) == [Route(7, ip_address("10.0.0.1"))]
    assert parse_routes(SPECIFIC) == []
    assert parse_neighbour(NEIGHBOUR) == Neighbour(
        7, ip_address("10.0.0.1"), "02:00:00:00:00:01", 2
    )


def test_a_datagram_holds_several_messages_and_one_that_is_cut_off_is_none() -> None:
    data = message(16, LINK) + message(20, ADDRESS)
    assert list(messages(data)) == [Message(16, 2, LINK), Message(20, 2, ADDRESS)]
    assert list(messages(data[:-1])) == [Message(16, 2, LINK)]
    [asked] = messages(format_dump(Dump.LINKS, 5))
    assert asked.kind == Dump.LINKS


@given(st.binary(max_size=200))
@example(LINK[:-1])
@example(ROUTE[:20])
@example(MULTIPATH[:-6])
def test_any_bytes_are_read_to_the_end(data: bytes) -> None:
    list(messages(data))
    attributes(data, 0)
    for parse in (parse_link, parse_address, parse_routes, parse_neighbour):
        parse(data)


def device(sys: Path, link: Link, *files: str, uevent: str = "INTERFACE=x\n") -> Link:
    """Its files, as of a device."""
    place = sys / link.name
    place.mkdir()
    (place / "ifindex").write_text(f"{link.index}\n")
    (place / "uevent").write_text(uevent)
    for file in files:
        (place / file).mkdir()
    return link


def kind(sys: Path, *links: Link) -> Kind:
    """That of the first."""
    return kinds_of({one.index: one for one in links}, sys)[links[0].index]


def test_a_device_of_ethernet_is_a_cable(tmp_path: Path) -> None:
    assert kind(tmp_path, device(tmp_path, Link(2, "eth0", 1, UP), "device")) is Kind.WIRED


@pytest.mark.parametrize(
    ("files", "uevent"),
    [
        (("device", "wireless"), ""),
        (("device", "phy80211"), ""),
        (("device",), "DEVTYPE=wlan\n"),
        (("device",), "DEVTYPE=wwan\n"),
        (("device",), "DEVTYPE=bluetooth\n"),
        ((), ""),
    ],
)
def test_what_is_more_than_a_cable_or_not_known_is_wifi(
    tmp_path: Path, files: tuple[str, ...], uevent: str
) -> None:
    link = device(tmp_path, Link(2, "eth0", 1, UP), *files, uevent=uevent)
    assert kind(tmp_path, link) is Kind.WIRELESS


def test_files_of_another_namespace_count_for_nothing(tmp_path: Path) -> None:
    device(tmp_path, Link(2, "eth0", 1, UP), "device")
    assert kind(tmp_path, Link(5, "eth0", 1, UP)) is Kind.WIRELESS
    assert kind(tmp_path, Link(5, "../eth0", 1, UP)) is Kind.WIRELESS


@pytest.mark.parametrize(
    ("made_by", "found"),
    [
        ("wireguard", Kind.TUNNEL),
        ("tun", Kind.TUNNEL),
        ("veth", Kind.WIRED),
        ("dummy", Kind.WIRELESS),
        ("ifb", Kind.WIRELESS),
        # Without anything below.
        ("bridge", Kind.WIRELESS),
        ("vlan", Kind.WIRELESS),
    ],
)
def test_what_the_kernel_made_says_what_it_is(tmp_path: Path, made_by: str, found: Kind) -> None:
    assert kind(tmp_path, Link(2, "x0", 1, UP, made_by)) is found


def test_loopback_is_nothing_else(tmp_path: Path) -> None:
    assert kind(tmp_path, Link(1, "lo", 772, UP | 8)) is Kind.LOOPBACK


def test_what_stands_on_others_is_the_worst_of_them(tmp_path: Path) -> None:
    cable = device(tmp_path, Link(2, "eth0", 1, UP), "device")
    wifi = device(tmp_path, Link(3, "wlan0", 1, UP), "device", "wireless")

    def member(link: Link) -> Link:
        return Link(link.index, link.name, 1, UP, link.kind, master=9)

    bridge = Link(9, "br0", 1, UP, "bridge")
    assert kind(tmp_path, bridge, member(cable)) is Kind.WIRED
    assert kind(tmp_path, bridge, member(cable), member(Link(4, "v", 1, UP, "veth"))) is Kind.WIRED
    assert kind(tmp_path, bridge, member(cable), member(wifi)) is Kind.WIRELESS
    assert kind(tmp_path, Link(9, "bond0", 1, UP, "bond"), member(wifi)) is Kind.WIRELESS
    assert kind(tmp_path, Link(9, "v.1", 1, UP, "vlan", below=2), cable) is Kind.WIRED
    assert kind(tmp_path, Link(9, "v.1", 1, UP, "vlan", below=3), wifi) is Kind.WIRELESS
    # It stands on something of another namespace, which happens to have the same number.
    elsewhere = Link(9, "v.1", 1, UP, "macvlan", below=2, is_below_elsewhere=True)
    assert kind(tmp_path, elsewhere, cable) is Kind.WIRELESS
    circle = Link(9, "v.1", 1, UP, "vlan", below=8), Link(8, "v.2", 1, UP, "vlan", below=9)
    assert kind(tmp_path, *circle) is Kind.WIRELESS


def test_this_machine_has_a_loopback_network() -> None:
    [loopback] = [one for one in look_at_networks() if one.name == "lo"]
    assert loopback.kind is Kind.LOOPBACK
    assert "127.0.0.1" in [str(one.ip) for one in loopback.addresses] or not loopback.is_up
    assert ip_network("127.0.0.0/8") in prefixes_here() or not loopback.is_up
