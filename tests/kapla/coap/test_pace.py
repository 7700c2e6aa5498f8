"""What may be under way grows with what the link brings, and shrinks when answers come late."""

from __future__ import annotations

import pytest

from kapla.coap.pace import Pace

MIB = 1024 * 1024


def room(pace: Pace) -> int:
    """How many bytes may be under way, found out in steps of 1 KiB."""
    pace.under_way = 0
    while pace.has_room:
        pace.under_way += 1024
    return pace.under_way


def after_round_trips(rate: float, base_s: float, count: int = 60) -> int:
    """The room after so many round trips over a link of `rate` bytes a second, always used up."""
    pace = Pace()
    pace.learn(base_s)  # of the first request, before which nothing waits
    for _ in range(count):
        pace.learn(max(base_s, room(pace) / rate))
    return room(pace)


def test_a_fast_link_gets_all_there_is() -> None:
    assert after_round_trips(1e9, 0.0001) == 8 * MIB
    assert after_round_trips(12.5e6, 0.05, count=4) > 12.5e6 * 0.05 * 2


def test_a_slow_link_holds_what_it_brings_soon() -> None:
    assert 0.25 < after_round_trips(1.25e6, 0.02) / 1.25e6 < 1
    assert after_round_trips(1e4, 0.02) == 256 * 1024


def test_a_long_way_is_no_queue() -> None:
    assert after_round_trips(1e9, 3.0) == 8 * MIB


def test_it_does_not_grow_unused() -> None:
    pace = Pace()
    for _ in range(10):
        pace.learn(0.01)
    assert room(pace) == MIB // 2


@pytest.mark.parametrize("size", [1024, 32768])
def test_there_is_room_for_one_request_at_least(size: int) -> None:
    pace = Pace()
    for _ in range(100):
        pace.learn(0.01)
        pace.learn(60.0)
    assert pace.has_room
    pace.under_way = 256 * 1024 - size
    assert pace.has_room


def test_on_this_machine_a_late_answer_makes_no_difference() -> None:
    pace = Pace()
    pace.is_local = True
    assert room(pace) == 8 * MIB
    for _ in range(10):
        pace.learn(0.001)
        pace.learn(60.0)
    assert room(pace) == 8 * MIB
