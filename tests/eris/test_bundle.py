"""Bundles: what is written is read, by us and by others; damage costs only what it touches."""

from __future__ import annotations

import os
from collections.abc import Iterable

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eris import ReadCapability, encode, reference_of
from eris.bundle import (
    BUNDLE_HEAD,
    BadBlock,
    BundleItem,
    BundleLimits,
    BundleReader,
    format_bundle_tail,
    format_bundled_block,
)
from eris.errors import InvalidBundle

CAPABILITY, BLOCKS = encode(bytes(range(256)) * 40)
ITEMS: list[BundleItem] = [*BLOCKS.items(), CAPABILITY]
TAGGED = 1701996915


def bundle(blocks: Iterable[bytes], *capabilities: ReadCapability) -> bytes:
    entries = b"".join(format_bundled_block(reference_of(block), block) for block in blocks)
    return BUNDLE_HEAD + entries + format_bundle_tail(capabilities)


BUNDLE = bundle(BLOCKS.values(), CAPABILITY)
ENTRY = 2 + 32 + 3 + 1024


def read(data: bytes, step: int = 0, limits: BundleLimits | None = None) -> list[BundleItem]:
    """All items; a failure is raised only when they are known."""
    items, failure = read_in_spite(data, step, limits)
    if failure is not None:
        raise failure
    return items


def read_in_spite(
    data: bytes, step: int = 0, limits: BundleLimits | None = None
) -> tuple[list[BundleItem], InvalidBundle | None]:
    reader = BundleReader(limits or BundleLimits())
    items: list[BundleItem] = []
    for at in range(0, len(data), step or len(data) or 1):
        items += reader.feed(data[at : at + (step or len(data))])
    try:
        reader.finish()
    except InvalidBundle as error:
        return items, error
    return items, None


@pytest.mark.parametrize("step", [0, 1, 7, 1000, 1024])
def test_what_was_written_is_read_however_it_comes(step: int) -> None:
    assert read(BUNDLE, step) == ITEMS


def test_a_stranger_reads_what_was_written() -> None:
    tagged = cbor2.loads(BUNDLE)
    assert tagged.tag == TAGGED
    blocks, capability = tagged.value
    assert dict(blocks) == BLOCKS
    assert (capability.tag, capability.value) == (276, CAPABILITY.to_bytes())


def test_the_first_bytes_are_those_of_other_programs() -> None:
    assert BUNDLE.startswith(bytes.fromhex("d9d9f7da657269739fbf5820"))


PLAIN = [dict(BLOCKS), cbor2.CBORTag(276, CAPABILITY.to_bytes())]


