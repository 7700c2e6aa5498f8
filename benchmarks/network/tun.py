"""The device through which a namespace reaches the network: what is sent there, a program reads."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Final

from benchmarks.network.namespaces import inside, run

__all__ = ["DEVICE", "LATE_S", "MTU", "TICK_S", "add_address", "add_route", "open_tun"]

DEVICE: Final = "link0"
MTU: Final = 1500
TICK_S: Final = 0.0005
"""How long packets gather before they are looked at: each look costs as much as some packets."""
LATE_S: Final = 0.0007
"""What a packet loses by waiting for ticks, measured; its delay is to be that much shorter."""
_QUEUE: Final = 4000
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN_NO_PI: Final = 0x1001
# By route, as some kernels let a namespace choose its default among a few only.
_CONGESTION_CONTROL: Final = "cubic"


def open_tun(name: str) -> int:
    """Make the device of a namespace, which goes when this descriptor is closed."""
    with inside(name):
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        request = struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN_NO_PI)
        fcntl.ioctl(device, _TUNSETIFF, request)
    # What is dropped is dropped by a lane, not before.
    run("ip", "-n", name, "link", "set", "dev", DEVICE, "txqueuelen", str(_QUEUE))
    return device


def add_address(name: str, address: str) -> None:
    """Bring the device up with this address, which stands alone: it has no network around it."""
    run("ip", "-n", name, "link", "set", "dev", DEVICE, "addrgenmode", "none")
    run("ip", "-n", name, "link", "set", "dev", DEVICE, "mtu", str(MTU), "up")
    run("ip", "-n", name, "address", "add", f"{address}/32", "dev", DEVICE)


def add_route(name: str, to: str, *way: str) -> None:
    """How to get to these addresses, TCP being cubic whatever the system's is."""
    run("ip", "-n", name, "route", "add", to, *way, "congctl", _CONGESTION_CONTROL)
