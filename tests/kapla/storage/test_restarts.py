"""Restarts at any instant: nothing acknowledged is lost, and the log of new blocks stays short."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eris import Reference
from kapla.storage.sqlite.database import SqliteSettings, open_database
from kapla.storage.sqlite.recent import GENERATION, pack_prefixes
from kapla.storage.sqlite.schema import prefix_of
from kapla.storage.sqlite.writer import SqliteReader, SqliteWriter
from tests.kapla.storage.databases import forge, make_blocks, opened, settings_for


def logged(path: Path) -> int:
    """How many places are in the log of the file."""
    with closing(sqlite3.connect(path)) as connection:
        (size,) = connection.execute("SELECT sum(length(prefixes)) FROM recent").fetchone()
        return (size or 0) // 8


class Life:
    """One run of a program on a store; `kill` leaves everything as it stands in the files."""

    def __init__(self, store: SqliteSettings) -> None:
        database = open_database(store)
        self.writer, self.reader = SqliteWriter(database), SqliteReader(database)

    def kill(self) -> None:
        # Nothing is written when a session is closed.
        self.reader.close()
        self.writer.close()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 40)),
        st.tuples(st.sampled_from(["chore", "idle", "restart"]), st.integers(1, 3)),
    ),
    max_size=60,
)


@given(steps=steps, generation=st.sampled_from([16, 50, 100]))
@settings(max_examples=12, deadline=None)
def test_any_restarts_leave_a_short_log_and_every_block(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], generation: int
) -> None:
    store = settings_for(tmp_path_factory.mktemp("store"), generation=generation)
    kept: dict[Reference, bytes] = {}
    life = Life(store)
    for action, count in steps:
        if action == "put":
            coming = dict(forge(random.Random(n).getrandbits(64), n) for n in numbers(kept, count))
            assert life.writer.put_many(coming).added == count
            kept |= coming
        elif action == "restart":
            life.kill()
            life = Life(store)
        else:
            for _ in range(count):
                life.writer.keeper.chore(is_idle=action == "idle")
        assert logged(store.path) <= 3 * generation
        assert len(life.writer._database.recent) <= 3 * generation
    assert life.reader.get_many(list(kept)) == kept
    assert life.reader.totals()[1024] == len(kept)
    life.kill()
    with opened(store) as sessions:
        assert sessions.reader.get_many(list(kept)) == kept
        assert sessions.writer.put_many(kept).added == 0


def numbers(kept: dict[Reference, bytes], count: int) -> range:
    return range(len(kept), len(kept) + count)


def test_short_lives_one_after_another(tmp_path: Path) -> None:
    """In none of them there is time for a whole generation."""
    store = settings_for(tmp_path, generation=100)
    kept: dict[Reference, bytes] = {}
    for seed in range(25):
        with opened(store) as sessions:
            blocks = make_blocks(30, seed=seed)
            sessions.writer.put_many(blocks)
            kept |= blocks
            assert logged(store.path) <= 300
    with opened(store) as sessions:
        assert sessions.reader.get_many(list(kept)) == kept


def as_version_1(path: Path, log: list[tuple[int, bytes]]) -> None:
    """Make of a store one of the first version, whose log holds all of its places."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM places")
        connection.execute("DELETE FROM recent")
        connection.execute("DROP TABLE upkeep")
        connection.execute("UPDATE kapla_schema SET version = 1")
        connection.executemany("INSERT INTO recent VALUES (?, ?)", log)


@pytest.mark.parametrize("generation", [10, 100, 700, GENERATION])
def test_a_long_log_of_an_earlier_version_is_worked_down(tmp_path: Path, generation: int) -> None:
    blocks = make_blocks(2000)
    with opened(settings_for(tmp_path)) as sessions:
        sessions.writer.put_many(blocks)
    store = settings_for(tmp_path, generation=generation)
    prefixes = list(map(prefix_of, blocks))
    log = [(at + 1, pack_prefixes(prefixes[at : at + 50])) for at in range(0, 2000, 50)]
    as_version_1(store.path, log)
    with opened(store) as sessions:
        assert logged(store.path) <= 3 * generation
        assert sessions.reader.get_many(list(blocks)) == blocks
        assert sessions.writer.put_many(blocks | make_blocks(10, seed=1)).added == 10
        assert sessions.reader.totals()[1024] == 2010


def test_an_idle_store_moves_what_is_full(tmp_path: Path) -> None:
    store = settings_for(tmp_path, generation=100)
    with opened(store) as sessions:
        sessions.writer.put_many(make_blocks(120))
        while sessions.writer.keeper.chore(is_idle=True) is not None:
            pass
        assert logged(store.path) == 0
        assert sessions.reader.get_many(list(make_blocks(120))) == make_blocks(120)
