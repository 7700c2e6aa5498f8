"""Which items `kapla map build` takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from guix_glue.cli.map.items import items_wanted
from guix_glue.errors import DatabaseError, InvalidStorePath
from guix_glue.formats.store_path import hash_part_of
from kapla.cli.common import CommandError
from tests.guix_glue.local.databases import PATHS, make_database
from tests.guix_glue.maps.entries import hash_parts


def test_all_of_this_machines_store_the_largest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUIX_DATABASE_DIRECTORY", str(tmp_path))
    with pytest.raises(DatabaseError, match="cannot read"):
        items_wanted([], None)
    make_database(tmp_path)
    items = items_wanted([], None)
    assert {item.location for item in items} == set(PATHS)
    assert all(item.hash_part == hash_part_of(item.location) for item in items)
    sizes = [item.size for item in items]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1]


def test_those_that_are_named_and_those_of_a_list_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, two = (f"{hash_part}-app-1" for hash_part in hash_parts(2))
    for name in (one, two):
        (tmp_path / name).touch()
    (tmp_path / "list").write_text(f"\n{tmp_path}/{two}\n  {one}\n{one}/\n")
    items = items_wanted([one], "list")
    assert [item.location for item in items] == [f"{tmp_path}/{one}", f"{tmp_path}/{two}"]


def test_what_is_no_item_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidStorePath, match="app-1"):
        items_wanted([str(tmp_path / "app-1")], None)
    missing = tmp_path / f"{hash_parts(1)[0]}-app-1"
    with pytest.raises(CommandError, match="no such item"):
        items_wanted([str(missing)], None)