@pytest.mark.parametrize(
    "data",
    [
        cbor2.dumps(PLAIN),
        cbor2.dumps(cbor2.CBORTag(TAGGED, PLAIN)),
        cbor2.dumps(cbor2.CBORTag(55799, cbor2.CBORTag(TAGGED, PLAIN))),
        b"\x9f" + cbor2.dumps(PLAIN)[1:] + b"\xff",
        # Lengths that are not the shortest.
        b"\x9b" + (2).to_bytes(8, "big") + cbor2.dumps(PLAIN)[1:],
        BUNDLE.replace(b"\x59\x04\x00", b"\x5a\x00\x00\x04\x00"),
        BUNDLE.replace(b"\x58\x20", b"\x5b" + (32).to_bytes(8, "big")),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_every_form_is_read(data: bytes, step: int) -> None:
    assert read(data, step) == ITEMS


def test_both_block_sizes_and_no_blocks_at_all() -> None:
    blocks = [os.urandom(1024), os.urandom(32768)]
    assert read(bundle(blocks)) == [(reference_of(block), block) for block in blocks]
    assert read(bundle([])) == []
    assert read(cbor2.dumps([{}])) == []


UNKNOWN: list[object] = [
    None,
    True,
    1.5,
    -7,
    2**70,
    "text",
    b"bytes",
    [],
    {},
    [1, [2, {"a": [b"x" * 300]}]],
    cbor2.CBORTag(276, "text"),
    cbor2.CBORTag(276, b"short"),
    cbor2.CBORTag(276, bytes(66)),
    cbor2.CBORTag(999, {1: 2}),
]


@pytest.mark.parametrize("element", UNKNOWN, ids=repr)
@pytest.mark.parametrize("step", [0, 1])
def test_unknown_elements_are_passed_over(element: object, step: int) -> None:
    for data in (cbor2.dumps([*PLAIN[:1], element, PLAIN[1]]), with_element(cbor2.dumps(element))):
        reader = BundleReader()
        items = [
            item
            for at in range(0, len(data), step or len(data))
            for item in reader.feed(data[at : at + (step or len(data))])
        ]
        reader.finish()
        assert items == ITEMS
        assert reader.ignored == 1


def with_element(element: bytes) -> bytes:
    return BUNDLE[:-72] + element + BUNDLE[-72:]


@pytest.mark.parametrize(
    "element",
    [
        bytes.fromhex("5f41614162ff"),  # a string in two pieces
        bytes.fromhex("7f6161ff"),
        bytes.fromhex("9f019f02ffff"),
        bytes.fromhex("bf0102ff"),
        bytes.fromhex("f818f97c00"),  # two: a simple value and a float
    ],
    ids=bytes.hex,
)
def test_elements_of_indefinite_length_are_passed_over(element: bytes) -> None:
    assert read(with_element(element)) == ITEMS


@pytest.mark.parametrize(
    ("element", "reason"),
    [
        (b"\x81" * 100 + b"\x00", "nested too deeply"),
        (b"\xc1" * 100 + b"\x00", "nested too deeply"),
        (b"\x5b" + b"\x7f" + b"\xff" * 7, "too long"),
        (b"\x9a\x00\xff\xff\xff" + b"\x63abc" * 300_000, "too long"),
        (b"\x1c", "no CBOR item"),
        (b"\x81\xff", "ends where none should"),
    ],
)
def test_hostile_elements_are_refused(element: bytes, reason: str) -> None:
    items, failure = read_in_spite(with_element(element), 4096)
    assert failure is not None
    assert reason in failure.reason
    assert items[: len(BLOCKS)] == ITEMS[:-1]


def test_what_is_unknown_is_limited_in_all() -> None:
    limits = BundleLimits(ignored_bytes=1000)
    few, many = (with_element(cbor2.dumps(b"x" * 100) * count) for count in (9, 11))
    assert read(few, 64, limits) == ITEMS
    _, failure = read_in_spite(many, 64, limits)
    assert failure is not None


def test_a_bundle_with_too_many_capabilities_is_refused() -> None:
    data = bundle([], *[CAPABILITY] * 5000)
    items, failure = read_in_spite(data, 4096, BundleLimits(capabilities=3))
    assert items == [CAPABILITY] * 3
    assert failure is not None


def test_a_block_under_another_reference_is_told_and_what_follows_is_read() -> None:
    first = next(iter(BLOCKS))
    for place in (len(BUNDLE_HEAD) + 2, len(BUNDLE_HEAD) + 500):
        data = flipped(BUNDLE, place)
        items = read(data)
        assert isinstance(items[0], BadBlock)
        assert items[1:] == ITEMS[1:]
        assert (items[0].reference == first) == (place > len(BUNDLE_HEAD) + 34)


def flipped(data: bytes, place: int, bits: int = 0x10) -> bytes:
    return data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]


def test_a_bundle_that_is_cut_off_gives_what_came_wherever_it_is_cut() -> None:
    for end in [*range(len(BUNDLE_HEAD) + 2 * ENTRY), *range(len(BUNDLE) - 80, len(BUNDLE))]:
        items, failure = read_in_spite(BUNDLE[:end])
        assert failure is not None
        assert failure.position == end
        whole = max(0, min(len(BLOCKS), (end - len(BUNDLE_HEAD)) // ENTRY))
        # All but the last byte of it is there when its capability is.
        assert items == ITEMS[: whole + (end == len(BUNDLE) - 1)]


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("place", [0, 5, 9, 10, 11, 44, 46, 10 + ENTRY, 10 + ENTRY + 1])
def test_a_damaged_head_costs_its_own_block_at_most(place: int, step: int) -> None:
    items, failure = read_in_spite(flipped(BUNDLE, place), step)
    assert failure is not None
    lost = [item for item in ITEMS if item not in items]
    assert len(lost) <= 1
    assert CAPABILITY not in lost


def test_a_gap_or_a_part_of_another_file_costs_what_is_there() -> None:
    start = len(BUNDLE_HEAD)
    for data in (
        BUNDLE[: start + 100] + BUNDLE[start + 300 :],
        BUNDLE[: start + ENTRY // 2] + os.urandom(5000) + BUNDLE[start + ENTRY :],
        BUNDLE[start + ENTRY + 7 :],
    ):
        items, failure = read_in_spite(data, 1000)
        assert failure is not None
        assert set(map(repr, ITEMS[2:])) <= set(map(repr, items))


def test_two_bundles_in_one_file_are_both_read() -> None:
    other = os.urandom(1024)
    items, failure = read_in_spite(BUNDLE + bundle([other]))
    assert failure is not None
    assert "follows its end" in failure.reason
    assert items == [*ITEMS, (reference_of(other), other)]


def test_what_looks_like_blocks_everywhere_is_given_up() -> None:
    # Each of these pretends that 32 KiB follow, to be hashed in vain.
    data = (b"\x58\x20" + bytes(32) + b"\x59\x80\x00") * 6000 + bytes(40_000)
    good = os.urandom(1024)
    items, failure = read_in_spite(data + bundle([good]), 65536)
    assert failure is not None
    assert items == []


@given(st.binary(max_size=300), st.integers(0, 40))
def test_any_bytes_are_read_or_refused_the_same_in_pieces(data: bytes, step: int) -> None:
    for text in (data, BUNDLE_HEAD + data, BUNDLE[:-73] + data):
        whole, failure = read_in_spite(text)
        pieces, again = read_in_spite(text, step)
        assert pieces == whole
        assert str(again) == str(failure)


@given(st.lists(st.integers(0, len(BUNDLE) - 1), min_size=1, max_size=3), st.integers(1, 255))
def test_damage_never_makes_a_block_of_what_is_none(places: list[int], bits: int) -> None:
    data = BUNDLE
    for place in places:
        data = flipped(data, place, bits)
    items, _ = read_in_spite(data, 777)
    for item in items:
        if isinstance(item, tuple) and not isinstance(item, BadBlock):
            assert reference_of(item[1]) == item[0]


@given(st.lists(st.binary(min_size=1, max_size=8), unique=True, max_size=6), st.integers(0, 3))
def test_any_blocks_and_capabilities_survive(names: list[bytes], count: int) -> None:
    blocks = [name.ljust(1024, b"\0") for name in names]
    found = read(bundle(blocks, *[CAPABILITY] * count), 500)
    assert found == [(reference_of(block), block) for block in blocks] + [CAPABILITY] * count
