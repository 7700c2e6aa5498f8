"""Names of contents and of versions."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kapla.catalogue.errors import NotAName
from kapla.catalogue.names import check_name, format_version, parse_version


@pytest.mark.parametrize("name", ["notes", "my notes", "é日", "a" * 255, "a.b", "1", "é" * 127])
def test_what_is_a_name(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", " a", "a ", "-", "-x", "@a", "a/b", "a~1", "~", "a\nb", "a\x7f", "\u202ea"),
        *("urn:eris:BI", "URN:x", "a" * 256, "é" * 128, "\udc80"),
    ],
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(NotAName):
        check_name(text)
    assert parse_version(text) in (None, ("a", 1))


def test_letters_that_look_the_same_are_the_same() -> None:
    assert check_name(unicodedata.normalize("NFD", "é")) == "é"


@given(st.text(max_size=300))
def test_any_text_is_a_name_or_none(text: str) -> None:
    try:
        name = check_name(text)
    except NotAName:
        return
    assert check_name(name) == name
    assert parse_version(name) == (name, 0)


@given(st.sampled_from(["notes", "a b", "é"]), st.integers(0, 999_999_999))
def test_versions_are_read_as_they_are_written(name: str, number: int) -> None:
    assert parse_version(format_version(name, number)) == (name, number)


@pytest.mark.parametrize("text", ["a~", "a~x", "a~-1", "a~1~2", "~1", "a~1 ", "a~" + "1" * 10])
def test_what_is_no_version(text: str) -> None:
    assert parse_version(text) is None
