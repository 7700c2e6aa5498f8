"""Which segments become one, played through."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guix_glue.seed.tiers import choose


def gone(counts: list[int]) -> list[float]:
    return [0.0] * len(counts)


def play(rounds: int, size: int) -> tuple[list[int], int]:
    """Add so many segments; what is left, and how many records were written again."""
    counts: list[int] = []
    written = 0
    for _ in range(rounds):
        counts.append(size)
        while chosen := choose(counts, gone(counts), at_rest=False):
            together = sum(counts[place] for place in chosen)
            written += together
            counts = [count for place, count in enumerate(counts) if place not in chosen]
            counts.append(together)
    return counts, written


def test_there_are_few_and_a_record_is_written_again_three_times() -> None:
    counts, written = play(1000, 262_144)
    assert len(counts) <= 24
    assert written <= 4 * 1000 * 262_144


def test_at_rest_few_are_left_and_a_large_one_is_left_alone() -> None:
    small = [1000, 1000, 1000, 1000, 1000]
    assert choose(small, gone(small), at_rest=True) == [0, 1, 2, 3, 4]
    assert not choose(small[:4], gone(small[:4]), at_rest=True)
    large = [1000, 10_000_000, 1000, 1000, 1000]
    assert choose(large, gone(large), at_rest=True) == [0, 2, 3, 4]


def test_what_is_mostly_gone_is_written_anew_when_there_is_time() -> None:
    assert not choose([10, 10], [0.5, 0.0], at_rest=False)
    assert choose([10, 10], [0.5, 0.0], at_rest=True) == [0]


@given(st.lists(st.integers(0, 1 << 36), max_size=40), st.booleans())
def test_it_comes_to_an_end(counts: list[int], at_rest: bool) -> None:
    for _ in range(200):
        chosen = choose(counts, gone(counts), at_rest=at_rest)
        if not chosen:
            return
        assert len(set(chosen)) == len(chosen) > 1
        together = sum(counts[place] for place in chosen)
        counts = [count for place, count in enumerate(counts) if place not in chosen] + [together]
    raise AssertionError("segments are written again and again")
