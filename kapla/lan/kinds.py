"""What kind an interface is: a cable, a tunnel, or Wi-Fi, as which all counts that is not known.

What the kernel made by itself tells its kind (a `veth`, a `bridge`, `wireguard`); a device tells
by its files in /sys/class/net. These may be of another network namespace than we are: they count
only where they have the same number. Whatever stands on others is the worst of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from kapla.lan.netlink import Flag, Link
from kapla.lan.networks import Kind

__all__ = ["kinds_of"]

_SYS: Final = Path("/sys/class/net")
_ETHER: Final = 1
_TUNNELS: Final = frozenset(
    {"gre", "gretap", "ip6gre", "ip6tnl", "ipip", "sit", "tun", "vti", "wireguard", "xfrm"}
)
_STACKED: Final = frozenset({"bond", "bridge", "ipvlan", "macvlan", "team", "vlan"})
_DEEPEST: Final = 8
_WORST_FIRST: Final = (Kind.WIRELESS, Kind.LOOPBACK, Kind.TUNNEL, Kind.WIRED)


def kinds_of(links: Mapping[int, Link], sys: Path = _SYS) -> dict[int, Kind]:
    """The kind of each, by its index."""
    return {index: _kind(link, links, sys, 0) for index, link in links.items()}


def _kind(link: Link, links: Mapping[int, Link], sys: Path, depth: int) -> Kind:
    if link.flags & Flag.LOOPBACK:
        return Kind.LOOPBACK
    if depth > _DEEPEST:
        return Kind.WIRELESS
    if link.kind in _STACKED:
        below = _below(link, links)
        if link.is_below_elsewhere or not below:
            return Kind.WIRELESS
        found = [_kind(one, links, sys, depth + 1) for one in below]
        return min(found, key=_WORST_FIRST.index)
    if link.kind in _TUNNELS:
        return Kind.TUNNEL
    if link.kind == "veth":
        return Kind.WIRED
    return Kind.WIRED if not link.kind and _is_wired_device(link, sys) else Kind.WIRELESS


def _below(link: Link, links: Mapping[int, Link]) -> list[Link]:
    """What it stands on, or who is in it."""
    members = [one for one in links.values() if one.master == link.index]
    if link.below is not None and link.below != link.index and link.below in links:
        members.append(links[link.below])
    return members


def _is_wired_device(link: Link, sys: Path) -> bool:
    """A device of Ethernet, of which nothing tells that it is more than that."""
    place = sys / link.name
    if link.hardware != _ETHER or "/" in link.name or _read(place / "ifindex") != str(link.index):
        return False
    if any((place / name).exists() for name in ("wireless", "phy80211", "tun_flags")):
        return False
    # Wi-Fi, mobile networks, Bluetooth and more name their kind; a cable does not.
    return (place / "device").exists() and "DEVTYPE=" not in _read(place / "uevent")


def _read(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text().strip()
    return ""
