"""Runs of references: packed, cut, and gathered in order whatever order they come in."""

from __future__ import annotations

import random

import pytest

from eris import Reference
from kapla.errors import StorageError
from kapla.storage.postgresql.runs import (
    MOST,
    Lowest,
    between,
    checked,
    first_bits,
    prefixes,
    runs_of,
    split,
)


def names_of(count: int, seed: int = 0) -> list[Reference]:
    source = random.Random(seed)
    return [Reference(source.randbytes(32)) for _ in range(count)]


@pytest.mark.parametrize("count", [0, 1, 2, MOST - 1, MOST, MOST + 1, 3 * MOST])
def test_runs_are_in_order_each_once_and_not_too_long(count: int) -> None:
    names = names_of(count)
    runs = list(runs_of(names + names[::2]))
    assert [name for run in runs for name in split(run)] == sorted(names)
    assert all(checked(run) and len(run) <= 32 * MOST for run in runs)
    assert len(runs) == -(-count // MOST)


@pytest.mark.parametrize("size", [0, 1, 31, 33, 32 * MOST + 32])
def test_what_cannot_be_a_run_is_refused(size: int) -> None:
    with pytest.raises(StorageError, match=f"a run of references has {size} bytes"):
        checked(bytes(size))


def test_a_part_begins_with_what_is_not_lower_and_ends_before_what_is_not() -> None:
    names = sorted(names_of(50))
    run = b"".join(names)
    for low in (b"", names[0], names[20], names[20][:3], b"\xff" * 33):
        for below in (None, b"", names[30], names[30][:2], names[-1] + b"\0"):
            expected = [n for n in names if n >= low and (below is None or n < below)]
            assert split(between(run, low, below)) == expected


def test_numbers_are_in_the_order_of_the_references() -> None:
    names = sorted(names_of(50))
    run = b"".join(names)
    assert list(first_bits(run)) == [int.from_bytes(name[:4], "big") for name in names]
    assert list(prefixes(run)) == [int.from_bytes(name[:8], "big") for name in names]


@pytest.mark.parametrize("most", [1, 7, 100, 999, 1000, 5000])
@pytest.mark.parametrize("is_narrow", [False, True])
def test_what_does_not_fit_at_once_comes_the_next_time(most: int, is_narrow: bool) -> None:
    names = names_of(1000)
    if is_narrow:
        # Whatever somebody asks for: all of it side by side.
        names = [Reference(bytes(28) + name[:4]) for name in names]
    parts = [names[start : start + 90] for start in range(0, len(names), 70)]
    found: list[Reference] = []
    low: bytes | None = b""
    while low is not None:
        lowest = Lowest(low, most)
        for part in parts:
            for run in runs_of(part):
                lowest.add(run)
        taken = [name for run in lowest.runs() for name in split(run)]
        assert 0 < len(taken) <= most
        found += taken
        low = lowest.below
    assert found == sorted(names)
