"""The networks of this machine as values, and those that the user named. Pure.

A network is what an interface is in. `discover-networks` names those whose daemons are trusted
with what is asked for. An address prefix is the same in a million homes and cafés, and so is the
name of an interface, so both need the link-layer address of the gateway beside them; but where a
cable or a tunnel says where it ends, its interface is enough:

    192.168.1.0/24 via aa:bb:cc:dd:ee:ff
    wlan0 via aa:bb:cc:dd:ee:ff
    eth0
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

from kapla.errors import ConfigError

__all__ = [
    "Entry",
    "Gateway",
    "IpNetwork",
    "Kind",
    "Network",
    "check_entries",
    "is_in",
    "is_of_this_machine",
    "is_on_link",
    "might_match",
    "names",
    "parse_entries",
    "parse_entry",
    "suggested",
]

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

_MAC: Final = re.compile(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}")
_NAME: Final = re.compile(r"[^\s/:%]{1,15}")
_MOST_ENTRIES: Final = 64
_NOBODY: Final = "00:00:00:00:00:00"


class Kind(Enum):
    """What an interface is. Whatever is not known for certain is WIRELESS."""

    WIRED = "wired"
    TUNNEL = "tunnel"
    WIRELESS = "wireless"
    LOOPBACK = "loopback"


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where a default route goes, and its link-layer address, if that is known."""

    address: IpAddress
    mac: str | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """An interface of this machine, and what it is in."""

    name: str
    index: int
    kind: Kind
    is_up: bool = True
    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()
    """This machine's, each with its prefix."""
    gateways: tuple[Gateway, ...] = ()

    @property
    def prefixes(self) -> list[IpNetwork]:
        """Those of its addresses, but for link-local ones, which are the same everywhere."""
        found = [one.network for one in self.addresses if not one.is_link_local]
        return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Entry:
    """A network that the user named: by one of `prefix` and `interface`."""

    prefix: IpNetwork | None = None
    interface: str | None = None
    mac: str | None = None
    """Of the gateway, in lower case."""

    def __str__(self) -> str:
        place = str(self.prefix or self.interface)
        return place if self.mac is None else f"{place} via {self.mac}"


def parse_entries(value: object) -> tuple[Entry, ...]:
    """Read the setting: a list, or in the environment a text with commas between them.

    Raises: ValueError, naming the entry by its number.
    """
    texts = value.split(",") if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
        raise ValueError("a list of networks is expected")
    if len(texts) > _MOST_ENTRIES:
        raise ValueError(f"more than {_MOST_ENTRIES} networks")
    entries = []
    for number, text in enumerate(texts, 1):
        try:
            entries.append(parse_entry(text))
        except ValueError as error:
            raise ValueError(f"network {number}: {error}") from None
    return tuple(entries)


def parse_entry(text: str) -> Entry:
    """Read one network.

    Raises: ValueError, with the reason.
    """
    match text.split():
        case [place]:
            return _alone(place)
        case [place, "via", mac]:
            return _with_gateway(place, mac)
        case _:
            raise ValueError(
                "a prefix or an interface is expected, then `via` and the link-layer address of the"
                " gateway, as in 192.168.1.0/24 via aa:bb:cc:dd:ee:ff"
            )


def _alone(place: str) -> Entry:
    if _MAC.fullmatch(place):
        raise ValueError(
            "a gateway alone names no network: write its prefix and `via` in front of the address"
        )
    if "/" in place or _is_address(place):
        raise ValueError(
            "a prefix alone names no network, as many have the same: write `via` and the link-layer"
            " address of its gateway behind it; kapla peers --found prints it"
        )
    return Entry(interface=_interface(place))


def _with_gateway(place: str, mac: str) -> Entry:
    if not _MAC.fullmatch(mac) or mac == _NOBODY or int(mac[:2], 16) & 1:
        raise ValueError("the link-layer address of a gateway is expected, as aa:bb:cc:dd:ee:ff")
    mac = mac.lower()
    if "/" in place or _is_address(place):
        return Entry(prefix=_prefix(place), mac=mac)
    return Entry(interface=_interface(place), mac=mac)


def _prefix(text: str) -> IpNetwork:
    try:
        prefix = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            "the prefix makes no sense: one is 192.168.1.0/24, or 2001:db8::/64"
        ) from None
    if "/" not in text or str(prefix.network_address) != str(ip_address(text.partition("/")[0])):
        raise ValueError(f"this is an address in a network, whose prefix may be {prefix}")
    if prefix.is_link_local or prefix.is_multicast or prefix.is_loopback:
        raise ValueError(f"the prefix {prefix} is of no network of its own")
    return prefix


