"""Batches: bounded in bytes and in files, and nothing is left open."""

from __future__ import annotations

from pathlib import Path

import pytest

from eris_fs import Limits
from eris_fs.batch import SMALL_FILE_LIMIT, Batch, BatchReader
from tests.descriptors import descriptors, left_open
from tests.eris_fs.trees import File, Link, Node, lay_out


def batches(root: Path) -> list[Batch]:
    """Read a whole tree, closing what is large."""
    reader = BatchReader(root, Limits())
    seen = []
    while batch := reader.next():
        seen.append(batch)
    reader.close()
    return seen


@pytest.mark.parametrize(("count", "size"), [(1000, 3), (40, 100_000), (9, SMALL_FILE_LIMIT)])
def test_batches_are_bounded(tmp_path: Path, count: int, size: int) -> None:
    lay_out({f"{number}": File(b"x" * size) for number in range(count)}, tmp_path / "tree")
    seen = batches(tmp_path / "tree")
    assert sum(len(batch.files) for batch in seen) == count
    assert len(seen) > 2
    for batch in seen:
        assert len(batch.files) <= 256
        assert sum(len(content) for _, _, content in batch.files) < 1024 * 1024 + size


def test_symlinks_count_too(tmp_path: Path) -> None:
    lay_out({f"{number}": Link("x") for number in range(1000)}, tmp_path / "tree")
    assert [len(batch.others) for batch in batches(tmp_path / "tree")] == [256, 256, 256, 232]


def test_large_files_come_open_and_last(tmp_path: Path) -> None:
    large = File(b"x" * (SMALL_FILE_LIMIT + 1))
    node: dict[str, Node] = {"a": File(b"1"), "b": large, "c": large, "d": File(b"2")}
    lay_out(node, tmp_path / "tree")
    before = descriptors()
    reader = BatchReader(tmp_path / "tree", Limits())
    first, second = reader.next(), reader.next()
    assert first is not None
    assert first.files == [(("a",), False, b"1")]
    assert first.large is not None
    assert second is not None
    assert second.files == []
    assert second.large is not None
    with first.large[1] as file:
        assert file.read(10) == b"x" * 10
    assert not second.large[1].closed
    reader.close()
    assert second.large[1].closed
    assert not left_open(before)
