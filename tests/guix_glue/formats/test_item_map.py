"""The format of maps: any entries, any bytes, and those that lie."""

from __future__ import annotations

import struct
from contextlib import suppress
from random import Random

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
    MOST_DISPLACED,
    PAGE_SIZE,
    Contents,
    Entry,
    InvalidMap,
    MapFacts,
    MapLimits,
    Search,
    entry_of,
    format_head,
    format_page,
    hash_part_at,
    home_of,
    key_of,
    parse_head,
    parse_page,
    split_entries,
    urn_of,
)
from guix_glue.formats.item_map.layout import page_counts
from tests.examples import examples
from tests.guix_glue.maps.entries import FACTS, a_urn, entries, formatted

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
    """What is found, and how many pages that takes."""
    head = parse_head(data[:PAGE_SIZE])
    if not head.pages:
        found = {entry.key: entry.value for entry in split_entries(data[head.size :])}
        return found.get(key), 0
    looking, pages = Search(key, head.pages), 0
    while (page := looking.page) is not None:
        pages += 1
        looking.look(parse_page(data[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]))
    return looking.found, pages


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


@pytest.mark.parametrize("count", [384, 385, 386, 700, 5000])
def test_an_item_is_found_in_one_page(count: int) -> None:
    made = entries(count)
    data = formatted(made)
    sampled = made[:: count // 100] + entries(100, seed=7)
    found = [search(data, entry.key) for entry in sampled]
    assert [value for value, _ in found[:-100]] == [entry.value for entry in made[:: count // 100]]
    assert all(value is None for value, _ in found[-100:])
    assert sum(pages for _, pages in found) <= 1.1 * len(found)
    assert len(data) <= (3 if count <= 700 else 1.3) * count * ENTRY_SIZE + PAGE_SIZE


def test_where_pages_are_full_others_go_on() -> None:
    """Of so many that begin alike as a map can hold, each is found, and none that is not there."""
    alike = [
        Entry(bytes(18) + place.to_bytes(2, "big"), bytes(65)) for place in range(0, 10_000, 2)
    ]
    made = [*alike, *(entry for entry in entries(5000) if entry.key[:1] != b"\0")]
    data = formatted(made)
    assert list(Contents.parse(data)) == made
    most = 0
    for entry in alike[::199]:
        found, pages = search(data, entry.key)
        assert found == entry.value
        most = max(most, pages)
        missing = entry.key[:-1] + bytes([entry.key[-1] + 1])
        assert search(data, missing)[0] is None
    assert 10 < most <= MOST_DISPLACED + 1


@settings(max_examples=examples(20))
@given(st.randoms(), st.integers(400, 3000), st.integers(0, 30))
def test_any_keys_are_where_they_are_looked_for(source: Random, count: int, alike: int) -> None:
    bits = [160, 160, 160 - alike]
    numbers = {source.getrandbits(bits[number % 3]) for number in range(count)}
    made = [Entry(one.to_bytes(20, "big"), bytes(65)) for one in sorted(numbers)]
    data = formatted(made)
    for entry in made[::50]:
        assert search(data, entry.key)[0] == entry.value


def test_more_that_begin_alike_than_a_map_can_hold() -> None:
    made = [Entry(bytes(17) + place.to_bytes(3, "big"), bytes(65)) for place in range(6500)]
    with pytest.raises(InvalidMap, match="begin alike"):
        formatted(made)


def test_a_new_item_changes_the_head_and_one_page() -> None:
    made = entries(5001)
    before, after = formatted(made[:2500] + made[2501:]), formatted(made)
    assert len(before) == len(after)
    starts = range(0, len(after), PAGE_SIZE)
    changed = [at for at in starts if before[at : at + PAGE_SIZE] != after[at : at + PAGE_SIZE]]
    assert len(changed) <= 3
    assert changed[0] == 0


def test_the_bytes_are_those_of_the_document() -> None:
    key, value = key_of(HASH_PART), bytes(range(65))
    text = b"StoreDir: /gnu/store\nTrees: kapla-packed-1 level 19\n"
    head = b"kapla-item-map-1" + struct.pack("<IHHQ", 0, 85, len(text), 1)
    assert formatted([Entry(key, value)]) == head + text + key + value
    made = entries(700)
    data = formatted(made)
    head = b"kapla-item-map-1" + struct.pack("<IHHQ", 3, 85, len(text), 700)
    assert data[:PAGE_SIZE] == (head + text).ljust(PAGE_SIZE, b"\0")
    for page in (1, 2, 3):
        bounds = range(-(-(page - 1 << 160) // 3), -(-(page << 160) // 3))
        there = [one for one in made if int.from_bytes(one.key, "big") in bounds]
        body = b"".join(one.key + one.value for one in there)
        expected = b"page" + struct.pack("<HH", 85, len(there)) + body
        at = page * PAGE_SIZE
        assert data[at : at + PAGE_SIZE] == expected.ljust(PAGE_SIZE, b"\0")


@pytest.mark.parametrize(
    ("count", "pages"),
    [(346 * 3, 3), (346 * 3 + 1, 4), (346 * 510 + 1, 1022)],
)
def test_how_many_pages_there_are_follows_from_how_many_entries(count: int, pages: int) -> None:
    spread = [(number * 2**160 // count).to_bytes(20, "big") for number in range(count)]
    assert len(page_counts(spread, 90)) == pages
    assert sum(page_counts(spread, 90)) == count


def test_room_to_grow_is_passed_over() -> None:
    text = b"Later: something\nStoreDir: /gnu/store\n"
    made = entries(360)
    longer = b"".join(one.key + one.value + b"more" for one in made)
    page = (b"page" + struct.pack("<HH", 89, 360) + longer).ljust(PAGE_SIZE, b"\0")
    head = b"kapla-item-map-1" + struct.pack("<IHHQ", 1, 89, len(text), 360) + text
    data = head.ljust(PAGE_SIZE, b"\xff") + page
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
        formatted(entries(600))[:-1],
        _with(16, "<I", 0),
        _with(16, "<I", 3),
        _with(16, "<I", 2**31),
        _with(20, "<H", 84),
        _with(20, "<H", 2000),
        _with(22, "<H", 5000),
        _with(22, "<H", 33_000),
        _with(24, "<Q", 601),
        _with(24, "<Q", 2**63),
        _with(32, "<B", 0xFF),
        _with(PAGE_SIZE, "<B", 0),
        _with(PAGE_SIZE + 4, "<H", 84),
        _with(PAGE_SIZE + 6, "<H", 386),
        _with(PAGE_SIZE + 6, "<H", 3),
        _with(PAGE_SIZE + 8, "<B", 0xFF),
    ],
)
def test_what_is_no_map(data: bytes) -> None:
    with pytest.raises(InvalidMap):
        Contents.parse(data)


def test_entries_out_of_order_are_refused() -> None:
    one, other = entries(2)
    head = format_head(FACTS, 2, 0)
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
        format_head(MapFacts(wrong), 0, 0)


@pytest.mark.parametrize("place", [0, 1])
def test_a_page_of_entries_that_belong_elsewhere_ends_a_search(place: int) -> None:
    made = entries(4000)
    key = made[2000].key
    looking = Search(key, 40)
    elsewhere = (made[:100], made[-100:])[place]
    page = parse_page(format_page(b"".join(part for one in elsewhere for part in one)))
    with pytest.raises(InvalidMap, match="should be"):
        looking.look(page)
    assert looking.page is None


def test_full_pages_without_end_are_looked_at_some_times() -> None:
    key = bytes([128] + 19 * [0])
    before = [Entry((2**159 - 400 + place).to_bytes(20, "big"), bytes(65)) for place in range(385)]
    page = parse_page(format_page(b"".join(part for one in before for part in one)))
    assert page.is_full
    looking, pages = Search(key, 100), 0
    # Whatever the page is, it holds what is just before the key.
    with suppress(InvalidMap):
        while looking.page is not None:
            pages += 1
            looking.look(page)
    assert looking.found is None
    assert pages <= MOST_DISPLACED + 1
    assert home_of(key, 100) == 51
