"""Ids with gaps of any length between them, as eviction leaves them: nothing goes id by id."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from eris import Reference
from tests.kapla.storage.databases import make_blocks, opened, settings_for
from tests.kapla.storage.keeping.stores import check, fill

FAR = 10**9


def spread(path: Path, first: int, away: int) -> None:
    """Move the blocks from an id on by so many ids; the index no longer knows them."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM recent")
        # Twice, as no id may be taken meanwhile.
        connection.execute("UPDATE blocks SET id = -id WHERE id >= ?", (first,))
        connection.execute("UPDATE blocks SET id = ? - id WHERE id < 0", (away,))


def break_page(path: Path, block: bytes) -> None:
    with path.open("r+b") as file:
        at = file.read().index(block[:64])
        file.seek(at - at % 16384)
        file.write(b"\xff" * 64)


@pytest.mark.parametrize("damaged", [100, 299, 300, 450])
def test_an_index_is_made_anew_across_a_long_gap_and_around_damage(
    tmp_path: Path, damaged: int
) -> None:
    blocks = make_blocks(600)
    names = list(blocks)
    with opened(settings_for(tmp_path)) as store:
        fill(store, blocks)
    spread(tmp_path / "blocks.sqlite", 301, FAR)
    break_page(tmp_path / "blocks.sqlite", blocks[names[damaged]])
    with opened(settings_for(tmp_path, rebuild_index=True)) as store:
        steps = 0
        while store.writer.keeper.chore(is_idle=True) == 0.0:
            steps += 1
            assert steps < 100
        found = store.reader.find_many(names)
        missing = [number for number, name in enumerate(names) if name not in found]
        # The blocks of one page, and no others.
        assert damaged in missing
        assert len(missing) <= 15
        assert missing == list(range(missing[0], missing[-1] + 1))
        assert store.reader.totals()[1024] == len(found)


def test_the_hand_passes_a_long_gap_at_once(tmp_path: Path) -> None:
    blocks = make_blocks(600)
    with opened(settings_for(tmp_path)) as store:
        fill(store, blocks)
    spread(tmp_path / "blocks.sqlite", 301, FAR)
    limited = settings_for(tmp_path, max_size=2 << 20, rebuild_index=True)
    with opened(limited) as store:
        for seed in range(1, 8):
            fill(store, make_blocks(400, seed=seed))
        newest = list(make_blocks(400, seed=7))
        found = check(store, limited.path, [*blocks, *newest, *_middle()])
        assert not found & set(blocks)
        assert set(newest) <= found


def _middle() -> list[Reference]:
    return [name for seed in range(1, 7) for name in make_blocks(400, seed=seed)]
