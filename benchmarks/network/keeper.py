"""The process that makes a network of namespaces, carries its packets, and takes it away.

It ends when its standard input does, which also happens when whoever started it is killed: then
everything in the namespaces is ended and they are removed. No device, address or route exists
outside of them at any time.

Usage: keeper PREFIX PLAN, of `Plan.format`. Prints `ready` or `failed REASON`; then answers each
line of standard input with one: `group NAME NUMBER` puts a host into a group, `traffic` tells the
bytes of each line.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Final

from benchmarks.network.exchange import Exchange, Port
from benchmarks.network.home import furnish
from benchmarks.network.keepers import keeping, say
from benchmarks.network.namespaces import namespace
from benchmarks.network.plan import NETWORK, Plan, parse_plan
from benchmarks.network.tun import DEVICE, LATE_S, MTU, TICK_S, add_address, add_route, open_tun

_STDIN: Final = 0


def main() -> None:
    """Make the network, and keep it until standard input ends."""
    prefix, plan = sys.argv[1], parse_plan(sys.argv[2])
    with keeping(), ExitStack() as stack:
        for name in plan.names():
            stack.enter_context(namespace(prefix + name))
        devices = _open(prefix, plan)
        say("ready")
        ports = {end.name: Port(end.line, LATE_S / 2) for end in plan.ends()}
        _Carrier(devices, ports, plan.addresses()).carry()


def _open(prefix: str, plan: Plan) -> dict[str, int]:
    addresses, devices = plan.addresses(), {}
    for end in plan.ends():
        name = prefix + end.name
        devices[end.name] = open_tun(name)
        add_address(name, addresses[end.name])
        add_route(name, NETWORK, "dev", DEVICE, "src", addresses[end.name])
    for home in plan.homes:
        furnish(home, prefix + home.name, [prefix + laptop for laptop in home.laptops])
    return devices


class _Carrier:
    """Carries packets between devices, and does as it is told meanwhile."""

    def __init__(
        self, devices: Mapping[str, int], ports: Mapping[str, Port], addresses: Mapping[str, str]
    ) -> None:
        self._ports = ports
        self._exchange = Exchange({addresses[name]: port for name, port in ports.items()})
        self._ways = {device: ports[name] for name, device in devices.items()}
        self._told = b""

    def carry(self) -> None:
        """Carry until standard input ends.

        Packets are taken and handed out in lots, one a tick at most; when nothing is on its way the
        first packet is taken at once.
        """
        clock, exchange = time.monotonic, self._exchange
        poll = select.poll()
        for descriptor in (*self._ways, _STDIN):
            poll.register(descriptor, select.POLLIN)
        while True:
            due = exchange.next_arrival()
            patience = None if due is None else max(0.0, due - clock()) * 1000
            ready = {descriptor for descriptor, _ in poll.poll(patience)}
            if _STDIN in ready and not self._hear():
                return
            for device in ready - {_STDIN}:
                self._take(device, clock())
            # Half a tick early is as good as half a tick late, which is the other choice.
            self._hand_out(clock() + TICK_S / 2)
            time.sleep(TICK_S)

    def _take(self, device: int, now: float) -> None:
        port, take, read = self._ways[device], self._exchange.take, os.read
        with suppress(BlockingIOError):
            while True:
                take(port, read(device, MTU + 64), now)

    def _hand_out(self, now: float) -> None:
        self._exchange.pass_on(now)
        for device, port in self._ways.items():
            for _, packet in port.down.arrived(now):
                port.received += len(packet)
                os.write(device, packet)

    def _hear(self) -> bool:
        """Do what is asked; False at the end."""
        data = os.read(_STDIN, 4096)
        *lines, self._told = (self._told + data).split(b"\n")
        for line in lines:
            say(self._do(line.decode().split()))
        return bool(data)

    def _do(self, words: list[str]) -> str:
        match words:
            case ["group", name, number]:
                self._ports[name].group = int(number)
                return "done"
            case ["traffic"]:
                return json.dumps({n: (p.received, p.sent) for n, p in self._ports.items()})
            case _:
                return f"failed {words}"


if __name__ == "__main__":
    main()
