"""The index of a delta: what is written is read again, and what breaks a rule is refused."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from eris_fs.delta.index import format_delta_index, parse_delta_index
from eris_fs.delta.model import BaseFile, BaseRange, DeltaTree, Patch
from eris_fs.errors import InvalidManifest, TreeTooLarge
from eris_fs.model import EmptyDirectory, PackedFile, Symlink
from eris_fs.outline import Outline, OutlineFile
from tests.eris_fs.delta import raw

BASE = Outline(
    {
        ("a",): OutlineFile(10),
        ("bin", "tool"): OutlineFile(1000, executable=True),
        ("empty",): EmptyDirectory(),
        ("lib", "x.so"): OutlineFile(5000),
        ("link",): Symlink("a"),
    }
)
TREE = DeltaTree(
    {
        ("a",): BaseFile(0, 10),
        ("bin", "tool"): PackedFile(0, 900, executable=True),
        ("empty",): EmptyDirectory(),
        ("lib", "again.so"): PackedFile(900, 4000),
        ("lib", "x.so"): PackedFile(900, 4000),
        ("link",): Symlink("bin/tool"),
        ("moved",): BaseFile(0, 10, executable=True),
        ("none",): PackedFile(0, 0),
    },
    [
        Patch(900, 30, (BaseRange(1, 0, 1000),)),
        Patch(3000, 3000),
        Patch(1000, 20, (BaseRange(2, 4000, 1000), BaseRange(0, 0, 5))),
    ],
    "zstd 1.5.7 level 19",
)


def test_what_is_written_is_read_again() -> None:
    frame = format_delta_index(TREE, BASE)
    found = parse_delta_index(frame, BASE)
    assert list(found.items()) == list(TREE.items())
    assert found.patches == TREE.patches
    assert found.writer == TREE.writer


def test_another_base_is_refused() -> None:
    other = Outline({**BASE, ("a",): OutlineFile(11), ("b",): OutlineFile(3)})
    with pytest.raises(InvalidManifest):
        parse_delta_index(format_delta_index(TREE, BASE), other)


def test_empty_files_count_among_those_of_the_stream() -> None:
    tree = DeltaTree(
        {
            ("a",): PackedFile(0, 0),
            ("b",): PackedFile(0, 0),
            ("c",): PackedFile(0, 7),
            ("d",): PackedFile(7, 9),
            ("e",): PackedFile(7, 9),
        },
        [Patch(16, 12)],
    )
    assert list(parse_delta_index(format_delta_index(tree, BASE), BASE).items()) == list(
        tree.items()
    )


def test_an_index_that_is_too_large_is_said_to_be_and_not_made() -> None:
    # Together with the outline before it, it would not fit into any window.
    way = ("n" * 255,) * 15
    names = [(*way, f"{number:0230}") for number in range(17_000)]
    base = Outline(dict.fromkeys(names, OutlineFile(0)))
    tree = DeltaTree({name: PackedFile(0, 0) for name in names}, [])
    with pytest.raises(TreeTooLarge, match="67108864 bytes of index"):
        format_delta_index(tree, base)


def test_an_index_of_more_entries_than_are_allowed_is_refused_before_any_is_made() -> None:
    count = 1_500_000
    noise = random.Random(1).randbytes(40_000)
    plain = raw.join([b"", bytes(count), bytes(8 * count), *[b""] * 6, noise, b""])
    frame = raw.compress(plain, raw.outline({"a": b"0123456789"}))
    tracemalloc.start()
    with pytest.raises(InvalidManifest, match="more than 1000000 entries"):
        parse_delta_index(frame, Outline({("a",): OutlineFile(10)}))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(plain)
