"""What was baked, written and read: whatever is not as it was written counts as nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.kept.delta_results import DeltaResult, Deltas, split_key
from guix_glue.kept.records import (
    Baked,
    BakedFile,
    Destination,
    ErisResult,
    format_checked,
    format_record,
    parse_checked,
    parse_record,
)
from guix_glue.model import StoreItem

URN = "urn:eris:BIAD77QDJMFAKZYH2DXBUZYAP3MXZ3DJZVFYQ5DFWC6T65WSFCU5S2IT4YZGJ7AC"
ITEM = StoreItem(
    "/gnu/store/7xq3qwahlz7ci18sxrm0qhmzqmafag1f-app-1.2.3",
    bytes(range(32)),
    120_336,
    ("7xq3qwahlz7ci18sxrm0qhmzqmafag1f-app-1.2.3",),
    "9ph6fa9lwp06gwqg8vdx6avbfi0f8671-app-1.2.3.drv",
)
BASE = f"{'0' * 32}-app-1.2.2"
DELTAS = Deltas(
    "one",
    (
        DeltaResult(f"{'1' * 32}-app-1.2.1", URN[:-1] + "A", 4096),
        DeltaResult(f"{'2' * 32}-app-1.2.0", reason="not worth it"),
        DeltaResult(BASE, URN[:-1] + "B", 1024),
    ),
)
FULL = Baked(
    ITEM, (BakedFile("gzip:3", 100), BakedFile("zstd:19", 90)), ErisResult("a", URN, ("one", "two"))
)

RECORDS = st.sampled_from(
    [
        FULL,
        Baked(ITEM),
        Baked(ITEM, (), ErisResult("a", None, reason="its name is not UTF-8")),
        Baked(ITEM, (), ErisResult("a", URN, ("one",), None, 1.5, DELTAS)),
        Baked(StoreItem(ITEM.path, bytes(32), 112, ()), (BakedFile("lzip:9", 1),)),
        Baked(
            replace(ITEM, content_address="text:sha256:1", signatures=("a:AA", "b:BB")),
            (BakedFile("none:0", 1, bytes(32)), BakedFile("gzip:3", 2)),
        ),
    ]
)


@given(RECORDS)
def test_reading_gives_what_was_written(baked: Baked) -> None:
    assert parse_record(format_record(baked)) == baked


@given(RECORDS, st.data())
def test_a_damaged_record_counts_as_nothing(baked: Baked, data: st.DataObject) -> None:
    written = bytearray(format_record(baked))
    place = data.draw(st.integers(0, len(written) - 1))
    written[place] ^= 1 << data.draw(st.integers(0, 7))
    assert parse_record(bytes(written)) is None
    assert parse_record(bytes(written)[:place]) is None


@pytest.mark.parametrize(("key", "value"), [("urn", 12), ("urn", [URN]), ("reason", 12)])
def test_a_record_with_a_field_of_another_kind_counts_as_nothing(key: str, value: object) -> None:
    record = parse_checked(format_record(FULL))
    assert record is not None
    record["eris"] |= {key: value}
    assert parse_record(format_checked(record)) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_nothing(data: bytes) -> None:
    assert parse_record(data) is None


@given(
    st.dictionaries(
        st.sampled_from(["version", "path", "nar_hash", "nar_size", "references", "files", "eris"]),
        st.none() | st.integers() | st.text() | st.lists(st.text()) | st.just(1),
    )
)
def test_a_record_of_another_kind_counts_as_nothing(value: dict[str, object]) -> None:
    assert parse_checked(format_checked(value)) == value
    assert parse_record(format_checked(value)) is None


@pytest.mark.parametrize(
    "deltas",
    [
        1,
        {"results": []},
        {"store": "one", "results": [[BASE, URN, 1]]},
        {"store": "one", "results": [["../base", URN, 1, None]]},
        {"store": "one", "results": [[BASE, 1, 1, None]]},
        {"store": "one", "results": [[BASE, URN, "many", None]]},
    ],
)
def test_deltas_of_another_kind_make_it_nothing(deltas: object) -> None:
    record = parse_checked(format_record(FULL))
    assert record is not None
    record["eris"] |= {"deltas": deltas}
    assert parse_record(format_checked(record)) is None


def test_a_record_of_an_earlier_server_has_no_deltas() -> None:
    record = parse_checked(format_record(FULL))
    assert record is not None
    del record["eris"]["deltas"], record["eris"]["baked_at"]
    assert parse_record(format_checked(record)) == FULL


@pytest.mark.parametrize("change", [{"version": 2}, {"files": [1]}, {"eris": 3}, {"eris": {}}])
def test_a_field_of_another_kind_makes_it_nothing(change: dict[str, object]) -> None:
    value = json.loads(format_record(FULL).partition(b"\n")[2])
    assert parse_record(format_checked(value)) == FULL
    assert parse_record(format_checked({**value, **change})) is None


@pytest.mark.parametrize("store", ["one", None])
def test_another_format_of_trees_is_neither_a_urn_nor_done(store: str | None) -> None:
    for result in (ErisResult("a", URN, ("one",)), ErisResult("a", None, reason="cannot be")):
        assert result.done_for(Destination("a", store))
        assert not result.done_for(Destination("b", store))
        assert result.urn_in(Destination("b", store)) is None


def test_a_urn_counts_for_the_stores_that_have_its_blocks() -> None:
    result = ErisResult("a", URN, ("one",))
    assert result.urn_in(Destination("a", "one")) == URN
    assert result.urn_in(Destination("a", None)) == URN
    assert result.urn_in(Destination("a", "two")) is None
    assert result.done_for(Destination("a", "one"))
    assert not result.done_for(Destination("a", "two"))
    assert ErisResult("a", None, reason="cannot be").done_for(Destination("a", "two"))


def test_deltas_count_for_the_store_that_has_them_and_the_smallest_is_first() -> None:
    result = ErisResult("a", URN, ("one", "two"), deltas=DELTAS)
    in_one, in_two = Destination("a", "one"), Destination("a", "two")
    part = ITEM.hash_part
    assert [one.block_bytes for one in DELTAS.made] == [1024, 4096]
    assert [line.base for line in DELTAS.lines(1)] == [BASE]
    assert result.urns_in(in_two, part) == {part: URN}
    keys = list(result.urns_in(in_one, part))
    assert [split_key(key) for key in keys] == [(part, None), (part, "0" * 32), (part, "1" * 32)]
    assert not result.urns_in(Destination("b", "one"), part)
    assert DELTAS.in_store("two") == Deltas("two")
    withdrawn = result.without("0" * 32)
    assert withdrawn is not None
    assert not withdrawn.deltas.is_known(BASE)
    assert len(withdrawn.deltas.results) == 2
    assert result.without(None) is None
    again = withdrawn.with_delta("one", DeltaResult(BASE, URN, 7))
    assert [one.block_bytes for one in again.deltas.made] == [7, 4096]
    assert withdrawn.with_delta("two", DeltaResult(BASE)).deltas.results == (DeltaResult(BASE),)


def test_what_still_counts_when_an_item_is_encoded_again() -> None:
    before = ErisResult("a", URN, ("one",), baked_at=5, deltas=DELTAS)
    same = ErisResult("a", URN, ("two",), baked_at=9).after(before)
    assert same == ErisResult("a", URN, ("one", "two"), baked_at=5, deltas=DELTAS)
    other = ErisResult("b", URN[:-1] + "A", ("two",), baked_at=9)
    assert other.after(before) == ErisResult("b", URN[:-1] + "A", ("two",), baked_at=5)
    assert other.after(None) == other


def test_a_repr_shows_no_urn() -> None:
    assert URN not in repr(FULL)
    assert "urn:" not in repr(DELTAS)


def test_a_record_of_an_earlier_version() -> None:
    record = parse_checked(format_record(FULL))
    assert record is not None
    for later in ("content_address", "signatures", "hashes", "promise"):
        del record[later]
    assert parse_record(format_checked(record)) == FULL
