"""What is announced and found by DNS-SD (RFC 6763): a service, as a value, with its limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

__all__ = ["COAP", "COAPS", "GUIX_PUBLISH", "Service"]

COAP: Final = "_coap._tcp"
"""RFC 8323, section 8: CoAP over TCP,"""

COAPS: Final = "_coaps._tcp"
"""and over TLS."""

GUIX_PUBLISH: Final = "_guix_publish._tcp"
"""What `guix publish --advertise` announces, and `guix-daemon --discover` looks for."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service of the local network. Whatever was found was said by anybody."""

    kind: str
    """As `_coaps._tcp`."""
    name: str
    """Of this one among all of its kind, at most 63 bytes; whoever comes later is renamed."""
    port: int
    texts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The TXT record. A value that is no UTF-8 is not told."""
    addresses: tuple[str, ...] = ()
    """IPv4 and IPv6 addresses, a link-local one with its scope.

    To announce: none means all, `0.0.0.0` all of IPv4, `::` all of IPv6.
    """
    host: str = ""
    """The name of the machine, as `machine.local.`; to announce: empty means one of its own."""