def _interface(text: str) -> str:
    if not _NAME.fullmatch(text) or not text.isprintable() or text in (".", "..", "lo"):
        raise ValueError("the name of an interface is expected, as eth0")
    return text


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def check_entries(entries: Iterable[Entry], networks: Iterable[Network]) -> None:
    """Refuse interfaces that are named alone, are there, and are no cable or tunnel.

    Raises: ConfigError.
    """
    kinds = {network.name: network.kind for network in networks}
    for entry in entries:
        kind = kinds.get(entry.interface or "")
        if entry.mac is None and kind not in (None, Kind.WIRED, Kind.TUNNEL):
            raise ConfigError(
                f"discover-networks: {entry.interface} alone names no network, as it is Wi-Fi or"
                " not known to be a cable or a tunnel: write `via` and the link-layer address of"
                " its gateway behind it; kapla peers --found prints it"
            )


def names(entry: Entry, network: Network) -> bool:
    """Whether this is the network that the user named."""
    if not _could_be(entry, network):
        return False
    if entry.mac is None:
        return True
    return any(one.mac == entry.mac for one in _gateways(entry, network))


def might_match(entry: Entry, network: Network) -> bool:
    """Whether this is that network, or may be as soon as its gateway is known."""
    if names(entry, network):
        return True
    found = _gateways(entry, network)
    return _could_be(entry, network) and any(one.mac is None for one in found)


def _could_be(entry: Entry, network: Network) -> bool:
    """Whether all is right but the gateway, of which nothing is said here."""
    if not network.is_up or network.kind is Kind.LOOPBACK:
        return False
    if entry.prefix is not None:
        return entry.mac is not None and entry.prefix in network.prefixes
    if entry.mac is None and network.kind not in (Kind.WIRED, Kind.TUNNEL):
        return False
    return entry.interface == network.name


def _gateways(entry: Entry, network: Network) -> Sequence[Gateway]:
    """Those that count: of the prefix's own family."""
    if entry.prefix is None:
        return network.gateways
    return [one for one in network.gateways if one.address.version == entry.prefix.version]


def is_of_this_machine(networks: Iterable[Network], text: str) -> bool:
    """Whether an address is one of ours, in whichever network; link-local ones are not compared.

    Two of our interfaces may be in one network: then the one is beside the other.
    """
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    ours = (one.ip for network in networks for one in network.addresses)
    return not address.is_link_local and address in ours


def is_in(text: str, prefixes: Iterable[IpNetwork]) -> bool:
    """Whether an address, perhaps with a scope, or of IPv4 as IPv6 has it, is in one of these."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in prefix for prefix in prefixes)


def is_on_link(network: Network, text: str) -> bool:
    """Whether an address that was announced, perhaps with a scope, is a neighbour's there."""
    plain, _, scope = text.partition("%")
    try:
        address = ip_address(plain)
    except ValueError:
        return False
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        return False
    if address.version == 6 and address.is_link_local and scope not in _scopes(network):
        return False
    if not network.is_up or address in [one.ip for one in network.addresses]:
        return False
    return any(_is_beside(one, address) for one in network.addresses)


def _scopes(network: Network) -> tuple[str, str]:
    return str(network.index), network.name


def _is_beside(own: IPv4Interface | IPv6Interface, address: IpAddress) -> bool:
    """Whether it is in the same prefix, and not that of everybody there."""
    prefix = own.network
    if address.version != own.version or address not in prefix:
        return False
    return address.version == 6 or prefix.num_addresses <= 2 or address != prefix.broadcast_address


def suggested(network: Network) -> Entry | None:
    """The entry that would trust this network as it is now; None: there is none."""
    if not network.is_up or network.kind is Kind.LOOPBACK:
        return None
    for gateway in network.gateways:
        for prefix in network.prefixes:
            if gateway.mac and gateway.address in prefix:
                return Entry(prefix=prefix, mac=gateway.mac)
    macs = [gateway.mac for gateway in network.gateways if gateway.mac]
    if macs:
        return Entry(interface=network.name, mac=macs[0])
    if network.kind in (Kind.WIRED, Kind.TUNNEL) and network.addresses:
        return Entry(interface=network.name)
    return None
