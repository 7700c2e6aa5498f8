"""What is known of a peer: times, window, breaker."""

from __future__ import annotations

import pytest

from kapla.peers.session import Standing
from kapla.peers.session.lateness import Spare

BLOCK = 32 * 1024


def answered(standing: Standing, took_s: float, now: float, *, count: int = 1) -> None:
    """Have it give some blocks, all asked for together."""
    for _ in range(count):
        standing.asked(BLOCK, now - took_s)
    for _ in range(count):
        standing.released(BLOCK)
        standing.gave(BLOCK, took_s, now)


def test_times_are_smoothed_as_tcp_does() -> None:
    standing = Standing()
    answered(standing, 0.1, 1.0)
    assert (standing.srtt_s, standing.rttvar_s) == pytest.approx((0.1, 0.05))
    answered(standing, 0.2, 2.0)
    assert (standing.srtt_s, standing.rttvar_s) == pytest.approx((0.1125, 0.0625))


def test_a_window_grows_while_it_is_used_and_answers_stay_quick() -> None:
    standing = Standing()
    before = standing.window.size
    for number in range(1, 20):
        answered(standing, 0.05, number * 0.06, count=1 + int(standing.window.size) // BLOCK)
    assert standing.window.size > 4 * before
    grown = standing.window.size
    for number in range(20, 30):
        answered(standing, 0.5, number * 0.6, count=1 + int(standing.window.size) // BLOCK)
    assert standing.window.size < grown


def test_a_window_is_halved_once_in_a_round_trip() -> None:
    standing = Standing()
    before = standing.window.size
    for _ in range(5):
        standing.timed_out(10.0)
    assert standing.window.size == before / 2


def test_a_peer_that_is_silent_is_left_alone_longer_each_time() -> None:
    standing = Standing()
    answered(standing, 0.01, 1.0)
    standing.asked(BLOCK, 1.0)
    now = 1.0
    for pause_s in (2, 4, 8):
        assert standing.silent_at == now + 0.25
        assert not standing.is_silent(now + 0.2)
        assert standing.is_silent(now + 0.25)
        now += 0.25
        standing.fell_silent(now)
        assert not standing.room(now + pause_s - 0.1) > 0
        now += pause_s
        assert standing.room(now) > 0
        standing.asked(BLOCK, now)  # one tries it
        assert not standing.room(now) > 0


def test_an_answer_that_comes_after_all_closes_the_breaker() -> None:
    standing = Standing()
    standing.asked(BLOCK, 1.0)
    standing.fell_silent(2.0)
    standing.released(BLOCK)
    standing.gave(BLOCK, 1.5, 2.5)
    assert standing.room(2.5) > 0
    assert not standing.breaker.is_open


def test_a_peer_that_fails_again_and_again_is_left_alone() -> None:
    standing = Standing()
    for _ in range(3):
        standing.failed(1.0)
    assert standing.room(1.0) > 0
    standing.failed(1.0)
    assert not standing.room(1.0) > 0
    assert standing.room(3.0) > 0


def test_one_window_may_be_asked_twice_and_then_a_twentieth() -> None:
    spare = Spare()
    window = 4 * BLOCK
    for _ in range(4):
        assert spare.allows(BLOCK, window)
        spare.asked_twice(BLOCK)
    assert not spare.allows(BLOCK, window)
    for _ in range(20):
        spare.asked(BLOCK)
    assert spare.allows(BLOCK, window)
    spare.asked_twice(BLOCK)
    assert not spare.allows(BLOCK, window)


def test_whoever_answers_late_that_it_cannot_is_not_silent() -> None:
    standing = Standing()
    standing.asked(1024, 1.0)
    standing.fell_silent(2.0)
    assert standing.breaker.is_open
    standing.failed(2.1)
    assert not standing.breaker.is_open
    for now in range(3, 7):
        standing.failed(now)
    assert standing.breaker.is_open
