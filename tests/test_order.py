"""Which files of tests are run first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.order import LONGEST, begin_at, files_of, rank

TESTS = Path(__file__).parent


def test_what_is_run_first_is_there() -> None:
    assert len(set(LONGEST)) == len(LONGEST)
    assert {TESTS / name for name in LONGEST} <= set(files_of(TESTS))


def test_the_longest_come_first_and_others_by_their_paths() -> None:
    first, second = (f"tests/{name}" for name in LONGEST[:2])
    paths = ["tests/b/test_x.py", second, "tests/a/test_y.py", first]
    assert sorted(paths, key=rank) == [first, second, "tests/a/test_y.py", "tests/b/test_x.py"]


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_each_worker_reads_all_and_each_begins_elsewhere(count: int) -> None:
    files = [Path(str(number)) for number in range(count)]
    orders = [begin_at(files, worker, 4) for worker in range(4)]
    assert all(sorted(order) == files for order in orders)
    assert len({order[0] for order in orders}) == min(count, 4)
