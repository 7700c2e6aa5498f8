"""Damage stays where it is: whatever of a store's file is spoiled, the rest goes on.

The promises: what can be read is served, every sound block is taken, what follows from the blocks
is right again after a while, and a start is refused only where not even the list of tables is left.
"""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from typing import NamedTuple

import pytest

from eris import BlockSize, Reference
from kapla.storage.sqlite.database import SqliteSettings
from tests.kapla.storage.databases import Sessions, make_blocks, opened, settings_for

PAGE = 16384
GENERATION = 200


class Store(NamedTuple):
    """A filled store: places are in the log, in memory's old generation, and in the index."""

    settings: SqliteSettings
    blocks: dict[Reference, bytes]
    image: bytes
    pages: dict[str, list[int]]

    def spoil(self, content: bytes) -> None:
        for end in ("-wal", "-shm"):
            self.settings.path.with_name(self.settings.path.name + end).unlink(missing_ok=True)
        self.settings.path.write_bytes(content)

    def zero(self, page: int) -> None:
        self.spoil(self.image[: (page - 1) * PAGE] + bytes(PAGE) + self.image[page * PAGE :])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    settings = settings_for(tmp_path_factory.mktemp("spread"), generation=GENERATION)
    blocks = make_blocks(2500) | make_blocks(60, BlockSize.LARGE)
    names = list(blocks)
    random.Random(5).shuffle(names)
    with opened(settings) as sessions:
        for start in range(0, len(names), 40):
            sessions.writer.put_many({name: blocks[name] for name in names[start : start + 40]})
        sessions.writer.checkpoint()
    with closing(sqlite3.connect(settings.path)) as connection:
        pages: dict[str, list[int]] = {}
        for name, page in connection.execute("SELECT name, pageno FROM dbstat"):
            pages.setdefault(name, []).append(page)
        assert connection.execute("SELECT count(*) FROM places").fetchone() > (1000,)
        assert connection.execute("SELECT count(*) FROM recent").fetchone() > (4,)
    return Store(settings, blocks, settings.path.read_bytes(), pages)


def finish(sessions: Sessions) -> None:
    """Have all upkeep done that is to be done."""
    for _ in range(1000):
        if sessions.writer.keeper.chore(is_idle=True) is None:
            return
    raise AssertionError("the upkeep has no end")


def missing(sessions: Sessions, blocks: dict[Reference, bytes]) -> set[Reference]:
    """Which blocks are not found; those that are found are right."""
    found: dict[Reference, bytes] = {}
    names = list(blocks)
    for start in range(0, len(names), 64):
        found |= sessions.reader.get_many(names[start : start + 64])
    lost = {name for name in blocks if name not in found}
    assert all(len(found[name]) in list(BlockSize) for name in blocks.keys() - lost)
    return lost | {name for name in blocks.keys() - lost if found[name] != blocks[name]}


def totals(sessions: Sessions) -> dict[int, int]:
    return sessions.reader.totals()


@pytest.mark.parametrize("table", ["places", "recent", "totals", "upkeep", "kapla_schema"])
def test_what_follows_from_the_blocks_is_made_anew(store: Store, table: str) -> None:
    pages = store.pages[table]
    for page in {pages[0], pages[-1]}:
        store.zero(page)
        new = make_blocks(300, seed=page)
        with opened(store.settings) as sessions:
            finish(sessions)
            assert missing(sessions, store.blocks) == set()
            assert sessions.writer.put_many(new).added == 300
            assert sessions.writer.put_many(store.blocks).added == 0
            assert totals(sessions) == {1024: 2800, 32768: 60}
        with opened(store.settings) as sessions:
            assert missing(sessions, store.blocks | new) == set()
            assert totals(sessions) == {1024: 2800, 32768: 60}


def test_a_page_of_blocks_costs_only_what_is_on_it(store: Store) -> None:
    pages = store.pages["blocks"]
    leaves = [page for page in pages if store.image[(page - 1) * PAGE] == 13]
    for page in [leaves[0], leaves[len(leaves) // 2], leaves[-1]]:
        store.zero(page)
        with opened(store.settings) as sessions:
            finish(sessions)
            lost = missing(sessions, store.blocks)
            assert 0 < len(lost) <= 16
            new = make_blocks(300, seed=page)
            sessions.writer.put_many(new)
            assert missing(sessions, new) == set()
            # A good block is kept again.
            sessions.writer.put_many(store.blocks)
            assert missing(sessions, store.blocks) == set()
            finish(sessions)
        with opened(store.settings) as sessions:
            assert missing(sessions, store.blocks | new) == set()
            assert sessions.writer.put_many(store.blocks | new).added == 0


def flipped(image: bytes, seed: int) -> bytes:
    """Some bits of one page, or of several, are others."""
    source = random.Random(seed)
    spoilt = bytearray(image)
    for _ in range(source.choice([1, 1, 3, 30])):
        # Not the first page: it holds the list of tables.
        spoilt[source.randrange(PAGE, len(image))] ^= 1 << source.randrange(8)
    return bytes(spoilt)


@pytest.mark.parametrize("part", range(2))
def test_flipped_bits(store: Store, part: int) -> None:
    for seed in range(part * 4, part * 4 + 4):
        store.spoil(flipped(store.image, seed))
        with opened(store.settings) as sessions:
            finish(sessions)
            lost = missing(sessions, store.blocks)
            assert len(lost) <= 1000
            new = make_blocks(200, seed=seed)
            sessions.writer.put_many(new)
            assert missing(sessions, new) == set()
            sessions.writer.put_many(store.blocks)
            finish(sessions)
            assert missing(sessions, store.blocks | new) == set()
            assert sum(totals(sessions).values()) >= 2500
        with opened(store.settings) as sessions:
            assert missing(sessions, store.blocks | new) == set()
