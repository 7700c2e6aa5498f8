"""Which items are here, as the database says, or the directory."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from guix_glue.local.installed import InstalledItems
from tests.guix_glue.local.databases import PATHS, STORE_DIR, make_database

HERE, ELSEWHERE, INVALID = (f"{digit * 32}-app" for digit in "123")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store whose database knows one item of two that are there, and one that is not."""
    store = tmp_path / "store"
    for name in (HERE, INVALID):
        (store / name).mkdir(parents=True)
    database_dir = tmp_path / "db"
    database_dir.mkdir()
    make_database(database_dir)
    with closing(sqlite3.connect(database_dir / "db.sqlite")) as database:
        for number, name in enumerate((HERE, ELSEWHERE), 900):
            row = (number, f"{store}/{name}", f"sha256:{'0b' * 32}", 1, None, 200)
            database.execute("INSERT INTO ValidPaths VALUES (?, ?, ?, ?, ?, ?)", row)
        database.commit()
    return store


def among(store: Path) -> frozenset[str]:
    items = InstalledItems(str(store.parent / "db"), str(store))
    return items.among([ELSEWHERE, HERE, INVALID])


def test_those_that_are_valid_and_there(store: Path) -> None:
    assert among(store) == {HERE}


@pytest.mark.parametrize("what", ["schema", "db.sqlite"])
def test_what_is_there_if_the_database_does_not_tell(store: Path, what: str) -> None:
    (store.parent / "db" / what).unlink()
    assert among(store) == {HERE, INVALID}


def test_none_is_asked_for_or_there(tmp_path: Path) -> None:
    items = InstalledItems(str(tmp_path / "none"), str(tmp_path))
    assert items.among([]) == items.among([HERE]) == frozenset()


@pytest.mark.parametrize(("mode", "found"), [("DELETE", {HERE}), ("WAL", {HERE, INVALID})])
def test_a_database_that_is_locked_is_not_waited_for(
    store: Path, mode: str, found: set[str]
) -> None:
    """By what can be read without a lock, then; with a log that is not all, and nothing is told."""
    with closing(sqlite3.connect(store.parent / "db/db.sqlite", isolation_level=None)) as database:
        database.execute(f"PRAGMA journal_mode = {mode}")
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        assert among(store) == found
        database.execute("ROLLBACK")


def test_items_of_another_store_are_none_of_ours(store: Path) -> None:
    items = InstalledItems(str(store.parent / "db"), STORE_DIR)
    assert items.among([PATHS[0].rpartition("/")[2]]) == frozenset()


def test_no_database_is_opened_where_nothing_is_there(tmp_path: Path) -> None:
    program = (
        "import sys; from guix_glue.local.installed import InstalledItems;"
        f"InstalledItems({str(tmp_path)!r}, {str(tmp_path)!r}).among([{HERE!r}]);"
        "print('sqlite3' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"
