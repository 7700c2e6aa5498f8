"""Encoding items: what was altered is found, others go on, and a store that fails ends it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

import eris_fs
from eris.capability import ReadCapability
from eris.errors import StoreUnavailable
from eris.store import MemoryStore
from guix_glue.closures.encoding import Encoded, NotEncoded, Put, encode_items
from guix_glue.errors import InvalidItems
from guix_glue.model import StoreItem
from tests.guix_glue.closures.support import GREETING, WORDS, Made, digest_of, make
from tests.guix_glue.closures.test_order import FewItems


class Here(FewItems):
    """Items where they were made."""

    def __init__(self, made: Sequence[Made]) -> None:
        super().__init__([one.item for one in made])
        self._paths = {one.item: str(one.path) for one in made}

    def location(self, item: StoreItem) -> str:
        try:
            return self._paths[item]
        except KeyError:
            raise InvalidItems("it is gone") from None


def encode(made: Sequence[Made], put: Put, jobs: int = 2) -> list[Encoded | NotEncoded]:
    async def run() -> list[Encoded | NotEncoded]:
        results = encode_items(Here(made), [one.item for one in made], put, jobs=jobs)
        async with aclosing(results):
            return [result async for result in results]

    return asyncio.run(run())


def into(store: MemoryStore) -> Put:
    async def put(location: str) -> ReadCapability:
        return await eris_fs.put_packed_tree(store, location, level=1)

    return put


def test_items_in_their_order(tmp_path: Path) -> None:
    made = [make(tmp_path, f"item-{number}", {"f": WORDS}) for number in range(7)]
    results = encode(made, into(MemoryStore()), jobs=3)
    assert [result.item for result in results] == [one.item for one in made]
    for result, one in zip(results, made, strict=True):
        assert isinstance(result, Encoded)
        assert result.archive_digest == digest_of(one)


def test_what_was_altered_is_not_encoded(tmp_path: Path) -> None:
    made = [make(tmp_path, name, GREETING) for name in ("one", "two", "three")]
    (made[1].path / "empty" / "more").write_bytes(b"")
    store = MemoryStore()
    first, second, third = encode(made, into(store))
    assert isinstance(first, Encoded)
    assert isinstance(third, Encoded)
    assert isinstance(second, NotEncoded)
    assert second.altered
    assert "two: its files are not what the store says they are" in second.reason


def test_what_is_altered_while_it_is_encoded(tmp_path: Path) -> None:
    made = make(tmp_path, "one", GREETING)
    store = MemoryStore()

    async def put(location: str) -> ReadCapability:
        (made.path / "run").unlink()
        os.symlink("bin/other", made.path / "run")
        return await into(store)(location)

    (result,) = encode([made], put)
    assert isinstance(result, NotEncoded)
    assert result.altered


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    made = [make(tmp_path, name, GREETING) for name in ("one", "two")]
    (made[0].path / "bin" / "hello").unlink()
    os.mkfifo(made[0].path / "bin" / "hello")
    first, second = encode(made, into(MemoryStore()))
    assert isinstance(first, NotEncoded)
    assert not first.altered
    assert "a device, a pipe or a socket" in first.reason
    assert isinstance(second, Encoded)


def test_a_store_that_fails_ends_it_once_all_that_is_done_is_told(tmp_path: Path) -> None:
    made = [make(tmp_path, f"item-{number}", WORDS) for number in range(5)]
    good, count = into(MemoryStore()), 0

    async def put(location: str) -> ReadCapability:
        nonlocal count
        count += 1
        if count > 2:
            raise StoreUnavailable("it is gone")
        return await good(location)

    async def run() -> list[StoreItem]:
        told = []
        results = encode_items(Here(made), [one.item for one in made], put, jobs=1)
        with pytest.raises(StoreUnavailable, match="it is gone"):
            async with aclosing(results):
                async for result in results:
                    assert isinstance(result, Encoded)
                    told.append(result.item)
        return told

    assert asyncio.run(run()) == [one.item for one in made[:2]]
    assert count <= 4
