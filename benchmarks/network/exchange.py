"""Where all lines meet, as a value: packets in by one line, out by that of their destination.

No I/O: who calls brings packets and the time. A packet passes the sender's line upwards, then the
receiver's downwards. Hosts are in groups; what crosses groups is swallowed, as is what is sent to
an address that nobody has.
"""

from __future__ import annotations

import socket
from typing import Final

from benchmarks.network.lane import Lane
from benchmarks.network.plan import Line

__all__ = ["Exchange", "Port"]

# As fast as it goes: nothing here comes near it.
_FAST_MBIT_S: Final = 10_000
# A queue holds one round trip of the path, not of the one line; paths here are twice a line.
_LEAST_QUEUE_S: Final = 0.05
_DESTINATION: Final = slice(16, 20)  # of an IPv4 header
_VERSION_4: Final = 4


class Port:
    """One line's end, and what passed it: bytes with IP headers."""

    def __init__(self, line: Line, late_s: float) -> None:
        delay_s = max(0.0, line.rtt_ms / 2000 - late_s)
        queue_s = max(2 * line.rtt_ms / 1000, _LEAST_QUEUE_S)
        self.up = Lane(line.up_mbit_s or _FAST_MBIT_S, delay_s, queue_s)
        self.down = Lane(line.down_mbit_s or _FAST_MBIT_S, delay_s, queue_s)
        self.group = 0
        self.sent = 0
        self.received = 0


class Exchange:
    """Ports by their addresses."""

    def __init__(self, ports: dict[str, Port]) -> None:
        self._ports = {socket.inet_aton(address): port for address, port in ports.items()}

    def take(self, port: Port, packet: bytes, now: float) -> None:
        """A host sends a packet."""
        if packet[0] >> 4 == _VERSION_4:
            port.sent += len(packet)
            port.up.take(packet, now)

    def pass_on(self, now: float) -> None:
        """What has come up by now goes down the lines of those that it is for."""
        for source in self._ports.values():
            for when, packet in source.up.arrived(now):
                sink = self._ports.get(packet[_DESTINATION])
                if sink is not None and sink.group == source.group:
                    # As of when it came, so that being late here adds up to nothing.
                    sink.down.take(packet, when)

    def next_arrival(self) -> float | None:
        """When something is to be done next; None while nothing is on its way."""
        lanes = [lane for port in self._ports.values() for lane in (port.up, port.down)]
        times = [lane.next_arrival for lane in lanes]
        return min((time for time in times if time is not None), default=None)
