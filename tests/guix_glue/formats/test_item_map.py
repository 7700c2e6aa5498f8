"""The format of maps: any entries, any bytes, and those that lie."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eris.capability import ReadCapability
from eris.errors import InvalidCapability
from eris.model import BlockSize, Key, Reference, ReferenceKeyPair
from guix_glue.errors import InvalidStorePath
from guix_glue.formats.item_map import (
    ENTRY_SIZE,
    KEY_SIZE,
    LARGEST_HEAD,
    Contents,
    Entry,
    InvalidMap,
    MapFacts,
    MapLimits,
    Search,
    entry_of,
    format_head,
    hash_part_at,
    key_of,
    parse_head,
    split_entries,
    urn_of,
)
from guix_glue.formats.item_map.searching import MOST_WINDOWS
from tests.examples import examples
from tests.guix_glue.maps.entries import FACTS, a_urn, contents, entries, formatted

HASH_PART = "7xq3qwahlz7ci18sxrm0qhmzqmafag1f"
keys = st.binary(min_size=KEY_SIZE, max_size=KEY_SIZE)
# Close together too, which hash parts never are.
near_keys = st.integers(0, 400).map(lambda number: number.to_bytes(KEY_SIZE, "big"))
values = st.binary(min_size=ENTRY_SIZE - KEY_SIZE, max_size=ENTRY_SIZE - KEY_SIZE)
facts = st.builds(
    MapFacts,
    st.none() | st.text("/abc-δ ", max_size=20),
    st.none() | st.text("abc 19", max_size=20),
)


def search(data: bytes, key: bytes) -> tuple[bytes | None, int]:
    """What is found, and how many windows that takes."""
    head = parse_head(data[:LARGEST_HEAD])
    looking, windows = Search(head, key), 0
    while (window := looking.window) is not None:
        windows += 1
        start = head.start + window.first * head.entry_size
        stop = head.start + window.stop * head.entry_size
        looking.look(list(split_entries(data[start:stop], head.entry_size)))
    return looking.found, windows


# --- entries ------------------------------------------------------------------------------------


def test_an_entry_is_a_hash_part_and_a_urn() -> None:
    entry = entry_of(HASH_PART, a_urn())
    assert len(entry.key + entry.value) == ENTRY_SIZE == 85
    assert (hash_part_at(entry.key), urn_of(entry.value)) == (HASH_PART, a_urn())
    assert HASH_PART in repr(entry)
    assert entry.value.hex() not in repr(entry) and "\\x" not in repr(entry)


@given(st.sampled_from(BlockSize), st.integers(0, 127), st.binary(min_size=64, max_size=64))
def test_any_capability_keeps_all_that_it_is(size: BlockSize, level: int, pair: bytes) -> None:
    root = ReferenceKeyPair(Reference(pair[:32]), Key(pair[32:]))
    urn = ReadCapability(size, level, root).to_urn()
    assert urn_of(entry_of(HASH_PART, urn).value) == urn


@given(keys, keys)
def test_entries_are_in_the_order_of_hash_parts(one: bytes, other: bytes) -> None:
    assert (one < other) == (hash_part_at(one) < hash_part_at(other))
    assert key_of(hash_part_at(one)) == one


def test_what_is_no_entry() -> None:
    with pytest.raises(InvalidStorePath):
        entry_of("e" * 32, a_urn())
    with pytest.raises(InvalidCapability):
        entry_of(HASH_PART, "urn:eris:ABC")
    pair = ReferenceKeyPair(Reference(bytes(32)), Key(bytes(32)))
    with pytest.raises(InvalidCapability):
        entry_of(HASH_PART, ReadCapability(BlockSize.SMALL, 128, pair).to_urn())


# --- maps ---------------------------------------------------------------------------------------


@given(st.dictionaries(keys | near_keys, values, max_size=60), facts, keys | near_keys)
@example({}, MapFacts(), bytes(KEY_SIZE))
def test_any_map_is_read_as_it_was_written(
    made: dict[bytes, bytes], said: MapFacts, other: bytes
) -> None:
    found = [Entry(*one) for one in made.items()]
    data = b"".join(Contents.of(said, found).format())
    read = Contents.parse(data)
    assert read.facts == said
    assert list(read) == sorted(found)
    assert b"".join(read.format()) == data
    for key in (*made, other):
        value = made.get(key)
        assert search(data, key)[0] == value
        assert read.find(hash_part_at(key)) == (None if value is None else urn_of(value))


@pytest.mark.parametrize("count", [255, 256, 511, 512, 5000])
def test_an_item_is_found_in_about_one_window(count: int) -> None:
    made = entries(count)
    data = formatted(made)
    sampled = made[:: count // 100] + entries(100, seed=7)
    found = [search(data, entry.key) for entry in sampled]
    assert [value for value, _ in found[:-100]] == [entry.value for entry in made[:: count // 100]]
    assert all(value is None for value, _ in found[-100:])
    assert sum(windows for _, windows in found) <= 1.1 * len(found)


@settings(max_examples=examples(20))
@given(st.integers(0, 30_000), st.integers(0, 120))
def test_items_that_are_not_spread_evenly_are_found_all_the_same(place: int, shift: int) -> None:
    count = 30_000
    made = [
        Entry((number << shift).to_bytes(KEY_SIZE, "big"), bytes(ENTRY_SIZE - KEY_SIZE))
        for number in range(count)
    ]
    found, windows = search(formatted(made), (place << shift).to_bytes(KEY_SIZE, "big"))
    assert (found is not None) == (place < count)
    assert windows <= MOST_WINDOWS


def test_the_bytes_are_those_of_the_document() -> None:
    key, value = key_of(HASH_PART), bytes(range(65))
    data = formatted([Entry(key, value)])
    text = b"StoreDir: /gnu/store\nTrees: kapla-packed-1 level 19\n"
    start = 34 + len(text)
    head = b"kapla-item-map-1" + struct.pack("<IHBBQH", start, 85, 0, 0, 1, len(text))
    assert data == head + text + key + value


def test_steps_say_how_many_entries_are_before() -> None:
    made = entries(2000)
    head = parse_head(formatted(made)[:LARGEST_HEAD])
    assert len(head.steps) == 2**2 + 1
    bounds = [(number << 158).to_bytes(20, "big") for number in range(4)]
    assert head.steps == (*(sum(one.key < bound for one in made) for bound in bounds), 2000)


def test_room_to_grow_is_passed_over() -> None:
    made = entries(300)
    plain = formatted(made)
    head = parse_head(plain)
    text = b"Later: something\nStoreDir: /gnu/store\n"
    longer = b"".join(one.key + one.value + b"more" for one in made)
    steps = b"".join(step.to_bytes(4, "little") for step in head.steps[1:-1])
    fixed = b"kapla-item-map-1" + struct.pack(
        "<IHBBQH", 34 + len(text) + len(steps) + 9, 89, 0, 0, 300, len(text)
    )
    data = fixed + text + steps + b"and later" + longer
    assert list(Contents.parse(data)) == made
    assert search(data, made[77].key) == (made[77].value, 1)
    assert Contents.parse(data).facts == MapFacts("/gnu/store")


# --- what is refused ----------------------------------------------------------------------------


@given(st.binary(max_size=200) | st.binary(max_size=80).map(lambda rest: formatted([])[:16] + rest))
def test_any_bytes_are_a_map_or_refused(data: bytes) -> None:
    try:
        read = Contents.parse(data)
    except InvalidMap as error:
        assert "not a valid map" in str(error)
    else:
        assert len(list(read)) == len(read)


def _with(place: int, kind: str, value: int, count: int = 600) -> bytes:
    data = bytearray(formatted(entries(count)))
    struct.pack_into(kind, data, place, value)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"kapla-item-map-2" + bytes(100),
        b"kapla-item-map-1",
        formatted(entries(5))[:-1],
        formatted(entries(5)) + b"\0",
        _with(16, "<I", 1),
        _with(16, "<I", 40_000),
        _with(20, "<H", 84),
        _with(20, "<H", 2000),
        _with(22, "<B", 13),
        _with(24, "<Q", 601),
        _with(24, "<Q", 2**63),
        _with(32, "<H", 5000),
        _with(34, "<B", 0xFF),
    ],
)
def test_what_is_no_map(data: bytes) -> None:
    with pytest.raises(InvalidMap):
        Contents.parse(data)


def test_entries_out_of_order_are_refused() -> None:
    one, other = entries(2)
    head = format_head(FACTS, [one.key, other.key])
    for wrong in ((other, one), (one, one)):
        with pytest.raises(InvalidMap, match="order"):
            Contents.parse(head + b"".join(part for entry in wrong for part in entry))
    with pytest.raises(InvalidMap):
        Contents.of(FACTS, [one, one])


def test_a_limit_is_a_limit() -> None:
    data = formatted(entries(3))
    assert len(Contents.parse(data, MapLimits(count=3))) == 3
    with pytest.raises(InvalidMap, match="larger"):
        Contents.parse(data, MapLimits(count=2))


@pytest.mark.parametrize("wrong", ["two\nlines", "x" * 5000, "a\x85b"])
def test_facts_are_lines(wrong: str) -> None:
    with pytest.raises(InvalidMap):
        b"".join(contents(1).format()) and format_head(MapFacts(wrong), [])


def test_a_search_among_lies_comes_to_an_end() -> None:
    made = entries(30_000)
    head = parse_head(formatted(made)[:LARGEST_HEAD])
    lies = (entries(30_000, 5), made[::-1], [made[0]] * 30_000, made[1:] + made[:1])
    for lie in lies:
        for key in (entries(1, 9)[0].key, made[7].key, made[-1].key):
            looking, windows = Search(head, key), 0
            with suppress(InvalidMap):
                while (window := looking.window) is not None:
                    windows += 1
                    looking.look(lie[window.first : window.stop])
            assert windows <= MOST_WINDOWS
