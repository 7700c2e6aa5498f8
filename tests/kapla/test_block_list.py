"""Lists of blocks as files, and many references in little memory."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eris import Reference
from kapla.block_list import LIST_HEAD, ListReader, format_references
from kapla.errors import InvalidBlockList
from kapla.reference_set import ReferenceSet

REFERENCES = [Reference(os.urandom(32)) for _ in range(50)]
LIST = LIST_HEAD + format_references(REFERENCES)


@pytest.mark.parametrize("step", [1, 7, 32, 10_000])
def test_a_list_is_read_however_it_comes(step: int) -> None:
    reader = ListReader()
    found = [one for at in range(0, len(LIST), step) for one in reader.feed(LIST[at : at + step])]
    reader.finish()
    assert found == REFERENCES


def test_what_is_no_list_is_refused_at_once() -> None:
    for data in (b"x", b"kapla block list 2\n", b"\xd9\xd9\xf7" + bytes(100)):
        with pytest.raises(InvalidBlockList, match="no list"):
            ListReader().feed(data)


@pytest.mark.parametrize("end", [0, 5, len(LIST_HEAD) + 1, len(LIST) - 1])
def test_a_list_that_is_cut_off_is_told_from_a_whole_one(end: int) -> None:
    reader = ListReader()
    reader.feed(LIST[:end])
    with pytest.raises(InvalidBlockList, match="cut off"):
        reader.finish()


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for text in (data, LIST_HEAD + data):
        reader = ListReader()
        try:
            found = reader.feed(text)
            reader.finish()
        except InvalidBlockList:
            continue
        assert LIST_HEAD + format_references(found) == text


@given(st.lists(st.binary(min_size=1, max_size=3)))
def test_a_set_of_references_is_a_set(names: list[bytes]) -> None:
    # Few bytes that differ, so that many share a bin, and parts of one look like another.
    references = [Reference((name * 32)[:32]) for name in names]
    held, expected = ReferenceSet(), set[Reference]()
    for reference in references:
        assert held.add(reference) == (reference not in expected)
        expected.add(reference)
    assert len(held) == len(expected)
    for reference in references:
        assert reference in held
        assert (Reference(reference[1:] + b"\xff") in held) == (reference[1:] + b"\xff" in expected)


def test_what_lies_across_two_references_is_not_in_the_set() -> None:
    held = ReferenceSet()
    first, second = bytes(range(32)), bytes(2) + bytes(range(100, 130))
    second = first[:2] + second[2:]
    held.update([Reference(first), Reference(second)])
    across = first[:2] + (first[2:] + second[2:])[5:35]
    assert Reference(across) not in held
    assert Reference(first) in held
