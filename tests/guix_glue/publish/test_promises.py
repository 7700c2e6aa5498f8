"""Whatever a narinfo names is served as long as was said: also of what is gone, and not packed."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from guix_glue.formats.compression import Compression, CompressionChoice, decompressor
from guix_glue.kept.directory import CacheDirectory
from guix_glue.local.item_directory import DirectoryItems
from guix_glue.publish.cache import BakedCache
from guix_glue.publish.local_source import LocalSource
from guix_glue.publish.model import PublishOptions
from guix_glue.publish.narinfos import NarinfoWriter, SigningKeys
from guix_glue.serving.reply import FileBody, Reply, StreamBody
from guix_glue.trust.nix_keys import NixSecretKey
from tests.guix_glue.publish.support import (
    KEYS,
    SAMPLES,
    Answer,
    Publisher,
    make_item,
    nar_of,
    publishing,
    wait_until,
)

DAY_S = 86_400
NIX_KEY = NixSecretKey.parse((SAMPLES / "nix-2.8" / "secret-key").read_text())
GZIP = CompressionChoice(Compression.GZIP, 1)
PLAIN = CompressionChoice(Compression.NONE, 0)


@pytest.fixture
def items(tmp_path: Path) -> Path:
    directory = tmp_path / "items"
    directory.mkdir()
    return directory


def unpacked(publisher: Publisher, compression: str, item: Path) -> bytes:
    """The nar that is at a URL."""
    prefix = "" if compression == "none" else f"{compression}/"
    answer = publisher.request(f"/nar/{prefix}{item.name}")
    assert answer.status == 200, (compression, item.name)
    return b"".join(decompressor(Compression(compression)).feed(answer.body, 1 << 24))


def complete(publisher: Publisher, item: Path) -> Answer:
    wait_until(lambda: publisher.narinfo(item).max_age == 90 * DAY_S, "a complete narinfo")
    return publisher.narinfo(item)


def test_what_was_named_is_served_though_it_left_the_store(items: Path, tmp_path: Path) -> None:
    paths = [make_item(items, name) for name in ("plain", "src.tar.gz", "a.zip")]
    for path in paths:
        path.write_bytes(b"content\n" * 5000)
    nars = {path: nar_of(path) for path in paths}
    named: dict[Path, set[str]] = {path: set() for path in paths}
    arguments: list[str | Path] = ["--items", items, *KEYS, "--ttl", "90d", "--eris"]

    def note(path: Path, answer: Answer) -> None:
        named[path] |= {url.compression for url in answer.narinfo().urls}

    with publishing(tmp_path, *arguments, "-C", "lzip", "-C", "gzip") as publisher:
        for path in paths:
            note(path, publisher.narinfo(path))
            note(path, complete(publisher, path))
        assert named == {
            paths[0]: {"none", "lzip", "gzip"},
            paths[1]: {"none"},
            paths[2]: {"none"},
        }
        last = {path: publisher.narinfo(path) for path in paths}
        for path in paths:
            path.unlink()
        publisher.stop()
        publisher.start()
        for path in paths:
            assert publisher.narinfo(path) == last[path]
            assert last[path].narinfo().signed_urn is not None
    # Also when other compressions are wanted now.
    with publishing(tmp_path, *arguments, "-C", "zstd") as publisher:
        for path in paths:
            note(path, publisher.narinfo(path))
            for compression in named[path]:
                assert unpacked(publisher, compression, path) == nars[path]


def run(
    tmp_path: Path,
    test: Callable[[LocalSource], Awaitable[None]],
    *,
    ttl_s: int | None = 1000,
    choices: Sequence[CompressionChoice] = (GZIP,),
    for_nix: bool = False,
) -> None:
    """Start a source over the items of a test, and stop it."""

    async def main() -> None:
        directory = CacheDirectory(tmp_path / "cache")
        items = DirectoryItems(str(tmp_path / "items"), "/gnu/store")
        options = PublishOptions("/gnu/store", tuple(choices), ttl_s=ttl_s, for_nix=for_nix)
        cache = BakedCache(directory, promise_s=options.promise_s)
        writer = NarinfoWriter(SigningKeys("host", nix=NIX_KEY if for_nix else None))
        source = LocalSource(items, None, cache, writer, options, None, workers=1)
        try:
            await test(source)
        finally:
            await source.close()
            await items.close()
            directory.close()

    asyncio.run(main())


async def asked(source: LocalSource, item: Path) -> Reply | None:
    """The narinfo, once all is baked that can be."""
    reply = await source.narinfo(item.name[:32])
    if reply is not None:
        reply.close()
    await source.queue.idle()
    return await source.narinfo(item.name[:32])


def content(reply: Reply | None) -> bytes | None:
    if reply is None:
        return None
    match reply.body:
        case FileBody(file, size):
            with file:
                return file.read(size)
        case StreamBody():
            return b"".join(reply.body.open())
        case bytes() as body:
            return body
        case body:
            raise AssertionError(f"this is not what a local source gives: {body}")


def an_item(items: Path) -> Path:
    item = make_item(items, "item")
    item.write_bytes(b"content")
    return item


def last_used(tmp_path: Path, item: Path, seconds_ago: float) -> Path:
    record = tmp_path / "cache" / "v1" / "items" / item.name[:32] / "record"
    then = time.time() - seconds_ago
    os.utime(record, (then, then))
    return record


@pytest.mark.parametrize("choices", [(GZIP,), (PLAIN,)])
def test_a_shorter_ttl_breaks_no_promise(
    items: Path, tmp_path: Path, choices: tuple[CompressionChoice, ...]
) -> None:
    item = an_item(items)

    async def ask(source: LocalSource) -> None:
        reply = await asked(source, item)
        assert reply is not None
        assert reply.max_age_s == source_ttl_s

    async def expire(source: LocalSource) -> None:
        await source.expire(time.time() - source_ttl_s)

    source_ttl_s = 90 * DAY_S
    run(tmp_path, ask, ttl_s=source_ttl_s, choices=choices)
    last_used(tmp_path, item, 10 * DAY_S)
    item.unlink()
    # The promise made last is longer than what is kept now.
    source_ttl_s = 60
    run(tmp_path, expire, ttl_s=source_ttl_s, choices=choices)
    run(tmp_path, ask, ttl_s=source_ttl_s, choices=choices)
    # Now it was promised for a minute, and the former promise holds.
    record = last_used(tmp_path, item, 3600)
    run(tmp_path, expire, ttl_s=source_ttl_s, choices=choices)
    assert record.exists()


def test_a_promise_that_is_over_keeps_nothing(items: Path, tmp_path: Path) -> None:
    item = an_item(items)

    async def ask(source: LocalSource) -> None:
        assert await asked(source, item) is not None

    async def expire(source: LocalSource) -> None:
        await source.expire(time.time() - 10)

    run(tmp_path, ask, ttl_s=100)
    item.unlink()
    record = last_used(tmp_path, item, 90)
    run(tmp_path, expire, ttl_s=10)
    assert record.exists()
    last_used(tmp_path, item, 110)
    run(tmp_path, expire, ttl_s=10)
    assert not record.parent.exists()


@pytest.mark.parametrize(("for_nix", "days"), [(True, 30), (False, 1.5)])
def test_what_clients_keep_that_are_told_nothing_or_do_not_listen(
    for_nix: bool, days: float, items: Path, tmp_path: Path
) -> None:
    item = an_item(items)

    async def ask(source: LocalSource) -> None:
        assert await asked(source, item) is not None

    async def expire(source: LocalSource) -> None:
        await source.expire(time.time() - 10)

    run(tmp_path, ask, ttl_s=10 if for_nix else None, for_nix=for_nix)
    item.unlink()
    record = last_used(tmp_path, item, days * DAY_S - 60)
    run(tmp_path, expire, ttl_s=10, for_nix=for_nix)
    assert record.exists()
    last_used(tmp_path, item, days * DAY_S + 60)
    run(tmp_path, expire, ttl_s=10, for_nix=for_nix)
    assert not record.exists()


def test_what_cannot_be_noted_is_not_promised(items: Path, tmp_path: Path) -> None:
    item = an_item(items)

    async def ask(source: LocalSource) -> None:
        assert await asked(source, item) is not None

    async def ask_without_room(source: LocalSource) -> None:
        # What is written goes through this directory, and something else is in its place.
        shutil.rmtree(tmp_path / "cache" / "v1" / "tmp")
        (tmp_path / "cache" / "v1" / "tmp").write_text("")
        reply = await source.narinfo(item.name[:32])
        assert reply is not None
        assert reply.max_age_s == 300

    run(tmp_path, ask, ttl_s=10)
    run(tmp_path, ask_without_room, ttl_s=1000)


def test_one_item_that_cannot_be_told_of_stops_no_expiry(items: Path, tmp_path: Path) -> None:
    both = [make_item(items, name) for name in ("one", "two")]
    for item in both:
        item.write_bytes(b"content")

    async def ask(source: LocalSource) -> None:
        for item in both:
            assert await asked(source, item) is not None

    async def expire(source: LocalSource) -> None:
        await source.expire(time.time() - 10)

    run(tmp_path, ask, ttl_s=10)
    records = [last_used(tmp_path, item, 1000) for item in both]
    for item in both:
        item.unlink()
    # Of this one it cannot be said what it is.
    os.mkfifo(both[0])
    run(tmp_path, expire, ttl_s=10)
    assert [record.exists() for record in records] == [True, False]


@pytest.mark.parametrize("method", [Compression.ZSTD, Compression.GZIP, Compression.LZIP])
def test_the_plain_nar_is_there_as_long_as_any(
    items: Path, tmp_path: Path, method: Compression
) -> None:
    item = an_item(items)
    nar = nar_of(item)

    async def test(source: LocalSource) -> None:
        assert await asked(source, item) is not None
        item.unlink()
        assert content(await source.nar(item.name, Compression.NONE)) == nar
        # What is damaged, and still as long as it was, is left when that shows.
        (file,) = (tmp_path / "cache" / "v1" / "items" / item.name[:32]).glob("*.nar")
        file.write_bytes(bytes(file.stat().st_size))
        assert content(await source.nar(item.name, Compression.NONE)) != nar
        assert await source.nar(item.name, Compression.NONE) is None
        assert await source.narinfo(item.name[:32]) is None

    run(tmp_path, test, choices=(CompressionChoice(method, 3),))


def test_a_store_that_cannot_tell_does_not_hide_what_is_kept(items: Path, tmp_path: Path) -> None:
    item = an_item(items)
    nar = nar_of(item)

    async def test(source: LocalSource) -> None:
        assert await asked(source, item) is not None
        item.unlink()
        os.mkfifo(item)
        reply = await source.narinfo(item.name[:32])
        assert reply is not None
        assert (reply.status, reply.max_age_s) == (200, 300)
        assert content(await source.nar(item.name, Compression.NONE)) == nar

    run(tmp_path, test)
