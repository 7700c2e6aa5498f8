"""What is baked stays baked: over restarts, kills and damage, and nothing is computed twice."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

from tests.guix_glue.publish.support import KEYS, Publisher, make_item, nar_of, publishing
from tests.integration.daemon import wait_until


def one_item(tmp_path: Path, content: bytes = b"content\n" * 1000) -> Path:
    items = tmp_path / "items"
    items.mkdir()
    path = make_item(items, "item")
    path.write_bytes(content)
    return path


def cached_files(tmp_path: Path, item: Path) -> dict[str, int]:
    """The files of an item in the cache, with what changes when one is written again."""
    directory = tmp_path / "cache" / "v1" / "items" / item.name[:32]
    return {file.name: file.stat().st_ino for file in directory.iterdir()}


def nar_through(publisher: Publisher, item: Path) -> int:
    return publisher.request(f"/nar/gzip/{item.name}").status


def test_a_restart_computes_nothing_again(tmp_path: Path) -> None:
    item = one_item(tmp_path)
    with publishing(tmp_path, "--items", item.parent, *KEYS, "--eris") as publisher:
        before = publisher.baked(item, urn=True)
        files = cached_files(tmp_path, item)
        assert publisher.stop() == 0
        publisher.start()
        # The first answer is complete already.
        assert publisher.narinfo(item) == before
        assert cached_files(tmp_path, item) == files
        assert publisher.request(f"/nar/gzip/{item.name}").status == 200


def test_one_more_compression_is_added_to_what_is_there(tmp_path: Path) -> None:
    item = one_item(tmp_path)
    arguments = ("--items", item.parent, *KEYS)
    with publishing(tmp_path, *arguments) as publisher:
        publisher.baked(item)
        files = cached_files(tmp_path, item)
    with publishing(tmp_path, *arguments, "-C", "gzip:3", "-C", "zstd") as publisher:
        # Until the other one is there, what is there is offered.
        assert publisher.narinfo(item).narinfo().urls[0].compression == "gzip"

        def both() -> bool:
            return len(publisher.narinfo(item).narinfo().urls) == 2

        wait_until(both, "zstd")
        now = cached_files(tmp_path, item)
        assert now["gzip-3.nar"] == files["gzip-3.nar"]


def test_another_content_under_the_same_name_is_baked_anew(tmp_path: Path) -> None:
    item = one_item(tmp_path)
    with publishing(tmp_path, "--items", item.parent, *KEYS) as publisher:
        old = publisher.baked(item).narinfo()
    item.write_bytes(b"another")
    with publishing(tmp_path, "--items", item.parent, *KEYS) as publisher:
        new = publisher.baked(item).narinfo()
        assert old.item.nar_hash != new.item.nar_hash
        assert new.item.nar_size == len(nar_of(item))


def test_a_damaged_cache_is_made_anew(tmp_path: Path) -> None:
    item = one_item(tmp_path)
    with publishing(tmp_path, "--items", item.parent, *KEYS) as publisher:
        good = publisher.baked(item)
        nar = publisher.request(f"/nar/gzip/{item.name}").body
    directory = tmp_path / "cache" / "v1" / "items" / item.name[:32]
    for name, damage in (("record", b"\xff" * 100), ("gzip-3.nar", b"")):
        (directory / name).write_bytes(damage)
        with publishing(tmp_path, "--items", item.parent, *KEYS) as publisher:
            # A file whose damage shows only when it is opened: the first client gets a 404.
            status = publisher.request(f"/nar/gzip/{item.name}").status
            assert status == 404
            assert publisher.baked(item) == good
            assert publisher.request(f"/nar/gzip/{item.name}").body == nar
            assert "damaged" in publisher.log


def test_kill_while_baking(tmp_path: Path) -> None:
    item = one_item(tmp_path, random.Random(0).randbytes(10_000_000))
    temporary = tmp_path / "cache" / "v1" / "tmp"

    def under_way() -> bool:
        return any(path.stat().st_size > 0 for path in temporary.glob("*/*"))

    with publishing(tmp_path, "--items", item.parent, *KEYS, "-C", "lzip:9") as publisher:
        publisher.narinfo(item)
        wait_until(under_way, "baking to have begun")
        publisher.stop(signal.SIGKILL)
        assert under_way()
    assert not (tmp_path / "cache" / "v1" / "items" / item.name[:32] / "record").exists()
    with publishing(tmp_path, "--items", item.parent, *KEYS, "-C", "zstd:1") as publisher:
        assert not under_way()
        (url,) = publisher.narinfo(item).narinfo().urls
        assert url.compression == "none"
        (url,) = publisher.baked(item).narinfo().urls
        assert len(publisher.request(f"/{url.url}").body) == url.file_size


def test_what_left_the_store_stays_as_long_as_it_is_used(tmp_path: Path) -> None:
    item = one_item(tmp_path)
    with publishing(tmp_path, "--items", item.parent, *KEYS, "--ttl", "30d") as publisher:
        before = publisher.baked(item)
        nar = nar_of(item)
        item.unlink()
        publisher.stop()
        publisher.start()
        assert publisher.narinfo(item) == before
        assert nar_through(publisher, item) == 200
        # The plain nar that the first narinfo named came from the store.
        assert publisher.request(f"/nar/{item.name}").body == nar
        publisher.stop()
        record = tmp_path / "cache" / "v1" / "items" / item.name[:32] / "record"
        os.utime(record, (1, 1))
        publisher.start()
        wait_until(lambda: not record.exists(), "expiry")
        assert publisher.narinfo(item).status == 404
        assert nar_through(publisher, item) == 404
