from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import eris
from eris.errors import InvalidCapability
from kapla.doors.given import read_urn, split_place

CAPABILITY, _ = eris.encode(b"Hail ERIS!")
URN = CAPABILITY.to_urn()
LETTERS = URN.removeprefix("urn:eris:")


def test_a_content_is_named_by_its_urn_or_what_that_was_read_into() -> None:
    assert read_urn(URN) == read_urn(CAPABILITY) == CAPABILITY


@pytest.mark.parametrize("urn", [None, b"urn:eris:", Path("/x"), 7])
def test_what_is_neither_is_said_at_once(urn: Any) -> None:
    with pytest.raises(TypeError, match="named by its URN, as text"):
        read_urn(urn)


@pytest.mark.parametrize("first", [LETTERS, LETTERS.lower(), URN])
def test_a_place_begins_with_the_letters_in_any_case(first: str) -> None:
    assert split_place(first) == (CAPABILITY, first, "")
    assert split_place(f"{first}/docs/guide.txt") == (CAPABILITY, first, "docs/guide.txt")


@pytest.mark.parametrize(
    "place", ["", "docs/guide.txt", LETTERS[1:], f"{LETTERS}A/x", f"1{LETTERS[1:]}", "urn:eris:A"]
)
def test_what_is_no_place_is_said_without_repeating_it(place: str) -> None:
    with pytest.raises(InvalidCapability, match="106") as caught:
        split_place(place)
    assert LETTERS[1:20] not in str(caught.value)
