"""Maps in payloads: what is written is read; anything else is read or refused, and soon."""

from __future__ import annotations

import contextlib
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kapla.coap.blocks import BadRequest
from kapla.coap.maps import format_map, read_map

TYPES: dict[str, type] = {"number": int, "bytes": bytes, "text": str, "flag": bool}
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "number": st.integers(0, 2**63 - 1),
        "bytes": st.binary(),
        "text": st.text(),
        "flag": st.booleans(),
    },
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_is_read(values: dict[str, Any]) -> None:
    assert read_map(format_map(values), TYPES) == values


@given(VALUES, st.dictionaries(st.text(), ANYTHING, max_size=5))
def test_entries_of_other_names_are_passed_over(
    values: dict[str, Any], others: dict[str, Any]
) -> None:
    others = {name: value for name, value in others.items() if name not in TYPES}
    assert read_map(cbor2.dumps({**others, **values}), TYPES) == values


@given(st.binary(max_size=100))
def test_any_bytes_are_a_map_or_refused(payload: bytes) -> None:
    try:
        found = read_map(payload, TYPES)
    except BadRequest:
        return
    assert all(type(value) is TYPES[name] for name, value in found.items())
    # A general reader reads the same, where it takes what is passed over here.
    with contextlib.suppress(cbor2.CBORDecodeError):
        other = cbor2.loads(payload or b"\xa0")
        assert {name: other[name] for name in found} == found


@given(VALUES, st.data())
def test_a_map_that_is_cut_off_or_longer_is_refused(
    values: dict[str, Any], data: st.DataObject
) -> None:
    payload = format_map(values)
    cut = data.draw(st.integers(1, len(payload)))
    for wrong in (payload[: len(payload) - cut] or b"\x81", payload + b"\x00"):
        with pytest.raises(BadRequest):
            read_map(wrong, TYPES)


def test_an_empty_payload_is_an_empty_map() -> None:
    assert read_map(b"", TYPES) == {}


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (cbor2.dumps([1]), "has to be a map"),
        (cbor2.dumps("x"), "has to be a map"),
        (cbor2.dumps({1: 2}), "keys of a map are texts"),
        (b"\xa2\x61a\x01\x61a\x02", "each once"),
        (b"\xbf\x61a\x01\xff", "definite"),
        (b"\xa1\x61a\x9f\x01\xff", "definite"),
        (b"\xa1\x61\xff\x01", "not UTF-8"),
        (cbor2.dumps({str(n): n for n in range(65)}), "64 entries"),
        # Lengths that nothing stands behind, and nesting without end.
        (b"\xa1\x61a\x9b" + b"\xff" * 8, "cut off"),
        (b"\xa1\x61a\x5b" + b"\xff" * 8, "cut off"),
        (b"\xa1\x61a" + b"\x81" * 32000, "cut off"),
        (b"\xa1\x61a" + b"\xc1" * 32000, "cut off"),
        (cbor2.dumps({"number": -1}), "number has to be a number"),
        (cbor2.dumps({"number": 2**63}), "number has to be a number"),
        (cbor2.dumps({"number": 2**64}), "number has to be a number"),
        (cbor2.dumps({"number": True}), "number has to be a number"),
        (cbor2.dumps({"number": 1.0}), "number has to be a number"),
        (cbor2.dumps({"flag": 1}), "flag has to be true or false"),
        (cbor2.dumps({"flag": None}), "flag has to be true or false"),
        (cbor2.dumps({"text": b"x"}), "text has to be text"),
        (cbor2.dumps({"bytes": "x"}), "bytes has to be bytes"),
    ],
)
def test_maps_that_are_refused(payload: bytes, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        read_map(payload, TYPES)


def test_nesting_is_no_trouble() -> None:
    assert read_map(b"\xa1\x61a" + b"\x81" * 32000 + b"\x01", TYPES) == {}
