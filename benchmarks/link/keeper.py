"""The process that makes a link between two network namespaces, keeps it, and takes it away.

`netem` shapes a pair of veth devices where the kernel has it. Elsewhere a TUN device stands in each
namespace and this process carries the packets between them. It ends when its standard input does,
which also happens when whoever started it is killed: then everything in the namespaces is ended and
they are removed. No device, address or route exists outside of them at any time.

Usage: keeper NEAR FAR RTT_MS MBIT_S; prints `ready netem`, `ready tun` or `failed REASON`.
TCP's congestion control is cubic, whatever the system's.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time

from benchmarks.link.emulator import ADDRESSES
from benchmarks.network.keepers import keeping, say
from benchmarks.network.lane import Lane
from benchmarks.network.namespaces import namespace, run
from benchmarks.network.tun import DEVICE, LATE_S, MTU, TICK_S, add_address, add_route, open_tun


def main() -> None:
    """Make the link, and keep it until standard input ends."""
    near, far = sys.argv[1:3]
    rtt_ms, mbit_s = map(float, sys.argv[3:5])
    with keeping(), namespace(near), namespace(far):
        if _has_netem(near):
            _join_by_netem(near, far, rtt_ms, mbit_s)
            say("ready netem")
            sys.stdin.read()
            return
        devices = [open_tun(near), open_tun(far)]
        _set_up(near, far)
        say("ready tun")
        _carry(devices, [_lane(rtt_ms, mbit_s), _lane(rtt_ms, mbit_s)])


def _set_up(*names: str) -> None:
    """Bring the device of each side up, with its address and the way to the other's."""
    for name, own, other in zip(names, ADDRESSES, reversed(ADDRESSES), strict=True):
        add_address(name, own)
        add_route(name, other, "dev", DEVICE, "src", own)


def _queue_s(rtt_ms: float) -> float:
    """How much may wait before the link: what is on its way in both directions together."""
    return max(rtt_ms, 10) / 1000


# netem


def _has_netem(name: str) -> bool:
    try:
        run("tc", "-n", name, "qdisc", "add", "dev", "lo", "root", "netem", "limit", "1000")
    except (OSError, subprocess.CalledProcessError):
        return False
    run("tc", "-n", name, "qdisc", "del", "dev", "lo", "root")
    return True


def _join_by_netem(near: str, far: str, rtt_ms: float, mbit_s: float) -> None:
    add = ("ip", "-n", near, "link", "add", DEVICE, "type", "veth")
    run(*add, "peer", "name", DEVICE, "netns", far)
    # netem counts packets, those on their way too, which all are whole ones: no larger segments.
    held_s = rtt_ms / 2000 + _queue_s(rtt_ms)
    limit = int(held_s * mbit_s * 1e6 / 8 / MTU) + 1
    _set_up(near, far)
    for name in (near, far):
        run("ip", "-n", name, "link", "set", "dev", DEVICE, "gso_max_segs", "1")
        shape = ["delay", f"{rtt_ms / 2}ms", "rate", f"{mbit_s}mbit", "limit", str(limit)]
        run("tc", "-n", name, "qdisc", "add", "dev", DEVICE, "root", "netem", *shape)


# TUN


def _lane(rtt_ms: float, mbit_s: float) -> Lane:
    return Lane(mbit_s, max(0.0, rtt_ms / 2000 - LATE_S), _queue_s(rtt_ms))


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
            for _, packet in lane.arrived(clock() + TICK_S / 2):
                write(sink, packet)
        time.sleep(TICK_S)


if __name__ == "__main__":
    main()
