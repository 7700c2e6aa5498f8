"""Blocks and pins out of files that are damaged byte by byte."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from eris import Reference
from kapla.errors import StorageError
from kapla.storage.sqlite.care.check import check
from kapla.storage.sqlite.care.salvage import salvage
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.schema import LOWEST_ID
from tests.kapla.storage.care import damaged
from tests.kapla.storage.care.damaged import (
    BLOCKS,
    DAMAGES,
    add_pin,
    blocks_in,
    make_store,
    pins_in,
    places_of_blocks,
    sound_blocks,
)
from tests.kapla.storage.databases import make_blocks, opened, settings_for


class Whole(NamedTuple):
    path: Path
    places: dict[Reference, list[tuple[int, bytes]]]
    pins: dict[bytes, set[bytes]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    path = make_store(tmp_path_factory.mktemp("whole"), keep_wal=True)
    return Whole(path, places_of_blocks(path), pins_in(path))


@pytest.fixture
def store(whole: Whole, tmp_path: Path) -> Path:
    return Path(shutil.copy(whole.path, tmp_path / "blocks.sqlite"))


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "new.sqlite"


def digests(path: Path) -> list[str]:
    files = sorted(path.parent.glob(f"{path.name}*"))
    return [f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files]


def change(path: Path, *statements: tuple[str, Sequence[object]]) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for text, values in statements:
            connection.execute(text, values)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_every_sound_block_is_saved(
    whole: Whole, store: Path, new: Path, damage: Callable[[Path], None]
) -> None:
    damage(store)
    before, there = digests(store), sound_blocks(store, whole.places)
    result = salvage(store, new)
    saved = blocks_in(new)
    assert digests(store) == before
    assert all(BLOCKS.get(Reference(name)) == block for name, block in saved.items())
    assert there <= set(saved)
    assert result.blocks == len(saved)
    if damage is not damaged.first_page_gone:  # which leads to the totals
        assert result.lost == len(BLOCKS) - len(saved)
    assert check(new).is_sound
    assert new.stat().st_mode & 0o777 == 0o600
    found = pins_in(new)
    if damage is damaged.pins_gone:
        assert found == {b"salvaged": set(saved)}
        assert not result.are_pins_whole
    else:
        assert found == {name: held & set(saved) for name, held in whole.pins.items()}


def test_what_the_wal_alone_holds_is_saved(whole: Whole, tmp_path: Path, new: Path) -> None:
    store = tmp_path / "kept.sqlite"
    for suffix in ("", "-wal"):
        shutil.copy(whole.path.with_name(f"kept.sqlite{suffix}"), f"{store}{suffix}")
    before = digests(store)
    assert len(before) == 2
    assert salvage(store, new).lost == 0
    assert digests(store) == before
    assert blocks_in(new) == BLOCKS
    assert pins_in(new) == whole.pins


def test_without_its_wal_a_file_gives_what_it_has(whole: Whole, tmp_path: Path, new: Path) -> None:
    store = tmp_path / "kept.sqlite"
    shutil.copy(whole.path.with_name("kept.sqlite"), store)
    there = {
        name
        for name, parts in whole.places.items()
        if all(part in store.read_bytes() for _, part in parts[:1])
    }
    salvage(store, new)
    assert there <= set(blocks_in(new))
    assert check(new).is_sound


@pytest.mark.parametrize("page_size", [4096, 65536])
def test_pages_may_be_of_any_size(whole: Whole, new: Path, tmp_path: Path, page_size: int) -> None:
    store = tmp_path / "copy.sqlite"
    with closing(sqlite3.connect(whole.path, isolation_level=None)) as connection:
        # A database in WAL mode keeps its page size.
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute(f"PRAGMA page_size = {page_size}")
        connection.execute("VACUUM INTO ?", (str(store),))
        connection.execute("PRAGMA journal_mode = WAL")
    with store.open("r+b") as file:
        file.write(bytes(100))
    assert salvage(store, new).lost == 0
    assert blocks_in(new) == BLOCKS
    assert pins_in(new) == whole.pins


def test_what_a_pin_lacks_is_remembered(store: Path, new: Path) -> None:
    """A block that is not sound any more, one that never came, and one that came lately."""
    [bad, late, *_] = BLOCKS
    absent = next(iter(make_blocks(1, seed=9)))
    add_pin(store, b"third", [bad])
    with closing(sqlite3.connect(store)) as connection:
        (pin,) = connection.execute("SELECT id FROM pins WHERE name = ?", (b"third",)).fetchone()
        find = "SELECT id FROM blocks WHERE reference = ?"
        (late_id,) = connection.execute(find, (late,)).fetchone()
    change(
        store,
        ("UPDATE blocks SET block = zeroblob(1024) WHERE reference = ?", (bad,)),
        ("INSERT INTO wanted VALUES (?, ?)", (absent, pin)),
        ("INSERT INTO arrivals VALUES (?, ?, 1024)", (pin, late_id)),
        ("INSERT INTO lent (ids) VALUES (?)", (Ids([late_id]).pack(),)),
    )
    result = salvage(store, new)
    assert (result.lost, result.lost_pinned) == (1, 1)
    assert pins_in(new)[b"third"] == {late}
    with closing(sqlite3.connect(new)) as connection:
        wanted = connection.execute("SELECT reference FROM wanted WHERE pin = ?", (pin,))
        assert {row[0] for row in wanted} == {bad, absent}
        [(lent,)] = connection.execute("SELECT ids FROM lent").fetchall()
        assert list(Ids.unpack(lent)) == [late_id]


def test_a_block_that_came_again_is_in_the_pin(store: Path, new: Path) -> None:
    """The damaged row is still there, and a good one after it."""
    [bad, *_] = BLOCKS
    add_pin(store, b"third", [bad])
    change(
        store,
        ("UPDATE blocks SET block = zeroblob(1024) WHERE reference = ?", (bad,)),
        ("INSERT INTO blocks (reference, block) VALUES (?, ?)", (bad, BLOCKS[bad])),
    )
    assert salvage(store, new).lost == 0
    assert pins_in(new)[b"third"] == {bad}


def test_equal_blocks_are_one_afterwards(store: Path, new: Path) -> None:
    [twice, *_] = BLOCKS
    add_pin(store, b"third", [twice])
    change(store, ("INSERT INTO blocks (reference, block) VALUES (?, ?)", (twice, BLOCKS[twice])))
    assert salvage(store, new).blocks == len(BLOCKS)
    assert pins_in(new)[b"third"] == {twice}


def test_ids_that_go_on_at_the_other_end_stay(store: Path, new: Path) -> None:
    more = make_blocks(3, seed=9)
    change(
        store,
        *[
            ("INSERT INTO blocks VALUES (?, ?, ?)", (LOWEST_ID + number, *item))
            for number, item in enumerate(more.items(), 1)
        ],
    )
    add_pin(store, b"third", list(more))
    salvage(store, new)
    assert pins_in(new)[b"third"] == set(more)
    with closing(sqlite3.connect(new)) as connection:
        [(lowest,)] = connection.execute("SELECT min(id) FROM blocks")
    assert lowest == LOWEST_ID + 1


def test_a_store_from_before_pins_is_pinned_as_it_would_have_been(store: Path, new: Path) -> None:
    tables = ("pins", "wanted", "arrivals", "lent")
    change(
        store,
        *[(f"DROP TABLE {name}", ()) for name in tables],
        ("UPDATE kapla_schema SET version = 2", ()),
    )
    salvage(store, new)
    assert pins_in(new) == {b"before-pins": set(BLOCKS)}


def test_the_new_store_takes_blocks_and_gives_them(store: Path, tmp_path: Path) -> None:
    damaged.torn_pages(store)
    (tmp_path / "new").mkdir()
    lost = salvage(store, tmp_path / "new" / "blocks.sqlite").lost
    assert lost
    with opened(settings_for(tmp_path / "new")) as new:
        assert new.writer.put_many(BLOCKS).added == lost
        assert new.reader.get_many(list(BLOCKS)) == BLOCKS
    assert check(tmp_path / "new" / "blocks.sqlite").is_sound


def test_nothing_is_overwritten(store: Path, new: Path) -> None:
    new.write_bytes(b"mine")
    with pytest.raises(StorageError, match="exists already"):
        salvage(store, new)
    assert new.read_bytes() == b"mine"


@pytest.mark.parametrize("content", [b"", b"text" * 10_000])
def test_where_no_block_is_there_is_no_new_store(tmp_path: Path, new: Path, content: bytes) -> None:
    other = tmp_path / "other"
    other.write_bytes(content)
    with pytest.raises(StorageError, match="no block"):
        salvage(other, new)
    assert sorted(tmp_path.iterdir()) == [other]
