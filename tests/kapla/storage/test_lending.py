"""Only what is lent is there for those who are lent to; whatever state the store is in."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from eris import BlockSize, ErisError, Reference
from kapla.storage.batching import BatchedStorage
from kapla.storage.lending import Lent
from kapla.storage.sqlite.database import open_database
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.lending import LentReader
from kapla.storage.sqlite.writer import SqliteWriter
from tests.kapla.storage.backends import keeping_of
from tests.kapla.storage.databases import (
    batched,
    forge,
    get_many,
    make_blocks,
    put_many,
    settings_for,
)

COUNT = 700
BLOCKS = make_blocks(COUNT)
NAMES = list(BLOCKS)
# Of what has the ids 1, 2, … every third.
EVERY_THIRD = NAMES[::3]


@contextmanager
def lending(directory: Path, blocks: dict[Reference, bytes]) -> Iterator[LentReader]:
    """A reader of a store that lends every third block; some moved into the index, some did not."""
    database = open_database(settings_for(directory, generation=128))
    with closing(SqliteWriter(database)) as writer, closing(LentReader(database)) as reader:
        for start in range(0, len(blocks), 50):
            writer.put_many(dict(list(blocks.items())[start : start + 50]))
        database.keeping.lent = Ids(range(1, len(blocks) + 1, 3))
        yield reader


def test_what_is_lent_is_given_and_found_and_nothing_else(tmp_path: Path) -> None:
    with lending(tmp_path, BLOCKS) as reader:
        absent = list(make_blocks(5, seed=1))
        expected = {name: BLOCKS[name] for name in EVERY_THIRD}
        assert reader.get_lent(NAMES + absent) == expected
        assert reader.find_lent(absent + NAMES) == set(EVERY_THIRD)
        assert reader.get_lent(NAMES[1:3]) == {}
        # To the others all is there as before.
        assert reader.get_many(NAMES) == BLOCKS


def test_nothing_is_there_while_nothing_is_lent(tmp_path: Path) -> None:
    with lending(tmp_path, make_blocks(3)) as reader:
        reader._database.keeping.lent = Ids()
        assert reader.get_lent(NAMES[:3]) == {}
        assert reader.find_lent(NAMES[:3]) == set()


@pytest.mark.parametrize("lent_first", [True, False])
def test_a_neighbour_with_the_same_prefix_is_not_lent_with_it(
    tmp_path: Path, lent_first: bool
) -> None:
    one, other = forge(7, 1), forge(7, 2)
    blocks = dict([one, forge(8, 3), forge(9, 4), other])
    with lending(tmp_path, blocks) as reader:
        reader._database.keeping.lent = Ids([1 if lent_first else 4])
        lent = one if lent_first else other
        assert reader.get_lent([one[0], other[0]]) == dict([lent])
        assert reader.find_lent([one[0], other[0]]) == {lent[0]}


def test_what_is_not_lent_is_not_touched(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Reading a row takes longer than not finding one. A row that cannot be read tells who tries.
    blocks = make_blocks(4, BlockSize.LARGE)
    with lending(tmp_path, blocks):
        pass
    path = tmp_path / "blocks.sqlite"
    names = list(blocks)
    _break_row(path, blocks[names[1]])
    database = open_database(settings_for(tmp_path))
    with closing(SqliteWriter(database)), closing(LentReader(database)) as reader:
        database.keeping.lent = Ids([1])
        assert reader.get_lent(names) == {names[0]: blocks[names[0]]}
        assert "cannot be read" not in caplog.text
        # Here, what is damaged is in the way of no other block.
        database.keeping.lent = Ids([1, 2, 3])
        assert reader.get_lent(names) == {name: blocks[name] for name in (names[0], names[2])}
        assert "cannot be read" in caplog.text


def _break_row(path: Path, block: bytes) -> None:
    """Let the chain of pages that a large block is on lead nowhere."""
    with closing(sqlite3.connect(path)) as connection:
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        at = file.read().index(block[5000:5100])
        file.seek(at - at % page_size)
        file.write(b"\xff" * 4)


def test_reads_of_what_is_lent_are_remembered_and_no_others(tmp_path: Path) -> None:
    with lending(tmp_path, make_blocks(10)) as reader:
        keeping = reader._database.keeping
        keeping.reads = Ids()
        reader.get_lent(NAMES[:5])
        reader.find_lent(NAMES[5:8])
        assert set(keeping.reads) == {1, 4, 7}


def test_what_is_asked_together_is_answered_to_each_by_his_rights(tmp_path: Path) -> None:
    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            assert await put_many(storage, list(BLOCKS.values())) is None
            keeping_of(storage).lent = Ids(range(1, COUNT + 1, 3))
            answers = await asyncio.gather(
                *(get_many(storage, part) for part in _parts()),
                *(find_many(storage, part) for part in _parts()),
            )
        lent = set(EVERY_THIRD)
        for part, blocks, found in zip(
            _parts(), answers[: len(_parts())], answers[len(_parts()) :], strict=True
        ):
            there = [not isinstance(part, Lent) or name in lent for name in part]
            assert found == there
            assert blocks == [
                BLOCKS[name] if is_there else None
                for name, is_there in zip(part, there, strict=True)
            ]

    asyncio.run(main())


def _parts() -> list[Sequence[Reference]]:
    """The names, in parts that are asked for by one and the other in turn."""
    parts = [NAMES[start : start + 7] for start in range(0, COUNT, 7)]
    return [Lent(part) if number % 3 else part for number, part in enumerate(parts)]


async def find_many(
    storage: BatchedStorage, references: Sequence[Reference]
) -> Sequence[bool] | ErisError:
    answer: asyncio.Future[Sequence[bool] | ErisError] = asyncio.get_running_loop().create_future()
    storage.find_many(references, answer.set_result)
    return await answer
