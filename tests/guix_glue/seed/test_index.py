"""The index on disk: written at once or not at all, and brought up to date without much reading."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from guix_glue.seed import listing
from guix_glue.seed.errors import IndexInUse
from guix_glue.seed.index import SeedIndex
from guix_glue.seed.indexing import Indexer
from guix_glue.seed.trees import SeedTree
from tests.guix_glue.seed.support import encoded, item_tree, made, make_tree, opened_index, seeding


def read_bytes(index: SeedIndex, *trees: SeedTree) -> int:
    """How many bytes of files are read to bring the index up to date."""
    indexer = Indexer(index)
    indexer.keep_only(trees)
    indexer.update(trees)
    return indexer.progress.read_bytes


def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree")
    tree = SeedTree(str(root))
    with opened_index(tmp_path / "index") as index:
        assert read_bytes(index, tree) > 700_000
        assert read_bytes(index, tree) == 0
    with opened_index(tmp_path / "index") as index:
        assert read_bytes(index, tree) == 0


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with opened_index(tmp_path / "index"), pytest.raises(IndexInUse):
        SeedIndex(tmp_path / "index")


def test_a_changed_file_costs_its_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_MOST_ENTRIES", 50)
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(220):
        (root / f"{number:05}").write_bytes(number.to_bytes(100, "big"))
    tree = SeedTree(str(root))
    with opened_index(tmp_path / "index") as index:
        assert read_bytes(index, tree) == 220 * 100
        (root / "00001").write_bytes(b"another")
        # Its part, and the one that closes the tree.
        assert read_bytes(index, tree) == 69 * 100 + 7
    _, blocks = encoded(root)
    with seeding(tmp_path / "index", root) as (_, maker):
        assert all(made(maker, reference) == block for reference, block in blocks.items())


def test_a_large_tree_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_MOST_ENTRIES", 10)
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(95):
        (root / f"{number:02}").write_bytes(bytes([number]) * 1000)
    tree = item_tree(root)
    with opened_index(tmp_path / "index") as index:
        indexer = Indexer(index)
        add = index.add

        def stop_soon(*given: Any) -> None:
            add(*given)
            if given[0] == 4:
                indexer.stop()

        monkeypatch.setattr(index, "add", stop_soon)
        indexer.update([tree])
        assert not index.view.closed
        assert len(index.view.parts) == 5
    with opened_index(tmp_path / "index") as index:
        assert read_bytes(index, tree) == 45 * 1000
        assert list(index.view.closed) == [str(root)]
    with opened_index(tmp_path / "index") as index:
        # Another item under this name: what is there of the old one is of no use.
        (root / "00").write_bytes(b"other")
        assert read_bytes(index, item_tree(root)) == 94 * 1000 + 5


def test_what_is_gone_is_dropped_and_its_room_comes_back(tmp_path: Path) -> None:
    roots = [make_tree(tmp_path / name, [100_000]) for name in "abc"]
    trees = [item_tree(root) for root in roots]
    with opened_index(tmp_path / "index") as index:
        read_bytes(index, *trees)
        before = index.view.size
        assert set(index.view.closed) == {str(root) for root in roots}
        read_bytes(index, trees[0])
        assert set(index.view.closed) == {str(roots[0])}
        assert index.view.size < 0.6 * before
    with opened_index(tmp_path / "index") as index:
        assert set(index.view.closed) == {str(roots[0])}


def test_an_item_that_is_another_now_is_read_again(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "item")
    with opened_index(tmp_path / "index") as index:
        read_bytes(index, item_tree(root))
        (root / "empty").rmdir()
        assert read_bytes(index, item_tree(root)) > 700_000


def _alter(root: Path, what: str) -> None:
    match what:
        case "a byte":
            with (root / "d1" / "f600000").open("r+b") as file:
                file.write(b"x")
        case "a file more":
            (root / "d1" / "secret").write_text("of this machine")
        case "a mode":
            (root / "d0" / "tool").chmod(0o644)
        case "a target":
            (root / "link").unlink()
            (root / "link").symlink_to("elsewhere")


@pytest.mark.parametrize("what", ["a byte", "a file more", "a mode", "a target"])
def test_of_an_item_that_was_altered_nothing_is_noted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    root = make_tree(tmp_path / "item")
    tree = item_tree(root)
    _alter(root, what)
    with opened_index(tmp_path / "index") as index:
        indexer = Indexer(index)
        indexer.update([tree])
        assert not index.view.parts
        assert list(indexer.failures) == [str(root)]
    assert "not those that were registered" in caplog.text


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree")
    directory = tmp_path / "index"
    with seeding(directory, root):
        pass
    there = {path.name for path in directory.iterdir()}
    (directory / "99.seg").write_bytes(b"written, and not named")
    (directory / "100.new").write_bytes(b"half written")
    (directory / ".segments.0123").write_bytes(b"half written")
    with seeding(directory, root):
        assert {path.name for path in directory.iterdir()} == there


@pytest.mark.parametrize("where", [0, 20, 70, -1, -40, "parts"])
def test_damage_is_noticed_and_made_good(tmp_path: Path, where: int | str) -> None:
    root = make_tree(tmp_path / "tree")
    _, blocks = encoded(root)
    directory = tmp_path / "index"
    with seeding(directory, root) as (index, _):
        (segment,) = index.view.segments
        records_end = 64 + 16 * segment.count
    data = bytearray(segment.path.read_bytes())
    at = records_end + 10 if isinstance(where, str) else where
    data[at] ^= 0xFF
    segment.path.write_bytes(data)
    with opened_index(directory) as index:
        index.verify()
    damaged = []
    with seeding(directory, root) as (index, maker):
        maker._on_damage = lambda segment, error: damaged.append((segment, error))
        for reference in blocks:
            made(maker, reference)
        for one, error in damaged[:1]:
            index.reject(one, error)
    with seeding(directory, root) as (_, maker):
        assert all(made(maker, reference) == block for reference, block in blocks.items())


def test_a_list_that_makes_no_sense_begins_anew(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree")
    with seeding(tmp_path / "index", root):
        pass
    (tmp_path / "index" / "segments").write_bytes(b"kapla seed index 2\n5\n")
    with opened_index(tmp_path / "index") as index:
        assert not index.view.parts
        assert read_bytes(index, SeedTree(str(root))) > 700_000


def test_many_segments_become_few(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "0", [5000])
    trees = [item_tree(root)]
    with opened_index(tmp_path / "index") as index:
        for number in range(1, 12):
            other = make_tree(tmp_path / str(number), [5000 + number])
            trees.append(item_tree(other))
            read_bytes(index, *trees)
        assert len(index.view.segments) <= 4
        assert len(index.view.closed) == 12
    names = {path.name for path in (tmp_path / "index").glob("*.seg")}
    assert len(names) <= 4
    assert not os.path.exists(tmp_path / "index" / "status.json")
