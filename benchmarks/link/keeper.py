"""The process that makes a link between two network namespaces, keeps it, and takes it away.

`netem` shapes a pair of veth devices where the kernel has it. Elsewhere a TUN device stands in each
namespace and this process carries the packets between them. It ends when its standard input does,
which also happens when whoever started it is killed: then everything in the namespaces is ended and
they are removed. No device, address or route exists outside of them at any time.

Usage: keeper NEAR FAR RTT_MS MBIT_S; prints `ready netem`, `ready tun` or `failed REASON`.
TCP's congestion control is cubic, whatever the system's.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from benchmarks.link.emulator import ADDRESSES, DEVICE
from benchmarks.link.lane import Lane

_MTU: Final = 1500
_TUN_QUEUE: Final = 4000
# How long packets may gather before they are looked at. Each look costs as much as some packets.
_TICK_S: Final = 0.0005
# What a packet loses by waiting for ticks, measured; its delay is that much shorter.
_LATE_S: Final = 0.0007
_CLONE_NEWNET: Final = 0x40000000
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN_NO_PI: Final = 0x1001
# By route, as some kernels let a namespace choose its default among a few only.
_CONGESTION_CONTROL: Final = "cubic"


def main() -> None:
    """Make the link, and keep it until standard input ends."""
    near, far = sys.argv[1:3]
    rtt_ms, mbit_s = map(float, sys.argv[3:5])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit())
    with suppress(OSError):
        os.nice(-10)
    try:
        with _namespace(near), _namespace(far):
            if _has_netem(near):
                _join_by_netem(near, far, rtt_ms, mbit_s)
                _say("ready netem")
                sys.stdin.read()
                return
            devices = [_open_tun(near), _open_tun(far)]
            _set_up(near, far)
            _say("ready tun")
            _carry(devices, [_lane(rtt_ms, mbit_s), _lane(rtt_ms, mbit_s)])
    except subprocess.CalledProcessError as error:
        _say(f"failed {' '.join(error.cmd)}: {error.stderr.strip()}")
    except OSError as error:
        _say(f"failed {error}")


def _say(line: str) -> None:
    # Whoever is told may be gone.
    with suppress(BrokenPipeError):
        print(line, flush=True)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def _namespace(name: str) -> Iterator[None]:
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "-n", name, "link", "set", "dev", "lo", "up")
        with _inside(name):
            # What one connection learns of the link is not for the next: each round begins alike.
            Path("/proc/sys/net/ipv4/tcp_no_metrics_save").write_text("1")
        yield
    finally:
        for process in _run("ip", "netns", "pids", name).split():
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        _run("ip", "netns", "del", name)


@contextmanager
def _inside(name: str) -> Iterator[None]:
    with open("/proc/self/ns/net") as outside, open(f"/run/netns/{name}") as inside:
        _enter(inside.fileno())
        try:
            yield
        finally:
            _enter(outside.fileno())


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _set_up(*names: str) -> None:
    """Bring the device of each side up, with its address and the way to the other's."""
    for name, own, other in zip(names, ADDRESSES, reversed(ADDRESSES), strict=True):
        _run("ip", "-n", name, "link", "set", "dev", DEVICE, "addrgenmode", "none")
        _run("ip", "-n", name, "link", "set", "dev", DEVICE, "mtu", str(_MTU), "up")
        _run("ip", "-n", name, "address", "add", f"{own}/32", "dev", DEVICE)
        route = ("ip", "-n", name, "route", "add", other, "dev", DEVICE, "src", own)
        _run(*route, "congctl", _CONGESTION_CONTROL)


def _queue_s(rtt_ms: float) -> float:
    """How much may wait before the link: what is on its way in both directions together."""
    return max(rtt_ms, 10) / 1000


# netem


def _has_netem(name: str) -> bool:
    try:
        _run("tc", "-n", name, "qdisc", "add", "dev", "lo", "root", "netem", "limit", "1000")
    except (OSError, subprocess.CalledProcessError):
        return False
    _run("tc", "-n", name, "qdisc", "del", "dev", "lo", "root")
    return True


def _join_by_netem(near: str, far: str, rtt_ms: float, mbit_s: float) -> None:
    add = ("ip", "-n", near, "link", "add", DEVICE, "type", "veth")
    _run(*add, "peer", "name", DEVICE, "netns", far)
    # netem counts packets, those on their way too, which all are whole ones: no larger segments.
    held_s = rtt_ms / 2000 + _queue_s(rtt_ms)
    limit = int(held_s * mbit_s * 1e6 / 8 / _MTU) + 1
    _set_up(near, far)
    for name in (near, far):
        _run("ip", "-n", name, "link", "set", "dev", DEVICE, "gso_max_segs", "1")
        shape = ["delay", f"{rtt_ms / 2}ms", "rate", f"{mbit_s}mbit", "limit", str(limit)]
        _run("tc", "-n", name, "qdisc", "add", "dev", DEVICE, "root", "netem", *shape)


# TUN


def _open_tun(name: str) -> int:
    with _inside(name):
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        request = struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN_NO_PI)
        fcntl.ioctl(device, _TUNSETIFF, request)
    # What is dropped is dropped by the lane, not before.
    _run("ip", "-n", name, "link", "set", "dev", DEVICE, "txqueuelen", str(_TUN_QUEUE))
    return device


def _lane(rtt_ms: float, mbit_s: float) -> Lane:
    return Lane(mbit_s, max(0.0, rtt_ms / 2000 - _LATE_S), _queue_s(rtt_ms))


def _carry(devices: list[int], lanes: list[Lane]) -> None:
    """Carry packets from each device to the other until standard input ends.

    Packets are taken and handed out in lots, one a tick at most; when nothing is on its way the
    first packet is taken at once.
    """
    read, write, clock = os.read, os.write, time.monotonic
    stdin = sys.stdin.fileno()
    ways = list(zip(devices, lanes, reversed(devices), strict=True))
    while True:
        arrivals = [lane.next_arrival for lane in lanes]
        due = min((arrival for arrival in arrivals if arrival is not None), default=None)
        patience = None if due is None else max(0.0, due - clock())
        readable, _, _ = select.select([*devices, stdin], [], [], patience)
        if stdin in readable:
            return
        for source, lane, sink in ways:
            if source in readable:
                now = clock()
                try:
                    while True:
                        lane.take(read(source, 2048), now)
                except BlockingIOError:
                    pass
            # Half a tick early is as good as half a tick late, which is the other choice.
            for packet in lane.arrived(clock() + _TICK_S / 2):
                write(sink, packet)
        time.sleep(_TICK_S)


if __name__ == "__main__":
    main()
