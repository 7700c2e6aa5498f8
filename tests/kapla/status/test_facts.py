"""What a daemon tells, read."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kapla.status.facts import Amount, DaemonFacts, InvalidFacts
from tests.kapla.status.examples import everything, numbers

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def test_all_of_it() -> None:
    facts = DaemonFacts.read(everything())
    assert facts.moved.given == Amount(190, 5_000_000)
    assert [peer.name for peer in facts.peers] == ["desktop", "ed25519:AAAA"]
    assert facts.pins is not None
    assert facts.pins[0].missing == 1
    assert facts.transfers[0].sources == {"desktop": Amount(40, 1_000_000)}


def test_names_are_not_read_where_none_are_told() -> None:
    facts = DaemonFacts.read(numbers())
    assert facts.pins is None
    assert not facts.transfers
    assert {peer.name for peer in facts.peers} == {None}


def test_what_was_added_later_has_a_default() -> None:
    told = numbers()
    for name in ("listeners", "peers", "traffic"):
        del told[name]
    facts = DaemonFacts.read(told)
    assert (facts.moved.given, facts.listeners, facts.peers) == (Amount(), (), ())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("uptime_s", -1),
        ("uptime_s", float("nan")),
        ("uptime_s", float("inf")),
        ("database_bytes", 2**63),
        ("database_bytes", True),
        ("new_blocks", "1"),
        ("new_blocks", None),
        ("when_full", 7),
        ("blocks", []),
        ("blocks", {str(number): 1 for number in range(1001)}),
        ("peers", {}),
        ("peers", [7]),
        ("peers", [{}] * 1001),
    ],
)
def test_what_is_none_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidFacts):
        DaemonFacts.read(numbers() | {name: value})


@given(st.sampled_from(sorted(everything())), _JSON)
def test_any_field_is_read_or_an_error(name: str, value: Any) -> None:
    with contextlib.suppress(InvalidFacts):
        DaemonFacts.read(everything() | {name: value})


@pytest.mark.parametrize("told", [None, [], 7, "x", {}])
def test_no_facts_at_all(told: Any) -> None:
    with pytest.raises(InvalidFacts):
        DaemonFacts.read(told)
