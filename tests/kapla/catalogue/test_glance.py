"""A glance at the catalogue: nothing is made, waited for, or told of what others could write."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from kapla.catalogue.catalogue import Catalogue
from kapla.catalogue.entries import Entry
from kapla.catalogue.glance import MOST_NAMES, glance_at_names, glance_at_versions

ENTRY = Entry("urn:eris:x", b"r" * 32, "coap+tcp://attic", "tree", 5, keep=9)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path / "kapla-client" / "catalogue.sqlite"


def note(path: Path, *names: str) -> None:
    with Catalogue.open_or_make(path) as catalogue:
        for number, name in enumerate(names):
            catalogue.note(replace(ENTRY, name=name, urn=f"urn:eris:{number}"))


def test_where_nothing_is_nothing_is_made(path: Path) -> None:
    assert glance_at_names() == []
    assert glance_at_versions("a") == []
    assert not path.parent.exists()


def test_names_those_that_were_stored_last_first(path: Path) -> None:
    note(path, "a", "b_1", "bx1", "a")
    assert [(one.name, one.versions) for one in glance_at_names()] == [
        ("a", 2),
        ("bx1", 1),
        ("b_1", 1),
    ]
    assert [one.name for one in glance_at_names("b_")] == ["b_1"]
    assert [one.name for one in glance_at_names(limit=1)] == ["a"]
    assert "source" not in repr(glance_at_names()[0])


def test_versions_and_their_urns(path: Path) -> None:
    note(path, "a", "a")
    assert [(one.version, one.urn) for one in glance_at_versions("a")] == [
        (0, "urn:eris:1"),
        (1, "urn:eris:0"),
    ]


def test_a_damaged_version_is_left_out(path: Path) -> None:
    note(path, "a", "a")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE entries SET urn = 'urn:eris:other' WHERE urn = 'urn:eris:1'")
    assert [one.version for one in glance_at_versions("a")] == [1]


def test_of_very_many_some_are_told(path: Path) -> None:
    note(path, "a")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO entries (name, stored, urn, root, store, source, kind, size, checksum)"
            " VALUES (?, 0, '', x'', '', '', 'file', 0, x'')",
            ((f"n{number}",) for number in range(2 * MOST_NAMES)),
        )
    assert len(glance_at_names()) == MOST_NAMES


def test_one_that_others_could_write_or_that_leads_elsewhere_tells_nothing(path: Path) -> None:
    note(path, "a")
    path.chmod(0o666)
    assert glance_at_names() == []
    path.chmod(0o600)
    path.parent.chmod(0o777)
    assert glance_at_names() == []
    path.parent.chmod(0o700)
    assert glance_at_names()
    path.rename(path.with_name("other"))
    path.symlink_to("other")
    assert glance_at_names() == []


def test_no_mode_is_changed(path: Path) -> None:
    note(path, "a")
    path.chmod(0o640)
    assert glance_at_names()
    assert path.stat().st_mode & 0o777 == 0o640


def test_one_that_is_held_or_damaged_tells_nothing(path: Path) -> None:
    note(path, "a")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holding:
        holding.execute("BEGIN EXCLUSIVE")
        assert glance_at_names() == []
    path.write_bytes(b"nonsense" * 1000)
    assert glance_at_names() == []
    path.write_bytes(b"")
    assert glance_at_names() == []
