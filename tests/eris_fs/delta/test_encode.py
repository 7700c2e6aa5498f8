"""Deltas are made of trees on a disk, and lead to exactly the new one."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from eris import MemoryStore
from eris_fs.delta.directory import DirectoryFiles
from eris_fs.delta.encode import PutDelta, put_delta
from eris_fs.outline import OutlineEntry, OutlineFile
from tests.eris_fs.delta.applying import apply_delta
from tests.eris_fs.trees import File, Link, Node, lay_out

TEXT = b"".join(b"line %d of a text that is long enough\n" % number for number in range(2000))


def _round_trip(where: Path, old: Node, new: Node) -> PutDelta:
    """Make a delta and apply it; what it leads to must have the hash of the new tree."""
    lay_out(old, where / "old")
    lay_out(new, where / "new")

    async def run() -> PutDelta:
        store = MemoryStore()
        with (
            DirectoryFiles(where / "old") as base,
            DirectoryFiles(where / "new") as tree,
            DirectoryFiles(where / "old") as same_base,
        ):
            made = await put_delta(store, base, tree, level=3)
            found = await apply_delta(store, made.capability, same_base)
            assert list(found) == list(tree.outline)
            for path in tree.outline.files:
                content = (where / "new").joinpath(*path).read_bytes()
                assert found[path] == (content, _executable(tree.outline[path]))
        return made

    return asyncio.run(run())


def _executable(entry: OutlineEntry) -> bool:
    return isinstance(entry, OutlineFile) and entry.executable


def test_an_upgrade_with_all_that_may_change(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(100_000)
    old: Node = {
        "same": File(TEXT),
        "changed": File(TEXT),
        "moved": File(noise),
        "tool": File(b"#!/bin/sh\n"),
        "link": Link("same"),
        "was-link": Link("tool"),
        "gone": {"below": File(TEXT[:5000])},
        "empty": File(b""),
        "hollow": {},
    }
    new: Node = {
        "same": File(TEXT),
        "changed": File(TEXT.replace(b"line 77 ", b"line 78 ")),
        "elsewhere": {"moved-2.1": File(noise), "again": File(noise[1:]), "once": File(noise[1:])},
        "tool": File(b"#!/bin/sh\n", executable=True),
        "link": Link("elsewhere"),
        "was-link": File(b"now a file"),
        "gone": File(b""),
        "empty": File(b""),
        "hollow": {"not any more": {}},
    }
    made = _round_trip(tmp_path, old, new)
    assert made.block_bytes <= 3 * 1024
