"""Records: what is written is found, however rows are put together."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import guix_glue.seed.records as module
from guix_glue.seed.records import (
    MAX_BLOCKS,
    MAX_PARTS,
    RECORD_SIZE,
    find,
    format_record,
    merge,
    part_of,
)

REFERENCES = st.binary(min_size=32, max_size=32)
PLACES = st.tuples(st.integers(0, MAX_PARTS - 1), st.integers(0, MAX_BLOCKS - 1))
# Few distinct beginnings, so that some are equal.
KNOWN = st.lists(
    st.tuples(st.one_of(REFERENCES, st.sampled_from([bytes(32), b"\xff" * 32, b"a" * 32])), PLACES),
    max_size=200,
)


def row(known: list[tuple[bytes, tuple[int, int]]]) -> memoryview:
    records = sorted(format_record(reference, *place) for reference, place in known)
    return memoryview(b"".join(records))


@given(KNOWN, REFERENCES)
def test_all_places_of_a_reference_are_found(
    known: list[tuple[bytes, tuple[int, int]]], other: bytes
) -> None:
    records = row(known)
    for reference in [*(reference for reference, _ in known), other]:
        expected = sorted(place for found, place in known if found[:8] == reference[:8])
        assert list(find(records, reference)) == expected


@given(st.lists(KNOWN, max_size=5))
def test_rows_become_one(rows: list[list[tuple[bytes, tuple[int, int]]]]) -> None:
    merged = b"".join(merge([row(one) for one in rows]))
    assert merged == bytes(row([pair for one in rows for pair in one]))


def test_long_rows_become_one_in_pieces_and_without_what_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 1000)
    source = random.Random(1)
    rows = [
        row([(source.randbytes(8), (source.randrange(4), number)) for number in range(5000)])
        for _ in range(2)
    ]
    pieces = list(merge(rows, lambda part: part != 2))
    merged = b"".join(pieces)
    records = [merged[at : at + RECORD_SIZE] for at in range(0, len(merged), RECORD_SIZE)]
    before = [one[at : at + RECORD_SIZE] for one in rows for at in range(0, len(one), RECORD_SIZE)]
    assert records == sorted(bytes(one) for one in before if part_of(bytes(one)) != 2)
    assert len(pieces) == 10


def test_in_a_long_row_each_is_found() -> None:
    source = random.Random(2)
    known = [(source.randbytes(32), (1, number)) for number in range(20_000)]
    records = row(known)
    for reference, place in source.sample(known, 500):
        assert list(find(records, reference)) == [place]
    assert not list(find(records, source.randbytes(32)))
    # All that could mislead a guess: keys that are not spread evenly.
    crowded = row([(bytes(4) + source.randbytes(28), (1, number)) for number in range(5_000)])
    for at in range(0, len(crowded), 100 * RECORD_SIZE):
        key = bytes(crowded[at : at + 8]) + bytes(24)
        assert list(find(crowded, key))
