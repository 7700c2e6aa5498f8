"""The cache on disk: what was kept is found again, what was damaged or half-made is not."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from guix_glue.errors import PublishError
from guix_glue.kept.directory import CacheDirectory, make_cache_directory
from guix_glue.kept.records import Baked, ErisResult
from guix_glue.model import StoreItem
from guix_glue.publish.cache import BakedCache

ITEM = StoreItem(
    "/gnu/store/7xq3qwahlz7ci18sxrm0qhmzqmafag1f-app", hashlib.sha256(b"nar").digest(), 3, ()
)
CONTENTS = {"gzip:3": b"packed", "zstd:19": b"well packed"}


@contextmanager
def opened(path: Path) -> Iterator[BakedCache]:
    directory = CacheDirectory(path)
    try:
        yield BakedCache(directory)
    finally:
        directory.close()


def keep(cache: BakedCache, item: StoreItem = ITEM, contents: dict[str, bytes] = CONTENTS) -> Baked:
    directory = cache.temporary()
    made = {choice: directory / choice for choice in contents}
    for choice, path in made.items():
        path.write_bytes(contents[choice])
    return cache.keep_files(item, made)


def content(cache: BakedCache, choice: str) -> bytes | None:
    baked = cache.recall(ITEM)
    file = None if baked is None else cache.open_file(baked, choice)
    if file is None:
        return None
    with file:
        return file.read()


def record_of(path: Path) -> Path:
    return path / "v1" / "items" / ITEM.hash_part / "record"


def test_what_was_kept_is_found_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        assert cache.find(ITEM.hash_part) is None
        keep(cache)
        kept = cache.keep_eris(ITEM, ErisResult("a", "urn:eris:X", ("one",)))
        assert cache.find(ITEM.hash_part) == kept
    with opened(tmp_path) as cache:
        assert cache.find(ITEM.hash_part) == kept
        assert cache.recall(ITEM) == kept
        assert {choice: content(cache, choice) for choice in CONTENTS} == CONTENTS
        assert [name for name, _ in cache.hash_parts()] == [ITEM.hash_part]


def test_one_more_compression_keeps_the_others(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        keep(cache)
        cache.keep_eris(ITEM, ErisResult("a", "urn:eris:X", ("one",)))
        baked = keep(cache, contents={"lzip:9": b"best packed"})
        assert [file.choice for file in baked.files] == [*CONTENTS, "lzip:9"]
        assert baked.eris == ErisResult("a", "urn:eris:X", ("one",))
        assert content(cache, "gzip:3") == b"packed"


def test_stores_that_have_the_same_tree_add_up(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        keep(cache)
        for store in ("one", "two", "one"):
            cache.keep_eris(ITEM, ErisResult("a", "urn:eris:X", (store,)))
        assert cache.recall(ITEM) == Baked(
            ITEM,
            cache.recall(ITEM).files,  # type: ignore[union-attr]
            ErisResult("a", "urn:eris:X", ("one", "two")),
        )


def test_another_nar_under_the_same_name_is_another_item(tmp_path: Path) -> None:
    other = replace(ITEM, nar_hash=bytes(32))
    with opened(tmp_path) as cache:
        keep(cache)
        assert cache.recall(other) is None
        keep(cache, other, {"gzip:3": b"another"})
        assert cache.recall(ITEM) is None
        baked = cache.recall(other)
        assert baked is not None
        assert [file.choice for file in baked.files] == ["gzip:3"]
        with pytest.raises(LookupError):
            cache.keep_eris(ITEM, ErisResult("a", "urn:eris:X"))


def test_references_are_what_the_store_says_now(tmp_path: Path) -> None:
    now = replace(ITEM, references=("x",), deriver="y.drv")
    with opened(tmp_path) as cache:
        keep(cache)
        baked = cache.recall(now)
        assert baked is not None
        assert baked.item == now


@pytest.mark.parametrize("damage", [b"", b"damaged", bytes(1000)])
def test_a_damaged_record_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    with opened(tmp_path) as cache:
        keep(cache)
    record_of(tmp_path).write_bytes(damage)
    with opened(tmp_path) as cache:
        assert cache.recall(ITEM) is None
        keep(cache)
        assert content(cache, "zstd:19") == b"well packed"


@pytest.mark.parametrize("how", ["cut", "gone", "directory"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, how: str) -> None:
    with opened(tmp_path) as cache:
        keep(cache)
        path = record_of(tmp_path).with_name("gzip-3.nar")
        if how == "cut":
            os.truncate(path, 2)
        else:
            path.unlink()
            if how == "directory":
                path.mkdir()
        assert content(cache, "gzip:3") is None
        baked = cache.recall(ITEM)
        assert baked is not None
        assert [file.choice for file in baked.files] == ["zstd:19"]
        assert content(cache, "zstd:19") == b"well packed"
        if how != "directory":
            keep(cache, contents={"gzip:3": b"packed"})
            assert content(cache, "gzip:3") == b"packed"


def test_what_was_half_made_is_removed_at_the_start(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        left = cache.temporary()
        (left / "half").write_bytes(b"x")
        (left / "tree").mkdir(mode=0o755)
        (left / "tree" / "file").write_bytes(b"x")
        (left / "tree").chmod(0o555)
    with opened(tmp_path):
        assert list((tmp_path / "v1" / "tmp").iterdir()) == []


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    directory = CacheDirectory(tmp_path)
    try:
        in_the_way = directory.subdirectory("name")
        with pytest.raises(OSError, match="name"):
            directory.write(in_the_way, b"content")
        assert list((tmp_path / "v1" / "tmp").iterdir()) == []
    finally:
        directory.close()


def test_one_server_at_a_time(tmp_path: Path) -> None:
    with (
        opened(tmp_path),
        pytest.raises(PublishError, match=r"another server is using it.*--cache"),
        opened(tmp_path),
    ):
        pass
    with opened(tmp_path):
        pass


def test_a_use_is_noted_for_expiry(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        keep(cache)
    os.utime(record_of(tmp_path), (1000, 1000))
    with opened(tmp_path) as cache:
        assert dict(cache.hash_parts()) == {ITEM.hash_part: 1000}
        cache.find(ITEM.hash_part)
        assert dict(cache.hash_parts())[ITEM.hash_part] > time.time() - 60
        cache.forget(ITEM.hash_part)
        assert cache.find(ITEM.hash_part) is None
        assert list(cache.hash_parts()) == []


def test_what_a_killed_server_left_is_swept_away(tmp_path: Path) -> None:
    other = replace(ITEM, path=ITEM.path.replace("7xq3", "0000"))
    with opened(tmp_path) as cache:
        keep(cache)
        keep(cache, other)
    # Killed between the nar and its record: of a new item, and of one that was there.
    left = record_of(tmp_path).parent.with_name(other.hash_part)
    (left / "record").unlink()
    more = record_of(tmp_path).with_name("lzip-9.nar")
    more.write_bytes(b"not in the record")
    with opened(tmp_path) as cache:
        assert cache.find(other.hash_part) is None
        cache.sweep()
        assert not left.exists()
        assert not more.exists()
        assert {choice: content(cache, choice) for choice in CONTENTS} == CONTENTS
        # And can be made again.
        keep(cache, other)
        assert cache.find(other.hash_part) is not None


def test_sweeping_leaves_no_record_that_is_damaged(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        keep(cache)
    record_of(tmp_path).write_bytes(b"damaged")
    with opened(tmp_path) as cache:
        cache.sweep()
        assert not record_of(tmp_path).parent.exists()


def test_a_use_counts_before_it_is_noted_on_disk(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        keep(cache)
        cache.find(ITEM.hash_part)
        # Not written again by another use within the hour.
        os.utime(record_of(tmp_path), (1000, 1000))
        cache.find(ITEM.hash_part)
        assert record_of(tmp_path).stat().st_mtime == 1000
        assert dict(cache.hash_parts())[ITEM.hash_part] > time.time() - 60
        cache.forget(ITEM.hash_part, 2000)
        assert cache.find(ITEM.hash_part) is not None


def test_looking_is_no_use(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        keep(cache)
    os.utime(record_of(tmp_path), (1000, 1000))
    with opened(tmp_path) as cache:
        assert cache.look_at(ITEM.hash_part) is not None
        assert dict(cache.hash_parts()) == {ITEM.hash_part: 1000}
        cache.forget(ITEM.hash_part, 1000)
        assert cache.look_at(ITEM.hash_part) is not None
        cache.forget(ITEM.hash_part, 1001)
        assert cache.look_at(ITEM.hash_part) is None


def test_what_goes_while_it_is_looked_up_is_not_offered_for_ever(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        baked = keep(cache)
        assert cache.find(ITEM.hash_part) == baked
        shutil.rmtree(record_of(tmp_path).parent)
        assert cache.open_file(baked, "gzip:3") is None
        assert cache.find(ITEM.hash_part) is None


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PublishError, match="--cache names another"):
        make_cache_directory(tmp_path / "file" / "below")
    with pytest.raises(PublishError, match="cannot use"):
        CacheDirectory(tmp_path / "file")
