"""Whether an address is one of a local network. Pure."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

__all__ = ["is_local_address"]

_LOCAL: Final = tuple(
    map(
        ip_network,
        (
            "127.0.0.0/8",
            "169.254.0.0/16",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "::1/128",
            "fe80::/10",
            "fc00::/7",
        ),
    )
)
"""RFC 1122, 3927, 1918, 4291, 4193."""


def is_local_address(host: str) -> bool:
    """Whether it is of the loopback interface, of a link, or private; other text is not."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in _LOCAL)
