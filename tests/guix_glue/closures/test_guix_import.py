"""Importing into Guix, by a daemon that asks for what it imports."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from guix_glue.closures.bringing import end_of
from guix_glue.closures.guix_import import GuixImport, valid_items
from guix_glue.closures.wanted import Wanted
from guix_glue.errors import DaemonError
from guix_glue.local.daemon import GuixDaemon
from guix_glue.trust.keys import generate_private_key
from guix_glue.trust.signature import sign_digest
from tests.guix_glue.closures.guix import FakeGuix, running_guix
from tests.guix_glue.closures.support import BIG, GREETING, WORDS, Made, make

KEY = generate_private_key(bytes(range(32)))
OTHER = generate_private_key(bytes(range(1, 33)))


@pytest.fixture
def guix(tmp_path: Path) -> Iterator[FakeGuix]:
    with running_guix(tmp_path, {KEY.public.q}) as running:
        yield running


@pytest.fixture
def items(tmp_path: Path) -> list[Made]:
    words = make(tmp_path, "words", WORDS)
    greeting = make(tmp_path, "greeting", GREETING, words.item.base_name, "self")
    return [words, greeting, make(tmp_path, "big", BIG)]


async def put(sink: GuixImport, made: Made, key: object = KEY) -> None:
    nar = made.nar
    await sink.begin(made.item)
    for start in range(0, len(nar), 1_000_000):
        await sink.write(nar[start : start + 1_000_000])
    sign = (lambda *_: None) if key is None else (lambda _, digest: sign_digest(key, digest))  # type: ignore[arg-type]
    await sink.complete(end_of(Wanted(made.item), hashlib.sha256(nar), sign))


def test_items_are_imported_one_by_one(guix: FakeGuix, items: list[Made]) -> None:
    async def run() -> None:
        async with GuixDaemon(str(guix.socket)) as daemon:
            names = [made.item.base_name for made in items]
            assert await valid_items(daemon, "/gnu/store", names) == set()
            sink = GuixImport(daemon)
            for made in items:
                await put(sink, made)
                assert made.item.path in guix.valid
            assert await valid_items(daemon, "/gnu/store", names * 500) == set(names)
            await sink.close()

    asyncio.run(run())
    # What keeps the items from being collected.
    assert guix.connections == 1
    for made in items:
        imported = guix.valid[made.item.path]
        assert imported.nar == made.nar
        assert imported.references == [f"/gnu/store/{name}" for name in made.item.references]


@pytest.mark.parametrize(
    ("key", "reason"), [(None, "lacks a signature"), (OTHER, "unauthorized public key")]
)
def test_what_the_daemon_does_not_take(
    guix: FakeGuix, items: list[Made], key: object, reason: str
) -> None:
    async def run() -> None:
        async with GuixDaemon(str(guix.socket)) as daemon:
            sink = GuixImport(daemon)
            with pytest.raises(DaemonError, match=f"words: the Guix daemon.*{reason}"):
                await put(sink, items[0], key)
            await sink.close()
            await put(sink, items[0])

    asyncio.run(run())
    assert guix.valid.keys() == {items[0].item.path}


def test_what_is_taken_back_is_not_there(guix: FakeGuix, items: list[Made]) -> None:
    async def run() -> None:
        async with GuixDaemon(str(guix.socket)) as daemon:
            sink = GuixImport(daemon)
            await put(sink, items[0])
            await sink.begin(items[2].item)
            await sink.write(items[2].nar[:2_000_000])
            await sink.take_back()
            await put(sink, items[1])
            await sink.close()

    asyncio.run(run())
    assert guix.valid.keys() == {items[0].item.path, items[1].item.path}


def test_a_daemon_that_goes_in_the_middle(guix: FakeGuix, items: list[Made]) -> None:
    guix.dies_after = 1

    async def run() -> None:
        async with GuixDaemon(str(guix.socket)) as daemon:
            sink = GuixImport(daemon)
            await put(sink, items[0])
            with pytest.raises(DaemonError, match="has closed the connection"):
                await put(sink, items[2])
            await sink.close()

    asyncio.run(run())
    assert guix.valid.keys() == {items[0].item.path}
