"""Maps joined and compared, against what dictionaries say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guix_glue.formats.item_map import ENTRY_SIZE, KEY_SIZE, Contents, Entry, MapFacts
from guix_glue.maps.combining import Change, compare, merge
from tests.guix_glue.maps.entries import FACTS

keys = st.integers(0, 12).map(lambda number: number.to_bytes(KEY_SIZE, "big"))
values = st.sampled_from([bytes([number]) * (ENTRY_SIZE - KEY_SIZE) for number in range(3)])
dictionaries = st.dictionaries(keys, values, max_size=10)


def contents(made: dict[bytes, bytes], facts: MapFacts = FACTS) -> Contents:
    return Contents.of(facts, (Entry(*one) for one in made.items()))


@given(st.lists(dictionaries, min_size=1, max_size=4))
def test_of_what_several_have_the_first_counts(made: list[dict[bytes, bytes]]) -> None:
    expected: dict[bytes, bytes] = {}
    for one in reversed(made):
        expected |= one
    merged = merge([contents(one) for one in made])
    assert {entry.key: entry.value for entry in merged} == expected
    assert list(Contents.parse(b"".join(merged.format()))) == list(merged)
    assert merged.facts == FACTS


@given(dictionaries, dictionaries)
def test_what_differs(old: dict[bytes, bytes], new: dict[bytes, bytes]) -> None:
    found = {
        (one.after or one.before or Entry(b"", b"")).key: one.change
        for one in compare(contents(old), contents(new))
    }
    expected = dict.fromkeys(new.keys() - old.keys(), Change.ADDED)
    expected |= dict.fromkeys(old.keys() - new.keys(), Change.REMOVED)
    expected |= {key: Change.CHANGED for key in new.keys() & old.keys() if old[key] != new[key]}
    assert found == expected


def test_facts_that_are_not_the_same_are_left_out() -> None:
    other = MapFacts("/gnu/store", "eris-fs-1")
    assert merge([contents({}), contents({}, other)]).facts == MapFacts("/gnu/store")
