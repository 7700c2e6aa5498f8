"""Where lines meet: delays add up, rates hold, and what may not pass is swallowed."""

from __future__ import annotations

import socket

import pytest

from benchmarks.network.exchange import Exchange, Port
from benchmarks.network.plan import Home, Line, Nat, Plan, Spot, parse_plan

NEAR, FAR, NOBODY = "10.77.0.1", "10.77.0.2", "10.77.0.9"
SIZE = 1250  # a millisecond of 10 Mbit/s
SLOW = Line(rtt_ms=20, up_mbit_s=10, down_mbit_s=10)
FAST = Line(rtt_ms=30, up_mbit_s=None, down_mbit_s=None)


def packet(to: str, version: int = 4) -> bytes:
    header = bytes([version << 4, *bytes(15)]) + socket.inet_aton(to)
    return header.ljust(SIZE, b"\0")


def arrivals(exchange: Exchange, port: Port) -> list[float]:
    """Play on until nothing is on its way; when packets came to this port."""
    found = []
    while (due := exchange.next_arrival()) is not None:
        exchange.pass_on(due)
        found += [when for when, _ in port.down.arrived(due)]
    return found


@pytest.fixture
def near() -> Port:
    return Port(SLOW, 0)


@pytest.fixture
def far() -> Port:
    return Port(FAST, 0)


@pytest.fixture
def exchange(near: Port, far: Port) -> Exchange:
    return Exchange({NEAR: near, FAR: far})


def test_a_packet_takes_half_the_round_trips_of_both_lines(
    exchange: Exchange, near: Port, far: Port
) -> None:
    exchange.take(near, packet(FAR), 7.0)
    [when] = arrivals(exchange, far)
    assert when == pytest.approx(7.0 + 0.010 + 0.015, abs=0.0001)
    assert near.sent == SIZE


def test_packets_leave_at_the_rate_of_the_line(exchange: Exchange, near: Port, far: Port) -> None:
    for _ in range(40):
        exchange.take(near, packet(FAR), 7.0)
    times = arrivals(exchange, far)
    assert len(times) == 40
    # But for the few milliseconds that the line may be late.
    assert times[-1] - 7.025 == pytest.approx(0.040, abs=0.0031)


def test_what_waits_too_long_is_dropped(exchange: Exchange, near: Port, far: Port) -> None:
    for _ in range(200):
        exchange.take(near, packet(FAR), 7.0)
    assert 50 <= len(arrivals(exchange, far)) <= 54
    assert near.up.dropped > 140


@pytest.mark.parametrize("lost", [packet(NOBODY), packet(FAR, version=6)], ids=["nobody", "IPv6"])
def test_what_is_for_nobody_is_swallowed(
    exchange: Exchange, near: Port, far: Port, lost: bytes
) -> None:
    exchange.take(near, lost, 7.0)
    assert arrivals(exchange, far) == []


def test_groups_do_not_reach_each_other_until_they_are_one_again(
    exchange: Exchange, near: Port, far: Port
) -> None:
    far.group = 1
    exchange.take(near, packet(FAR), 7.0)
    assert arrivals(exchange, far) == []
    far.group = 0
    exchange.take(near, packet(FAR), 8.0)
    assert len(arrivals(exchange, far)) == 1


def test_a_plan_survives_being_written() -> None:
    home = Home("home", SLOW, Nat.SYMMETRIC, ("laptop", "phone"))
    plan = Plan((Spot("near", SLOW), Spot("far", FAST)), (home,))
    assert parse_plan(plan.format()) == plan
    assert plan.addresses()["phone"] == plan.addresses()["home"] == "10.77.0.4"
    many = Plan(tuple(Spot(f"{n}", FAST) for n in range(600)))
    assert len(set(many.addresses().values())) == 600
