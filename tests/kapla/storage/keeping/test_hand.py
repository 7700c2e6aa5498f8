"""What goes next: runs of the oldest, without what is kept, and what was read later."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kapla.storage.sqlite.keeping.hand import MOST_AGAIN, Candidate, choose, is_before, runs_between
from kapla.storage.sqlite.keeping.ids import Ids

SIZES = st.sampled_from([1024, 32768])
CANDIDATES = st.dictionaries(st.integers(1, 200), SIZES, max_size=60).map(
    lambda found: [Candidate(*item) for item in sorted(found.items())]
)
NUMBERS = st.sets(st.integers(1, 200))


@given(CANDIDATES, NUMBERS, st.integers(0, 200_000), st.integers(0, 100_000))
def test_as_much_goes_as_is_wanted_and_no_more_is_passed(
    candidates: Sequence[Candidate], read: set[int], wanted: int, allowance: int
) -> None:
    choice = choose(candidates, Ids(read), wanted, allowance)
    passed = sorted(choice.gone + choice.again)
    assert passed == list(candidates[: len(passed)])
    # Without the last that went it would not have been enough; all are passed, or it is enough.
    assert len(passed) == len(candidates) or choice.freed >= wanted
    assert sum(size for _, size in choice.gone[:-1]) < max(wanted, 1)
    assert {block_id for block_id, _ in choice.again} <= read


@given(CANDIDATES, NUMBERS, st.integers(0, 200_000), st.integers(0, 100_000))
def test_who_waits_does_not_wait_for_all_to_be_written_again(
    candidates: Sequence[Candidate], read: set[int], wanted: int, allowance: int
) -> None:
    choice = choose(candidates, Ids(read), wanted, allowance)
    again = sum(size for _, size in choice.again)
    assert again < allowance + MOST_AGAIN * choice.freed + 32768


def test_what_was_read_has_a_second_chance() -> None:
    candidates = [Candidate(number, 1024) for number in range(1, 9)]
    choice = choose(candidates, Ids([2, 3]), 4 * 1024, 0)
    assert [block_id for block_id, _ in choice.gone] == [1, 4, 5, 6]
    assert [block_id for block_id, _ in choice.again] == [2, 3]


def test_a_run_that_is_read_does_not_pay_for_itself() -> None:
    candidates = [Candidate(number, 1024) for number in range(1, 101)]
    choice = choose(candidates, Ids.run(1, 90), 4 * 1024, 90 * 1024)
    assert [block_id for block_id, _ in choice.gone] == [91, 92, 93, 94]
    # Without an allowance so much goes as is wanted, and no more than some is written again.
    choice = choose(candidates, Ids.run(1, 90), 4 * 1024, 0)
    assert [block_id for block_id, _ in choice.gone] == [1, 5, 9, 13]


@given(NUMBERS, NUMBERS, st.booleans())
def test_runs_have_all_that_goes_and_nothing_that_is_kept(
    going: set[int], safe: set[int], is_turned: bool
) -> None:
    offset = -(2**62) if is_turned else 0
    ids = sorted(number + offset for number in going - safe)
    kept = {number + offset for number in safe}
    runs = runs_between(ids, Ids(kept))
    inside = [set(range(first, last + 1)) for first, last in runs]
    assert set(ids) <= set().union(*inside)
    assert not kept & set().union(*inside)
    # As few as can be: between two of them there is something that is kept.
    for (_, end), (start, _) in pairwise(runs):
        assert kept & set(range(end, start))


def test_ids_of_a_store_that_turned_came_later() -> None:
    assert is_before(5, 6)
    assert is_before(5, -(2**62))
    assert is_before(-(2**62), -5)
    assert not is_before(-5, 5)
    assert runs_between([1, 3], Ids([-7])) == [(1, 3)]


@given(NUMBERS, st.integers(1, 210))
def test_the_next_gap_is_the_first_id_that_is_not_there(known: set[int], start: int) -> None:
    expected = next(number for number in range(start, 500) if number not in known)
    assert Ids(known).next_gap(start) == expected


def test_the_next_gap_after_a_run_of_any_length() -> None:
    assert Ids.run(1, 10**9).next_gap(7) == 10**9 + 1
    assert Ids.run(-(2**62), -(2**62) + 10**9).next_gap(-(2**62)) == -(2**62) + 10**9 + 1
    assert Ids.run(2**63 - 10, 2**63 - 1).next_gap(2**63 - 5) == -(2**63)
