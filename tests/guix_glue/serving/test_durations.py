"""Durations mean what they mean to the stock server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.serving.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("30s", 30),
        ("1h", 3600),
        ("30d", 2_592_000),
        ("2w", 1_209_600),
        ("1y", 31_536_000),
        # Observed of the stock server: months, not minutes.
        ("5m", 12_960_000),
    ],
)
def test_units(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "5M", "5 m", "-1d", "1.5h", "1d2h", "٣d", "101y"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|hundred years"):
        parse_duration(text)


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        assert parse_duration(text) >= 0
    except ValueError as error:
        assert repr(text) in str(error)
