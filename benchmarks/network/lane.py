"""One direction of a link as a value: packets go in, and come out late, or not at all. No I/O.

A packet waits until those before it are sent, takes its length over the rate to be sent itself, and
arrives a delay later. One that would wait longer than the queue holds is dropped, as a router does.
The sender is a token bucket that holds a few milliseconds, so that a link which was looked after a
little late still carries its rate.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["Lane"]

_BUCKET_S: Final = 0.003


class Lane:
    """A link's one direction: `mbit_s` at most, `delay_s` to pass, `queue_s` of packets waiting."""

    def __init__(self, mbit_s: float, delay_s: float, queue_s: float) -> None:
        self.dropped = 0
        self._s_per_byte = 8 / (mbit_s * 1e6)
        self._delay_s = delay_s
        self._queue_s = queue_s
        # When everything taken so far is sent.
        self._sent_at = 0.0
        self._line: deque[tuple[float, bytes]] = deque()

    def take(self, packet: bytes, now: float) -> None:
        """Put a packet on the line, or drop it."""
        begin = max(self._sent_at, now - _BUCKET_S)
        if begin - now > self._queue_s:
            self.dropped += 1
            return
        self._sent_at = begin + len(packet) * self._s_per_byte
        # Tokens saved up let packets go faster, never earlier than they came.
        self._line.append((max(self._sent_at, now) + self._delay_s, packet))

    def arrived(self, now: float) -> list[tuple[float, bytes]]:
        """Hand out the packets that have come to the other end, in order, and when each did."""
        line = self._line
        packets = []
        while line and line[0][0] <= now:
            packets.append(line.popleft())
        return packets

    @property
    def next_arrival(self) -> float | None:
        """When the next packet comes to the other end; None on an empty line."""
        return self._line[0][0] if self._line else None
