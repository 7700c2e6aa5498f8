"""What nobody uses and the store has no more is forgotten; and nothing else."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from guix_glue.formats.compression import Compression, CompressionChoice
from guix_glue.kept.directory import CacheDirectory
from guix_glue.local.item_directory import DirectoryItems
from guix_glue.publish.cache import BakedCache
from guix_glue.publish.local_source import LocalSource
from guix_glue.publish.model import PublishOptions
from guix_glue.publish.narinfos import NarinfoWriter, SigningKeys
from tests.guix_glue.publish.support import KEYS, make_item, publishing
from tests.integration.daemon import wait_until

OPTIONS = PublishOptions("/gnu/store", (CompressionChoice(Compression.GZIP, 1),), ttl_s=1000)
LONG_AGO = 1000.0
AFTER = 2000.0


@pytest.fixture
def item(tmp_path: Path) -> Path:
    """An item."""
    (tmp_path / "items").mkdir()
    path = make_item(tmp_path / "items", "item")
    path.write_bytes(b"x")
    return path


@contextmanager
def opened(tmp_path: Path) -> Iterator[tuple[LocalSource, DirectoryItems]]:
    """A source over the items of a test, inside a loop."""
    directory = CacheDirectory(tmp_path / "cache")
    items = DirectoryItems(str(tmp_path / "items"), "/gnu/store")
    try:
        cache = BakedCache(directory)
        writer = NarinfoWriter(SigningKeys("host"))
        yield LocalSource(items, None, cache, writer, OPTIONS, None, workers=1), items
    finally:
        directory.close()


def run(tmp_path: Path, item: Path, *, ask: bool = False, expire: bool = False) -> None:
    """Start a source, have an item baked or expiry look at all of them, and stop it."""

    async def main() -> None:
        with opened(tmp_path) as (source, items):
            try:
                if ask:
                    assert await source.narinfo(item.name[:32]) is not None
                    await source.queue.idle()
                if expire:
                    await source.expire(AFTER)
            finally:
                await source.close()
                await items.close()

    asyncio.run(main())


def record_of(tmp_path: Path, item: Path) -> Path:
    return tmp_path / "cache" / "v1" / "items" / item.name[:32] / "record"


def test_expiry_is_no_use(tmp_path: Path, item: Path) -> None:
    run(tmp_path, item, ask=True)
    record = record_of(tmp_path, item)
    os.utime(record, (LONG_AGO, LONG_AGO))
    # It is in the store: kept, and not made young by that.
    run(tmp_path, item, expire=True)
    assert record.stat().st_mtime == LONG_AGO
    item.unlink()
    run(tmp_path, item, expire=True)
    assert not record.parent.exists()


def test_what_was_used_is_kept_though_the_store_has_it_no_more(tmp_path: Path, item: Path) -> None:
    run(tmp_path, item, ask=True)
    item.unlink()
    run(tmp_path, item, expire=True)
    record = record_of(tmp_path, item)
    assert record.exists()
    os.utime(record, (LONG_AGO, LONG_AGO))
    run(tmp_path, item, ask=True, expire=True)
    assert record.stat().st_mtime > AFTER


def test_a_server_sweeps_when_it_starts(tmp_path: Path, item: Path) -> None:
    run(tmp_path, item, ask=True)
    left = record_of(tmp_path, item).parent
    orphan = left.with_name("0" * 32)
    shutil.copytree(left, orphan)
    (orphan / "record").unlink()
    # Without --ttl, when nothing ever expires.
    with publishing(tmp_path, "--items", item.parent, *KEYS, "-C", "gzip:1") as publisher:
        wait_until(lambda: not orphan.exists(), "what was left to be removed")
        assert publisher.request(f"/nar/gzip/{item.name}").status == 200
