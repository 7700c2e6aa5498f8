"""All items of a store in one go, of Guix and of Nix."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from guix_glue.errors import DatabaseError
from guix_glue.local.store_db import GUIX_LAYOUT, NIX_LAYOUT, StoreDatabase
from guix_glue.local.store_list import ValidItem, list_items
from tests.guix_glue.local.databases import PATHS, STORE_DIR, make_database

HASH = "sha256:" + "01" * 32


def test_of_guix_it_is_not_told_what_was_built_here(tmp_path: Path) -> None:
    make_database(tmp_path)
    items = list_items(StoreDatabase(str(tmp_path), STORE_DIR, GUIX_LAYOUT), STORE_DIR)
    assert [f"{STORE_DIR}/{item.base_name}" for item in items] == PATHS
    assert {item.is_built_here for item in items} == {None}
    assert {item.is_signed for item in items} == {None}
    assert any(item.deriver for item in items)


def test_of_nix_it_is(tmp_path: Path) -> None:
    store = "/nix/store"
    (tmp_path / "schema").write_text("10")
    names = [f"{letter * 32}-x" for letter in "abcd"]
    rows = [
        (f"{store}/{names[0]}", HASH, 10, None, None, "cache.nixos.org-1:abcd"),
        (f"{store}/{names[1]}", HASH, 10, f"{store}/{names[0]}.drv", 1, ""),
        # What makes no sense is passed over.
        ("/elsewhere/x", HASH, 10, None, None, None),
        (f"{store}/{names[2]}", "md5:00", 10, None, None, None),
        (f"{store}/{names[3]}", HASH, -1, None, None, None),
    ]
    with closing(sqlite3.connect(tmp_path / "db.sqlite")) as database:
        database.execute(
            "CREATE TABLE ValidPaths (id INTEGER PRIMARY KEY, path TEXT, hash TEXT,"
            " narSize INTEGER, deriver TEXT, ultimate INTEGER, sigs TEXT)"
        )
        database.executemany("INSERT INTO ValidPaths VALUES (NULL, ?, ?, ?, ?, ?, ?)", rows)
        database.commit()
    found = list_items(StoreDatabase(str(tmp_path), store, NIX_LAYOUT), store)
    assert found == [
        ValidItem(names[0], b"\1" * 32, 10, None, False, True),
        ValidItem(names[1], b"\1" * 32, 10, f"{names[0]}.drv", True, False),
    ]
    assert found[0].hash_part + "-" + found[0].name == names[0]


def test_another_database_is_an_error(tmp_path: Path) -> None:
    make_database(tmp_path)
    with pytest.raises(DatabaseError):
        list_items(StoreDatabase(str(tmp_path), STORE_DIR, NIX_LAYOUT), STORE_DIR)


def test_a_change_shows(tmp_path: Path) -> None:
    make_database(tmp_path)
    database = StoreDatabase(str(tmp_path), STORE_DIR, GUIX_LAYOUT)
    before = database.stamp()
    with closing(sqlite3.connect(tmp_path / "db.sqlite")) as opened:
        opened.execute("DELETE FROM Refs")
        opened.commit()
    assert database.stamp() != before
