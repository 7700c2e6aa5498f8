"""Who reads in order is found out, and who does not is left alone."""

from __future__ import annotations

import random

import pytest

from eris_fs.reader.pattern import Pattern

MIB = 1024 * 1024


@pytest.mark.parametrize("step", [4096, 100_000, MIB, 3 * MIB])
def test_reading_in_order_is_seen_and_kept_ahead_of(step: int) -> None:
    pattern, ahead = Pattern(), 0
    for at in range(0, 64 * MIB, step):
        plan = pattern.note(at, step)
        assert (
            plan.in_order == (at >= 128 * 1024 - step + step and at > 0) or at < 128 * 1024 + step
        )
        ahead = max(ahead, plan.ahead)
        if at > 16 * MIB:
            assert plan.in_order
            # What was asked for is ahead by some MiB, and never by more than 8.
            assert at + step + 6 * MIB < ahead <= at + step + 8 * MIB


def test_reads_at_random_never_seem_in_order() -> None:
    pattern, source = Pattern(), random.Random(1)
    plans = [pattern.note(source.randrange(256 * MIB), 4096) for _ in range(20_000)]
    assert not any(plan.in_order or plan.ahead for plan in plans)


def test_reading_the_same_again_is_not_reading_on() -> None:
    pattern = Pattern()
    assert not any(pattern.note(8 * MIB, 64 * 1024).in_order for _ in range(100))


def test_pieces_may_come_in_any_order() -> None:
    pattern, source = Pattern(), random.Random(2)
    for begin in range(0, 32 * MIB, MIB // 2):
        pieces = list(range(begin, begin + MIB // 2, MIB // 16))
        source.shuffle(pieces)
        plans = [pattern.note(at, MIB // 16) for at in pieces]
        assert begin < MIB or all(plan.in_order for plan in plans)


def test_readers_of_one_file_are_told_apart() -> None:
    pattern = Pattern()
    places = [number * 40 * MIB for number in range(12)]
    for _ in range(40):
        plans = []
        for reader in range(12):
            plans.append(pattern.note(places[reader], 64 * 1024))
            places[reader] += 64 * 1024
    assert all(plan.in_order for plan in plans)
