"""Who let us wait is left alone for a while. Pure: the clock is handed in."""

from __future__ import annotations

from guix_glue.servers.resting import Resting


def test_a_pause_is_longer_each_time_until_something_comes() -> None:
    resting = Resting()
    now, pauses = 100.0, []
    for _ in range(8):
        resting.rest("server", now)
        began = now
        while resting.rests("server", now):
            now += 1.0
        pauses.append(now - began)
    assert pauses == [60, 120, 240, 480, 960, 1800, 1800, 1800]
    resting.came("server")
    resting.rest("server", now)
    assert not resting.rests("server", now + 60)
    assert not resting.rests("another", now)


def test_many_names_take_no_memory() -> None:
    resting = Resting()
    for number in range(10_000):
        resting.rest(number, 0.0)
    remembered = [number for number in range(10_000) if resting.rests(number, 1.0)]
    # Those that let us wait last.
    assert remembered == list(range(10_000 - len(remembered), 10_000))
    assert len(remembered) < 1000
