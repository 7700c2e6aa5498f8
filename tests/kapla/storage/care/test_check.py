"""Whether a store that nobody uses is said to be sound, and left as it is."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from kapla.errors import StorageError
from kapla.storage.sqlite.care.check import check
from tests.kapla.storage.care.damaged import BLOCKS, DAMAGES, free_list_damaged, make_store
from tests.kapla.storage.databases import make_blocks


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("whole"), keep_wal=True)


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(whole, tmp_path / "blocks.sqlite"))


def digests(directory: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in directory.iterdir()
    }


def change(path: Path, text: str, values: Sequence[object] = ()) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(text, values).rowcount


def test_a_sound_store_is_sound_and_stays_as_it_is(store: Path, tmp_path: Path) -> None:
    before = digests(tmp_path)
    report = check(store)
    assert (report.findings, report.remarks) == ([], [])
    assert report.blocks == {1024: 2000, 32768: 60}
    assert digests(tmp_path) == before


def test_what_the_wal_holds_is_looked_at_and_stays_there(whole: Path, tmp_path: Path) -> None:
    for suffix in ("", "-wal"):
        shutil.copy(whole.with_name(f"kept.sqlite{suffix}"), tmp_path / f"kept.sqlite{suffix}")
    before = digests(tmp_path)
    report = check(tmp_path / "kept.sqlite")
    assert report.is_sound
    assert sum(report.blocks.values()) == len(BLOCKS)
    assert digests(tmp_path) == before


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_found_and_left_alone(
    store: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(store)
    before = digests(tmp_path)
    try:
        assert not check(store).is_sound
    except StorageError:
        assert damage is not free_list_damaged
    assert digests(tmp_path) == before


[FIRST, *_] = BLOCKS


@pytest.mark.parametrize(
    ("text", "values", "finding"),
    [
        ("UPDATE blocks SET block = zeroblob(1024) WHERE reference = ?", (FIRST,), "names say"),
        ("UPDATE recent SET prefixes = zeroblob(length(prefixes))", (), "be found"),
        ("UPDATE totals SET blocks = blocks + 1", (), "totals"),
        ("UPDATE pins SET small = zeroblob(40) WHERE id = 1", (), "pin 1"),
    ],
)
def test_values_that_can_be_read_and_are_wrong_are_found(
    store: Path, text: str, values: Sequence[object], finding: str
) -> None:
    change(store, text, values)
    [found] = check(store).findings
    assert finding in found


def test_what_a_pin_lacks_is_told_and_is_no_damage(store: Path) -> None:
    change(store, "INSERT INTO wanted VALUES (?, 1)", (next(iter(make_blocks(1, seed=9))),))
    report = check(store)
    assert report.is_sound
    assert report.remarks == ["1 pin lacks some of its blocks"]


@pytest.mark.parametrize("content", [b"", b"text" * 10_000])
def test_what_is_no_store_is_no_sound_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(StorageError):
        check(tmp_path / "other")
