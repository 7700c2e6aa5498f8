"""Parts of trees: their bytes, and which block has which number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eris.encode import encode
from eris.node import block_count
from eris_fs import RegularFile, Symlink
from guix_glue.seed.errors import DamagedIndex
from guix_glue.seed.parts import (
    Kind,
    Listed,
    OfIndex,
    Part,
    Place,
    Places,
    entries_of,
    format_part,
    level_starts,
    parse_part,
)

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


@st.composite
def parts(draw: st.DrawFn) -> Part:
    stamp_size = draw(st.sampled_from([0, 8]))
    entries = []
    for path in draw(st.lists(PATHS, max_size=6)):
        kind = draw(st.sampled_from(list(Kind)))
        if kind is Kind.SYMLINK:
            entries.append(Listed(path, kind, target=draw(NAMES)))
        elif kind is Kind.EMPTY_DIRECTORY:
            entries.append(Listed(path, kind))
        else:
            stamp = draw(st.binary(min_size=stamp_size, max_size=stamp_size))
            entries.append(Listed(path, kind, draw(st.integers(0, 1 << 40)), stamp))
    files = sum(one.is_file for one in entries)
    pairs = draw(st.just(b"") | st.binary(min_size=64 * files, max_size=64 * files))
    members = draw(st.none() | st.lists(st.integers(0, 1 << 27), max_size=3).map(tuple))
    return Part(draw(PATHS), tuple(entries), pairs, members, draw(st.binary(max_size=32)))


@given(parts())
def test_what_is_written_is_read(part: Part) -> None:
    assert parse_part(format_part(part)) == part


@given(parts(), st.data())
def test_whatever_is_damaged_is_an_error_or_a_part(part: Part, data: st.DataObject) -> None:
    written = bytearray(format_part(part))
    at = data.draw(st.integers(0, len(written) - 1))
    written[at] ^= data.draw(st.integers(1, 255))
    try:
        parse_part(bytes(written))
    except DamagedIndex:
        return


@pytest.mark.parametrize("cut", range(0, 40, 7))
def test_what_is_cut_off_is_an_error(cut: int) -> None:
    written = format_part(Part("/a", (Listed("b", Kind.FILE, 3),), bytes(64)))
    with pytest.raises(DamagedIndex):
        parse_part(written[:cut])


def test_a_tree_that_is_one_file_or_one_symlink() -> None:
    capability, _ = encode(b"hello")
    pair = capability.root.reference + bytes(capability.root.key)
    file = Part("/a", (Listed("", Kind.EXECUTABLE, 5),), pair)
    assert entries_of(file) == {(): RegularFile(capability, True)}
    assert entries_of(Part("/a", (Listed("", Kind.SYMLINK, target="b"),), b"")) == {
        (): Symlink("b")
    }


SIZES = [0, 1, 1023, 1024, 16383, 16384, 32767, 32768, 5_000_000, 17 * 1024 * 1024]


def test_every_number_is_a_place_and_the_next_file_begins_behind_the_last() -> None:
    places = Places(SIZES)
    number = 0
    for file, size in enumerate(SIZES):
        assert places.start(file) == number
        block_size = 1024 if size < 16384 else 32768
        count = size // block_size + 1
        level = 0
        while True:
            found = [places.find(number + place) for place in range(count)]
            assert found == [Place(file, level, place) for place in range(count)]
            number += count
            if count == 1:
                break
            count, level = -(-count // (block_size // 64)), level + 1
    assert places.count == number
    assert places.find(number) == OfIndex(0)
    assert places.find(number + 7) == OfIndex(7)


@pytest.mark.parametrize("size", SIZES)
def test_levels_hold_all_blocks(size: int) -> None:
    from eris.model import choose_block_size

    block_size = choose_block_size(size)
    assert level_starts(size, block_size)[-1] + 1 == block_count(size, block_size)
