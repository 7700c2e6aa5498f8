"""Entries are hashed smallest first, asked for within a bound, and hashes outlive the process."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import time
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import TypeVar

import pytest

from guix_glue.errors import StillHashing, UnsupportedItem
from guix_glue.formats.store_path import fixed_output_path
from guix_glue.local.archive import hash_steps, nar_hash
from guix_glue.local.item_directory import DirectoryItems
from guix_glue.local.known_hashes import Hashed, KnownHashes
from guix_glue.local.tree_stamp import TreeStamp, stamp_steps
from tests.descriptors import descriptors, left_open
from tests.integration.daemon import GUARD_S

T = TypeVar("T")

STORE_DIR = "/gnu/store"
# Never hashed to its end, though it takes no space.
HUGE = 1 << 42
NAMED = "7xq3qwahlz7ci18sxrm0qhmzqmafag1f-app-1.2.3"
UNKNOWN = "0" * 32


def run(
    directory: Path,
    test: Callable[[DirectoryItems], Awaitable[None]],
    *,
    known: Path | None = None,
    patience_s: float = 60.0,
) -> None:
    async def with_items() -> None:
        hashes = KnownHashes(known)
        items = DirectoryItems(str(directory), STORE_DIR, hashes, patience_s=patience_s)
        items.begin()
        try:
            await test(items)
        finally:
            await items.close()
        assert len(asyncio.all_tasks()) == 1

    before = descriptors()
    asyncio.run(with_items())
    assert not left_open(before)


async def found_once_hashed(store: DirectoryItems, part: str) -> object:
    async with asyncio.timeout(GUARD_S):
        while True:
            try:
                return await store.find(part)
            except StillHashing:
                await asyncio.sleep(0.01)


def hash_part(entry: str, digest: bytes) -> str:
    path = fixed_output_path(STORE_DIR, entry, digest, recursive=True)
    return path[len(STORE_DIR) + 1 :][:32]


def part_of(path: Path) -> str:
    return hash_part(path.name, nar_hash(str(path))[0])


def result_of(steps: Generator[object, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value


def stamp(path: Path) -> TreeStamp:
    """The stamp of a tree, once a later change would show in it."""
    deadline = time.monotonic() + 30
    while not (found := result_of(stamp_steps(str(path)))).settled:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def open_files() -> list[str]:
    return [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]


def make_huge(path: Path) -> Path:
    path.touch()
    os.truncate(path, HUGE)
    return path


@pytest.fixture
def items(tmp_path: Path) -> Path:
    directory = tmp_path / "items"
    directory.mkdir()
    return directory


def test_a_small_entry_waits_for_no_large_one(items: Path) -> None:
    for number in range(4):
        make_huge(items / f"a{number}")
    make_huge(items / NAMED)
    (items / "z").write_text("small")

    async def test(store: DirectoryItems) -> None:
        assert await store.find(part_of(items / "z")) is not None
        # Nor does one that came later, or one of a middling size.
        for name, size in (("later", 1), ("middling", 40_000_000)):
            (items / name).write_bytes(bytes(size))
            assert await store.find(part_of(items / name)) is not None

    run(items, test)


def test_paths_may_be_longer_than_the_kernel_takes_at_once(items: Path) -> None:
    before = os.open(items, os.O_RDONLY)
    try:
        for number in range(20):
            name = ("tree" if number == 0 else "x" * 250) + "/"
            os.mkdir(name, dir_fd=before)
            inner = os.open(name, os.O_RDONLY, dir_fd=before)
            os.close(before)
            before = inner
        with open(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=before), "wb") as file:
            file.write(b"content")
    finally:
        os.close(before)

    async def test(store: DirectoryItems) -> None:
        assert await store.find(part_of(items / "tree")) is not None

    run(items, test)


def test_what_comes_among_many_is_found(items: Path) -> None:
    for number in range(1200):
        (items / f"{number}").write_text(f"{number}")

    async def test(store: DirectoryItems) -> None:
        # At once, while the directory is looked at for the first time.
        assert await store.find(part_of(items / "1199")) is not None
        for number in range(3):
            assert await store.find(UNKNOWN) is None
            (items / f"new{number}").write_text("new")
            assert await store.find(part_of(items / f"new{number}")) is not None

    run(items, test)


def test_what_is_not_hashed_yet_is_answered_within_a_bound(items: Path) -> None:
    make_huge(items / "huge")
    make_huge(items / NAMED)
    (items / "z").write_text("small")
    (items / "items.toml").write_text('[z]\nreferences = ["huge"]')

    async def test(store: DirectoryItems) -> None:
        for part in (UNKNOWN, NAMED[:32], part_of(items / "z")):
            with pytest.raises(StillHashing):
                await store.find(part)
        # What cannot be there is known at once.
        assert await store.find("huge") is None
        os.unlink(items / "huge")
        (items / "items.toml").unlink()
        # What is gone is noticed in a moment, which takes longer where many want the processor.
        assert await found_once_hashed(store, UNKNOWN) is None
        assert await found_once_hashed(store, part_of(items / "z")) is not None

    run(items, test, patience_s=0.01)


def test_a_huge_entry_that_goes_on_changing(items: Path) -> None:
    huge = make_huge(items / "huge")

    async def test(store: DirectoryItems) -> None:
        for number in range(10):
            os.truncate(huge, HUGE + number)
            with pytest.raises(StillHashing):
                await store.find(UNKNOWN)
        # What was begun in vain is not held on to.
        assert open_files().count(str(huge)) <= 3

    run(items, test, patience_s=0.01)


def fill(items: Path) -> list[Path]:
    entries = [items / name for name in ("file", "tree", NAMED)]
    entries[0].write_text("content")
    (entries[1] / "below").mkdir(parents=True)
    (entries[1] / "below" / "file").write_text("content")
    entries[2].write_text("content")
    return entries


def test_hashes_of_what_did_not_change_outlive_the_process(items: Path, tmp_path: Path) -> None:
    entries = fill(items)
    known = tmp_path / "hashes"
    stamps = {path.name: stamp(path) for path in entries}
    parts = [part_of(path) for path in entries[:2]] + [NAMED[:32]]

    async def ask(store: DirectoryItems) -> None:
        assert None not in [await store.find(part) for part in parts]

    run(items, ask, known=known)
    kept = KnownHashes(known)
    for path in entries:
        found = kept.recall(path.name, stamps[path.name].digest)
        assert found == nar_hash(str(path))
    # Another hash is believed: so the files are not read.
    for path in entries:
        kept.keep(path.name, stamps[path.name].digest, Hashed(bytes(32), 120))

    async def ask_again(store: DirectoryItems) -> None:
        for part in (*(hash_part(path.name, bytes(32)) for path in entries[:2]), NAMED[:32]):
            item = await store.find(part)
            assert item is not None
            assert (item.nar_hash, item.nar_size) == (bytes(32), 120)

    run(items, ask_again, known=known)
    # A change that does not show at the top, with its time put back.
    deep = entries[1] / "below" / "file"
    before = deep.stat()
    deep.write_text("CONTENT")
    os.utime(deep, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert stamp(entries[1]) != stamps["tree"]

    async def ask_after_a_change(store: DirectoryItems) -> None:
        assert await store.find(hash_part("tree", bytes(32))) is None
        assert await store.find(part_of(entries[1])) is not None
        assert await store.find(hash_part("file", bytes(32))) is not None

    run(items, ask_after_a_change, known=known)


def test_a_damaged_line_costs_its_own_entry(tmp_path: Path) -> None:
    path = tmp_path / "hashes"
    kept = KnownHashes(path)
    for number in range(3):
        kept.keep(f"{number}", bytes([number]) * 32, Hashed(bytes(32), number))
    text = path.read_bytes()
    place = text.index(b'["1"') + 10
    for damaged in (
        text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :],
        text[:place] + b"\xff" + text[place + 1 :],
        text.replace(b'["1"', b'["1\n'),
    ):
        # And a last line that was cut off.
        path.write_bytes(damaged[:-5])
        again = KnownHashes(path)
        found = [again.recall(f"{n}", bytes([n]) * 32) for n in range(3)]
        assert found == [Hashed(bytes(32), 0), None, None]
        again.keep("2", bytes([2]) * 32, Hashed(bytes(32), 2))
        assert KnownHashes(path).recall("2", bytes([2]) * 32) == Hashed(bytes(32), 2)


def test_what_is_out_of_date_does_not_add_up(tmp_path: Path) -> None:
    path = tmp_path / "hashes"
    kept = KnownHashes(path)
    for number in range(1200):
        kept.keep("entry", number.to_bytes(32, "big"), Hashed(bytes(32), 1))
    kept.keep("gone", bytes(32), Hashed(bytes(32), 1))
    kept.forget_others(set())
    assert KnownHashes(path).recall("gone", bytes(32)) is not None
    kept.forget_others({"entry"})
    assert path.read_bytes().count(b"entry") == 1
    again = KnownHashes(path)
    assert again.recall("gone", bytes(32)) is None
    assert again.recall("entry", (1199).to_bytes(32, "big")) is not None


def test_hashes_that_cannot_be_kept(
    items: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = fill(items)
    for path in entries:
        stamp(path)
    known = tmp_path / "hashes"
    known.mkdir()

    async def ask(store: DirectoryItems) -> None:
        assert await store.find(part_of(entries[0])) is not None

    run(items, ask, known=known)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("put_back", [False, True])
def test_a_file_that_is_written_to_while_it_is_hashed(tmp_path: Path, put_back: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(random.Random(0).randbytes(3 << 20))
    os.utime(path, (1, 1))
    steps = hash_steps(str(path))
    for _ in range(2):
        next(steps)
    with path.open("r+b") as file:
        file.write(b"x")
    if put_back:
        os.utime(path, (1, 1))
    with pytest.raises(UnsupportedItem, match="changed while it was read"):
        result_of(steps)


def test_a_link_more_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3 << 20))
    expected = nar_hash(str(path))
    steps = hash_steps(str(path))
    next(steps)
    next(steps)
    os.link(path, tmp_path / "another")
    assert result_of(steps) == expected


def test_a_file_of_hashes_that_was_removed_is_made_again_whole(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "hashes"
    kept = KnownHashes(path)
    kept.keep("a", bytes(32), Hashed(bytes(32), 1))
    path.unlink()
    path.parent.rmdir()
    kept.keep("b", bytes(32), Hashed(bytes(32), 2))
    again = KnownHashes(path)
    assert [again.recall(name, bytes(32)) for name in "ab"] == [
        Hashed(bytes(32), size) for size in (1, 2)
    ]


def test_hashes_are_kept_again_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    now = 0.0
    tries = 0
    full = True

    def replace(path: Path, content: bytes) -> None:
        nonlocal tries
        tries += 1
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        path.write_bytes(content)

    path = tmp_path / "hashes"
    kept = KnownHashes(path, replace, lambda: now)
    for number in range(100):
        kept.keep(f"{number}", bytes(32), Hashed(bytes(32), number))
    assert tries == 1
    assert kept.recall("99", bytes(32)) is not None
    now = 3600.0
    kept.keep("100", bytes(32), Hashed(bytes(32), 100))
    assert tries == 2
    now, full = 7200.0, False
    kept.keep("101", bytes(32), Hashed(bytes(32), 101))
    again = KnownHashes(path)
    assert all(again.recall(f"{number}", bytes(32)) for number in range(102))
    assert [record.getMessage() for record in caplog.records] == [
        f"hashes of items cannot be kept: {path}: {os.strerror(errno.ENOSPC)}",
        f"hashes of items can be kept again: {path}",
    ]
