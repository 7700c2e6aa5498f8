"""Holding many blocks at once: wherever they lie, those are held, and no others."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from eris import BlockSize, Reference
from kapla.storage.sqlite.neighbours import EVERY, runs_near
from kapla.storage.sqlite.session import SqliteReader
from tests.kapla.storage.databases import Sessions, make_blocks, opened, settings_for

SMALL = make_blocks(1500)
LARGE = make_blocks(100, BlockSize.LARGE)
STORED = {**SMALL, **LARGE}
UNKNOWN = list(make_blocks(300, seed=1))
ALL = list(STORED)


@contextmanager
def filled(tmp_path: Path, generation: int = 128) -> Iterator[Sessions]:
    """A store whose index is on disk, but for the newest blocks."""
    settings = settings_for(tmp_path, generation=generation)
    with opened(settings) as store:
        for start in range(0, len(ALL), 100):
            store.writer.put_many({name: STORED[name] for name in ALL[start : start + 100]})
            while store.writer.chore(is_idle=True) == 0.0:
                pass
        yield store


def ignore(_places: list[tuple[int, int]]) -> None:
    """Hold nothing."""


def held(reader: SqliteReader, references: Sequence[Reference]) -> dict[int, int]:
    """What is held when these are asked for, size by id; the answer has to agree with it."""
    found: list[tuple[int, int]] = []
    there = reader.hold_many(references, found.extend)
    assert len(found) == len(there)
    names = dict(reader.connection.execute("SELECT id, reference FROM blocks"))
    assert {names[block_id] for block_id, _ in found} == there
    return dict(found)


def check(reader: SqliteReader, references: Sequence[Reference]) -> None:
    numbered = {name: number for number, name in enumerate(ALL, 1)}
    assert held(reader, references) == {
        numbered[name]: len(STORED[name]) for name in references if name in STORED
    }


PATTERNS: dict[str, Callable[[], list[Reference]]] = {
    "in order": lambda: ALL[:1024],
    "the last ones": lambda: ALL[-1024:],
    "backwards": lambda: ALL[1023::-1],
    "every second": lambda: ALL[::2],
    "every third": lambda: ALL[::3],
    "far apart": lambda: ALL[::10],
    "two stretches in turn": lambda: [
        name for pair in zip(ALL[:400], ALL[900:1300], strict=True) for name in pair
    ],
    "in no order": lambda: random.Random(1).sample(ALL, 1000),
    "with others between": lambda: [
        name for pair in zip(ALL[:300], UNKNOWN, strict=True) for name in pair
    ],
    "none of them there": lambda: UNKNOWN,
    "more than once": lambda: ALL[:200] * 2,
    "few": lambda: ALL[100:110],
}


@pytest.mark.parametrize("generation", [128, 65536], ids=["on disk", "recent"])
def test_what_is_asked_for_is_held_and_nothing_beside_it(tmp_path: Path, generation: int) -> None:
    with filled(tmp_path, generation) as store:
        for references in PATTERNS.values():
            check(store.reader, references())


def steps(reader: SqliteReader, references: Sequence[Reference]) -> int:
    """How many steps SQLite makes, in hundreds."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    reader.connection.set_progress_handler(step, 100)
    try:
        reader.hold_many(references, ignore)
    finally:
        reader.connection.set_progress_handler(None, 0)
    return count


def test_the_index_is_not_searched_for_each_of_what_came_together(tmp_path: Path) -> None:
    with filled(tmp_path) as store:
        apart = random.Random(1).sample(ALL[:1300], 150)
        together = ALL[200:350]
        assert steps(store.reader, together) < 0.7 * steps(store.reader, apart)


def break_overflow(path: Path, name: Reference) -> None:
    """Let the chain of pages that a large block is on lead nowhere."""
    with closing(sqlite3.connect(path)) as connection:
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        at = file.read().index(STORED[name][5000:5100])
        file.seek(at - at % page_size)
        file.write(b"\xff\xff\xff\xf0")


def test_a_damaged_row_that_is_left_behind_is_not_held(tmp_path: Path) -> None:
    """A good block has come for it, under another id; no place leads to the damaged one."""
    damaged = list(LARGE)[50]
    # Not beside each other.
    between = make_blocks(300, seed=1)
    damaged_id, new_id = ALL.index(damaged) + 1, len(ALL) + len(between) + 1
    with filled(tmp_path):
        pass
    break_overflow(tmp_path / "blocks.sqlite", damaged)
    settings = settings_for(tmp_path, generation=128)
    with opened(settings) as store:
        store.writer.put_many(between)
        store.writer.put_many({damaged: LARGE[damaged]})
        assert held(store.reader, ALL[-1000:]).keys() & {damaged_id, new_id} == {new_id}
    with opened(settings) as store:
        assert held(store.reader, ALL[-1000:]).keys() & {damaged_id, new_id} == {new_id}
        rows = store.reader.connection.execute("SELECT id FROM blocks").fetchall()
        assert {(damaged_id,), (new_id,)} <= set(rows)


def test_a_page_that_cannot_be_read_spoils_nothing_beside_it(tmp_path: Path) -> None:
    with filled(tmp_path):
        pass
    path = tmp_path / "blocks.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        at = file.read().index(STORED[ALL[700]])
        file.seek(at - at % page_size)
        file.write(b"\xa5" * page_size)
    with opened(settings_for(tmp_path, generation=128)) as store:
        there = store.reader.hold_many(ALL, ignore)
        assert len(ALL) - 20 < len(there) < len(ALL)
        assert ALL[700] not in there
        asked = [name for name in ALL if name in there]
        assert store.reader.hold_many(asked[::2], ignore) == set(asked[::2])


def test_runs() -> None:
    near, alone = 2 * EVERY, [10_000]
    assert runs_near([]) == []
    assert runs_near(alone) == []
    assert runs_near([100, 100]) == []
    # Out of order, with one that is alone.
    assert runs_near([100 + near, *alone, 100]) == [(100 - EVERY, 100 + near + EVERY)]
    # As near to each other as two runs can be: no row is in both.
    far = near + 1
    [first, second] = runs_near([100, 101, 101 + far, 102 + far])
    assert first[1] < second[0]
    assert runs_near([2**63 - 2, 2**63 - 1]) == [(2**63 - 2 - EVERY, 2**63 - 1)]
