"""What of multicast DNS is read."""

from __future__ import annotations

import asyncio

from kapla.lan.throttle import Allowance, Throttled


class Reader(asyncio.DatagramProtocol):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.read: list[bytes] = []

    def datagram_received(self, data: bytes, address: object) -> None:
        self.read.append(data)


def test_of_a_flood_little_is_read_and_later_again() -> None:
    now, asked = 0.0, 0

    def is_near(address: str) -> bool:
        nonlocal asked
        asked += 1
        return True

    reader = Reader()
    throttled = Throttled(reader, Allowance(lambda: now), is_near)

    def read() -> int:
        before = len(reader.read)
        for _ in range(5000):
            throttled.datagram_received(b"near", ("near", 5353))
        return len(reader.read) - before

    assert read() == 1000
    now = 1.0
    assert read() == 200
    now = 3600.0
    assert read() == 1000
    # Where the rest came from was not looked at.
    assert asked == 2200


def test_what_is_long_or_from_elsewhere_is_not_read_and_takes_nothing_from_others() -> None:
    reader = Reader()
    throttled = Throttled(reader, Allowance(lambda: 0.0), "near".__eq__)
    for _ in range(5000):
        throttled.datagram_received(b"far", ("far", 5353))
        throttled.datagram_received(bytes(1501), ("near", 5353, 0, 2))
    for _ in range(5000):
        throttled.datagram_received(bytes(1500), ("near", 5353))
    assert reader.read == [bytes(1500)] * 1000
