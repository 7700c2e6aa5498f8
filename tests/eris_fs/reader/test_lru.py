from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eris_fs.reader.lru import LeastRecent


@given(
    st.lists(st.tuples(st.sampled_from(["put", "get", "discard"]), st.integers(0, 9)), max_size=60),
    st.integers(1, 4000),
)
def test_what_is_kept_is_what_was_used_last(steps: list[tuple[str, int]], limit: int) -> None:
    table: LeastRecent[int] = LeastRecent(limit)
    used: list[int] = []
    for what, key in steps:
        there = key in table
        assert (key in used) or not there
        if what == "put":
            table.put(key, key * 7, key * 100)
        elif what == "get":
            assert table.get(key) == (key * 7 if there else None)
        else:
            table.discard(key)
            used = [one for one in used if one != key]
        if what == "put" or (what == "get" and there):
            used = [one for one in used if one != key] + [key]
        # The newest is there whatever its size; all others only within the limit.
        assert table.size <= limit or len(table) == 1
        kept = [one for one in used if one in table]
        assert kept == used[len(used) - len(kept) :]
        assert len(kept) == len(table)


def test_nothing_that_fits_is_dropped() -> None:
    table: LeastRecent[bytes] = LeastRecent(10_000)
    for key in range(7):
        table.put(key, bytes(1000), 1000)
    assert len(table) == 7
    table.put(7, bytes(1000), 1000)
    assert 0 not in table
    table.clear()
    assert len(table) == table.size == 0
