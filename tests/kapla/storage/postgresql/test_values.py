"""Places and arrays: what is written so is read so."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kapla.storage.postgresql.arrays import array_of, register
from kapla.storage.postgresql.places import Place, parse_place

places = st.builds(
    Place, st.integers(0, 2**20 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**11 - 1)
)


@given(places, places)
def test_places_are_numbers_in_the_same_order(one: Place, other: Place) -> None:
    assert parse_place(one.number) == one
    assert 0 <= one.number < 2**63
    assert (one < other) == (one.number < other.number)
    assert Place.at(one.generation, one.ctid) == one


@pytest.mark.parametrize("number", [-(2**63), -1, 2**63, 2**64 - 1])
def test_numbers_that_are_no_places_are_before_all_or_behind(number: int) -> None:
    assert parse_place(number) == parse_place(0 if number < 0 else 2**63 - 1)


def test_arrays_come_to_the_server_as_they_are(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        register(connection)
        for values in ([], [b""], [b"a" * 32] * 3, [b"", b"\0\xff", b"x" * 70_000]):
            cursor = connection.execute("SELECT %s::bytea[]", (array_of(values),), binary=True)
            assert cursor.fetchone() == (values,)
