"""A store whose daemon is killed while it makes anew what is damaged: nothing is lost by that."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from eris import Reference
from kapla.storage.pins import Closing
from kapla.storage.port import Promise
from kapla.storage.sqlite.database import SqliteSettings, open_database
from tests.kapla.storage.databases import Sessions, make_blocks, opened, settings_for


class Moments:
    """What is on the disk before each of some statements: as after SIGKILL there."""

    def __init__(self, store: Sessions, path: Path, place: Path) -> None:
        self.copies: list[Path] = []
        self._path = path
        self._place = place
        self._last: list[tuple[int, int]] = []
        self._connection = store.writer._connection

    def __enter__(self) -> Moments:
        self._connection.set_trace_callback(lambda _: self._copy())
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.set_trace_callback(None)
        self._copy()

    def _copy(self) -> None:
        files = [Path(f"{self._path}{end}").stat() for end in ("", "-wal")]
        now = [(file.st_size, file.st_mtime_ns) for file in files]
        if now != self._last:
            self._last = now
            copy = self._place / str(len(self.copies)) / self._path.name
            copy.parent.mkdir(parents=True)
            for end in ("", "-wal"):
                shutil.copy(f"{self._path}{end}", f"{copy}{end}")
            self.copies.append(copy)


def check(settings: SqliteSettings, blocks: dict[Reference, bytes]) -> None:
    """All is found, before and after the index is whole again."""
    with opened(replace(settings, rebuild_index=False)) as store:
        assert store.reader.get_many(list(blocks)) == blocks
        while store.writer.keeper.rebuild is not None:
            store.writer.chore(is_idle=True)
        assert store.reader.get_many(list(blocks)) == blocks
        assert store.reader.totals() == {1024: len(blocks), 32768: 0}


def test_while_an_index_that_is_being_made_is_begun_again(tmp_path: Path) -> None:
    settings = replace(settings_for(tmp_path / "store"), generation=16, rebuild_index=True)
    blocks = make_blocks(1200)
    with opened(replace(settings, rebuild_index=False)) as store:
        store.writer.put_many(blocks)
    with opened(settings) as store:
        assert store.writer.keeper.rebuild is not None
        store.writer._database.is_rebuild_wanted = True
        with Moments(store, settings.path, tmp_path / "moments") as moments:
            store.writer.chore(is_idle=False)
    assert len(moments.copies) > 1
    for copy in moments.copies:
        check(replace(settings, path=copy), blocks)


def spoil(path: Path, name: str) -> None:
    """Write over the first page of a table."""
    with closing(sqlite3.connect(path)) as connection:
        text = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = connection.execute(text, (name,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)


def test_while_the_log_is_written_anew(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "store")
    blocks = make_blocks(20)
    with opened(settings) as store:
        store.writer.put_many(blocks)
    with opened(settings) as store:
        spoil(settings.path, "recent")
        with Moments(store, settings.path, tmp_path / "moments") as moments:
            assert store.writer.keeper.mend()
    assert len(moments.copies) > 1
    for copy in moments.copies:
        check(replace(settings, path=copy), blocks)


def missing(store: Sessions) -> dict[str, int]:
    found, _ = store.writer.pins.page(None, (-1, ""), 9)
    return {pin.name: pin.missing for pin in found}


@pytest.mark.parametrize("name", ["wanted", "arrivals"])
def test_while_tables_of_pins_are_made_anew(tmp_path: Path, name: str) -> None:
    settings = settings_for(tmp_path / "store")
    blocks, coming = make_blocks(3), make_blocks(5, seed=1)
    with opened(settings) as store:
        number, hold, _ = store.writer.pins.begin(1000, None, b"token")
        store.writer.put_many(blocks, [Promise(hold, list(blocks), list(blocks.values()))])
        store.writer.want(number, hold, list(coming))
        becoming = Closing("a", next(iter(blocks)), lend=False, keep=True, incomplete=True)
        store.writer.pins.close(number, hold, becoming, 9)
        store.writer.put_many(dict(list(coming.items())[:2]))
    with opened(settings) as store:
        spoil(settings.path, name)
        # It is read again then.
        store.writer._connection.execute("PRAGMA shrink_memory")
        with Moments(store, settings.path, tmp_path / "moments") as moments:
            store.writer.pins._salvage()
    assert len(moments.copies) > 1
    for copy in moments.copies:
        with opened(replace(settings, path=copy)) as store:
            assert missing(store)["a"] == 3
            assert len(store.writer._database.keeping.kept) == 5


def test_after_a_damaged_log_was_thrown_away(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    blocks = make_blocks(20)
    with opened(settings) as store:
        store.writer.put_many(blocks)
    with closing(sqlite3.connect(settings.path, isolation_level=None)) as connection:
        connection.execute("UPDATE recent SET prefixes = x'00'")
    # Killed before there is a writer.
    open_database(settings)
    check(settings, blocks)
