"""A router that hides laptops: a bridge inside, network address translation by nftables."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.network.namespaces import inside, run, within
from benchmarks.network.plan import Home, Nat
from benchmarks.network.tun import DEVICE, add_route

__all__ = ["furnish"]

_BRIDGE: Final = "lan"
_INSIDE: Final = "192.168.77.{}"
_RULES: Final = """
table ip home {{
  chain leaving {{
    type nat hook postrouting priority srcnat;
    oifname "{device}" {masquerade};
  }}
  chain passing {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept;
    iifname "{bridge}" accept;
  }}
  chain arriving {{
    type filter hook input priority filter;
    ct state established,related accept;
    iifname "{device}" drop;
  }}
}}
"""
_MASQUERADE: Final = {
    Nat.PORT_PRESERVING: "masquerade",
    Nat.SYMMETRIC: "masquerade fully-random",
}


def furnish(home: Home, router: str, laptops: list[str]) -> None:
    """Join namespaces of laptops to that of their router, whose line is there already."""
    add = ("ip", "-n", router, "link", "add", "name", _BRIDGE, "address", "02:00:00:00:00:01")
    run(*add, "type", "bridge")
    run("ip", "-n", router, "address", "add", f"{_INSIDE.format(1)}/24", "dev", _BRIDGE)
    run("ip", "-n", router, "link", "set", "dev", _BRIDGE, "up")
    for number, laptop in enumerate(laptops, 2):
        _plug_in(router, laptop, number)
    with inside(router):
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    rules = _RULES.format(device=DEVICE, bridge=_BRIDGE, masquerade=_MASQUERADE[home.nat])
    run(*within(router, "nft", "-f", "-"), text=rules)


def _plug_in(router: str, laptop: str, number: int) -> None:
    socket = f"socket{number}"
    add = ("ip", "-n", laptop, "link", "add", DEVICE, "type", "veth")
    run(*add, "peer", "name", socket, "netns", router)
    run("ip", "-n", router, "link", "set", "dev", socket, "master", _BRIDGE, "up")
    run("ip", "-n", laptop, "address", "add", f"{_INSIDE.format(number)}/24", "dev", DEVICE)
    run("ip", "-n", laptop, "link", "set", "dev", DEVICE, "up")
    add_route(laptop, "default", "via", _INSIDE.format(1))
