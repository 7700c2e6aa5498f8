"""Reading and writing blocks, in one thread."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eris import BlockSize, Reference, StoreUnavailable
from kapla.storage.sqlite.database import open_database
from kapla.storage.sqlite.writer import SqliteReader, SqliteWriter
from tests.kapla.storage.databases import forge, make_blocks, opened, settings_for

both_sizes = pytest.mark.parametrize("size", BlockSize, ids=lambda size: size.label)


@both_sizes
@pytest.mark.parametrize("count", [1, 2, 16, 17, 100])
def test_what_is_put_is_got(tmp_path: Path, size: BlockSize, count: int) -> None:
    blocks = make_blocks(count, size)
    with opened(settings_for(tmp_path)) as store:
        result = store.writer.put_many(blocks)
        assert (result.added, result.refused) == (count, frozenset())
        assert store.reader.get_many(list(blocks)) == blocks
        assert store.writer.totals() == {**dict.fromkeys(BlockSize, 0), size: count}


def test_a_thousand_blocks_in_one_call(tmp_path: Path) -> None:
    blocks = make_blocks(1000)
    with opened(settings_for(tmp_path)) as store:
        assert store.writer.put_many(blocks).added == 1000
        assert store.reader.get_many(list(blocks)) == blocks
        assert store.reader.find_many(list(blocks)) == set(blocks)
        assert store.writer.put_many(blocks).added == 0


def test_nothing_is_nothing(tmp_path: Path) -> None:
    with opened(settings_for(tmp_path)) as store:
        assert store.writer.put_many({}) == (0, frozenset())
        assert store.reader.get_many([]) == {}
        assert store.reader.find_many([]) == set()
        assert store.reader.totals() == dict.fromkeys(BlockSize, 0)


def test_only_what_is_there_is_found(tmp_path: Path) -> None:
    present, absent = make_blocks(20, seed=1), make_blocks(20, seed=2)
    with opened(settings_for(tmp_path)) as store:
        store.writer.put_many(present)
        mixed = [*absent, *present]
        random.Random(0).shuffle(mixed)
        assert store.reader.get_many(mixed) == present
        assert store.reader.find_many(mixed) == set(present)


def test_asking_for_one_block_twice_in_a_call(tmp_path: Path) -> None:
    [(reference, block)] = make_blocks(1).items()
    with opened(settings_for(tmp_path)) as store:
        store.writer.put_many({reference: block})
        assert store.reader.get_many([reference] * 3) == {reference: block}


def test_a_block_is_kept_once_and_never_rewritten(tmp_path: Path) -> None:
    reference, block = forge(7, 1)
    with opened(settings_for(tmp_path)) as store:
        assert store.writer.put_many({reference: block}).added == 1
        assert store.writer.put_many({reference: bytes(1024)}).added == 0
        assert store.reader.get_many([reference]) == {reference: block}
        assert store.writer.totals()[1024] == 1


def test_new_and_known_blocks_in_one_call(tmp_path: Path) -> None:
    blocks = make_blocks(100)
    known = dict(list(blocks.items())[::3])
    with opened(settings_for(tmp_path)) as store:
        store.writer.put_many(known)
        assert store.writer.put_many(blocks).added == len(blocks) - len(known)
        assert store.reader.get_many(list(blocks)) == blocks
        assert store.reader.totals()[1024] == 100


@pytest.mark.parametrize("prefix", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_references_that_begin_alike_are_told_apart(tmp_path: Path, prefix: int) -> None:
    alike = dict(forge(prefix, number) for number in range(40))
    first, then = dict(list(alike.items())[:20]), dict(list(alike.items())[20:])
    settings = settings_for(tmp_path)
    with opened(settings) as store:
        assert store.writer.put_many(first).added == 20
        assert store.reader.get_many(list(alike)) == first
        assert store.reader.find_many(list(then)) == set()
        assert store.writer.put_many(alike).added == 20
        assert store.reader.get_many(list(alike)) == alike
        assert store.reader.find_many(list(alike)) == set(alike)
    with opened(settings) as store:
        assert store.writer.put_many(alike).added == 0
        assert store.reader.get_many(list(alike)) == alike
        assert store.reader.totals()[1024] == 40


def test_references_that_begin_alike_in_every_part_of_the_index(
    tmp_path: Path,
) -> None:
    """A small index in memory: some of each family has moved to disk, some has not."""
    families = [dict(forge(prefix, number) for number in range(30)) for prefix in range(20)]
    everything = {name: block for family in families for name, block in family.items()}
    order = list(everything)
    random.Random(3).shuffle(order)
    settings = settings_for(tmp_path, generation=50)
    kept: dict[Reference, bytes] = {}
    for _ in range(3):
        with opened(settings) as store:
            for start in range(len(kept), len(kept) + 200, 7):
                coming = {name: everything[name] for name in order[start : start + 7]}
                assert store.writer.put_many(coming).added == len(coming.keys() - kept.keys())
                kept |= coming
                assert store.reader.get_many(order) == kept
                assert store.writer.put_many(coming).added == 0
    assert kept == everything


steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "get", "reopen", "fail"]),
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12)), max_size=12),
    ),
    max_size=25,
)


@given(steps=steps, generation=st.integers(1, 40))
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_sequence_agrees_with_a_dict(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, list[tuple[int, int]]]],
    generation: int,
) -> None:
    store_settings = settings_for(tmp_path_factory.mktemp("store"), generation=generation)
    kept: dict[Reference, bytes] = {}
    database = open_database(store_settings)
    writer, reader = SqliteWriter(database), SqliteReader(database)
    for action, keys in steps:
        blocks = dict(
            forge(*key, BlockSize.LARGE if key[1] % 4 == 0 else BlockSize.SMALL) for key in keys
        )
        if action == "put":
            assert writer.put_many(blocks).added == len(blocks.keys() - kept.keys())
            kept |= blocks
        elif action == "get":
            found = {name: kept[name] for name in blocks if name in kept}
            assert reader.get_many(list(blocks)).items() >= found.items()
            assert reader.find_many(list(blocks)) == found.keys()
        elif action == "fail":
            # Somebody else is writing: nothing of the call is kept, and nothing else is lost.
            with closing(sqlite3.connect(store_settings.path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                writer._connection.execute("PRAGMA busy_timeout = 0")
                with pytest.raises(StoreUnavailable):
                    writer.put_many(blocks)
        else:
            writer.close()
            reader.close()
            database = open_database(store_settings)
            writer, reader = SqliteWriter(database), SqliteReader(database)
        totals = {size: sum(len(block) == size for block in kept.values()) for size in BlockSize}
        assert reader.totals() == totals
    writer.close()
    reader.close()


def test_two_sessions(tmp_path: Path) -> None:
    first, second = make_blocks(5, seed=1), make_blocks(5, BlockSize.LARGE, seed=2)
    with opened(settings_for(tmp_path)) as store:
        assert store.reader.get_many(list(first)) == {}
        store.writer.put_many(first)
        assert store.reader.get_many([*first, *second]) == first
        store.writer.put_many(second)
        assert store.reader.get_many([*first, *second]) == {**first, **second}
        assert store.reader.totals() == {1024: 5, 32768: 5}


def test_a_failed_commit_keeps_nothing(tmp_path: Path) -> None:
    blocks = make_blocks(100)
    with opened(settings_for(tmp_path)) as store:
        # A limit on pages is the one way to fill a disk that needs no disk.
        store.writer._connection.execute("PRAGMA max_page_count = 20")
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            store.writer.put_many(make_blocks(1000, seed=9))
        assert store.writer.put_many(dict(list(blocks.items())[:3])).added == 3
        store.writer._connection.execute("PRAGMA max_page_count = 10000")
        assert store.writer.put_many(blocks).added == 97
        assert store.reader.get_many(list(blocks)) == blocks
        assert store.reader.totals()[1024] == 100


def test_errors_of_the_database_are_the_ports(tmp_path: Path) -> None:
    with opened(settings_for(tmp_path)) as store:
        store.writer._connection.execute("DROP TABLE blocks")
        with pytest.raises(StoreUnavailable, match="cannot be read"):
            store.reader.get_many(list(make_blocks(1)))
        with pytest.raises(StoreUnavailable, match="cannot be written"):
            store.writer.put_many(make_blocks(1))
        assert not store.writer._connection.in_transaction


# --- the quota --------------------------------------------------------------------------------

MIB = 1 << 20


@both_sizes
def test_beyond_the_quota_new_blocks_are_refused(tmp_path: Path, size: BlockSize) -> None:
    blocks = make_blocks(4 * MIB // size, size)
    with opened(settings_for(tmp_path, max_size=2 * MIB, when_full="refuse")) as store:
        result = store.writer.put_many(blocks)
        assert result.refused
        assert result.added == len(blocks) - len(result.refused)
        kept = {name: block for name, block in blocks.items() if name not in result.refused}
        assert store.reader.get_many(list(blocks)) == kept
        assert store.reader.totals()[size] == len(kept)
        # Some of the room is used by what is around the blocks.
        assert store.writer.database_bytes() < 2.5 * MIB
        # Full now, for every new block; those that are known are still welcome.
        again = store.writer.put_many(blocks)
        assert again.added == 0
        assert again.refused == result.refused
        assert store.writer.put_many(kept) == (0, frozenset())
        assert store.reader.get_many(list(kept)) == kept


def test_a_smaller_quota_takes_nothing_away(tmp_path: Path) -> None:
    blocks = make_blocks(100, BlockSize.LARGE)
    with opened(settings_for(tmp_path)) as store:
        store.writer.put_many(blocks)
    with opened(settings_for(tmp_path, max_size=MIB, when_full="refuse")) as store:
        assert store.writer.put_many(blocks) == (0, frozenset())
        new = make_blocks(1, seed=5)
        assert store.writer.put_many(new) == (0, frozenset(new))
        assert store.reader.get_many(list(blocks)) == blocks


def test_a_larger_quota_makes_room(tmp_path: Path) -> None:
    blocks = make_blocks(100, BlockSize.LARGE)
    with opened(settings_for(tmp_path, max_size=MIB, when_full="refuse")) as store:
        assert store.writer.put_many(blocks).refused
    with opened(settings_for(tmp_path, max_size=10 * MIB, when_full="refuse")) as store:
        assert not store.writer.put_many(blocks).refused
        assert store.reader.get_many(list(blocks)) == blocks


def test_the_file_does_not_grow_beyond_the_quota_in_small_steps(tmp_path: Path) -> None:
    with opened(settings_for(tmp_path, max_size=MIB, when_full="refuse")) as store:
        for seed in range(60):
            store.writer.put_many(make_blocks(30, seed=seed))
        store.writer.checkpoint()
        assert store.writer.database_bytes() <= MIB + 64 * 1024


# --- the WAL ----------------------------------------------------------------------------------


def wal_size(path: Path) -> int:
    wal = path.with_name(path.name + "-wal")
    return wal.stat().st_size if wal.exists() else 0


def test_a_checkpoint_empties_the_wal(tmp_path: Path) -> None:
    settings, blocks = settings_for(tmp_path), make_blocks(50)
    with opened(settings) as store:
        store.writer.put_many(blocks)
        assert wal_size(settings.path) > 0
        store.writer.checkpoint()
        assert wal_size(settings.path) == 0
        assert store.reader.get_many(list(blocks)) == blocks
    assert [file.name for file in tmp_path.iterdir()] == ["blocks.sqlite"]
