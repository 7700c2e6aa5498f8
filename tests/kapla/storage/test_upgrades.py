"""Stores of earlier versions: whatever they held stays, until somebody lets it go."""

from __future__ import annotations

import asyncio
import logging
import lzma
import os
from pathlib import Path

import pytest

from eris import BlockSize, Reference, StoreFull, reference_of
from kapla.errors import PinNotFound, RequestMalformed
from kapla.storage.batching import BatchedStorage
from kapla.storage.sqlite.keeping.ids import Ids
from tests.kapla.storage.backends import keeping_of
from tests.kapla.storage.databases import (
    batched,
    get_many,
    make_blocks,
    put_many,
    settings_for,
    under_pin,
)

STORES = Path(__file__).parent / "stores"
VERSIONS = ("version-1", "version-2")
NOBODY = 12345


def blocks_of(version: str, tmp_path: Path) -> dict[Reference, bytes]:
    """Unpack a store; returns what its README says that it holds."""
    packed = (STORES / f"{version}.sqlite.xz").read_bytes()
    settings_for(tmp_path).path.write_bytes(lzma.decompress(packed))
    blocks = [
        *((b"%d " % n * BlockSize.SMALL)[: BlockSize.SMALL] for n in range(200)),
        *((b"%d " % n * BlockSize.LARGE)[: BlockSize.LARGE] for n in range(4)),
    ]
    return {reference_of(block): block for block in blocks}


async def close_pin(storage: BatchedStorage, blocks: list[bytes], name: str) -> None:
    pin = await storage.pinning.open(NOBODY)
    await under_pin(storage, blocks, pin)
    await storage.pinning.close(pin, name=name)


@pytest.mark.parametrize("version", VERSIONS)
def test_all_that_an_older_store_holds_is_pinned(tmp_path: Path, version: str) -> None:
    blocks = blocks_of(version, tmp_path)

    async def main() -> None:
        settings = settings_for(tmp_path, generation=64)
        for _ in range(2):
            async with batched(settings) as storage:
                assert await get_many(storage, list(blocks)) == list(blocks.values())
                [pin], _ = await storage.pinning.list(None, None, 9)
                assert (pin.name, pin.owner, pin.root) == ("before-pins", 0, None)
                assert (pin.keep, pin.lend, pin.missing) == (True, False, 0)
                assert (pin.small, pin.large, pin.own_small, pin.own_large) == (200, 4, 200, 4)
                assert len(keeping_of(storage).kept) == 204
                assert keeping_of(storage).lent == Ids()
        async with batched(settings) as storage:
            # New ones find their places, and belong to nobody.
            assert await put_many(storage, list(make_blocks(300).values())) is None
            assert await put_many(storage, list(blocks.values())) is None
            assert storage.new_blocks == 300
            assert len(keeping_of(storage).kept) == 204
            # Of no quota: it is nobody's choice.
            assert (await storage.totals())[0] == {1024: 500, 32768: 4}

    asyncio.run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_before_pins_goes_when_it_is_released(tmp_path: Path, version: str) -> None:
    blocks = list(blocks_of(version, tmp_path).values())

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            await close_pin(storage, [*blocks[:10], *blocks[-1:]], "mine")
            [before, mine], _ = await storage.pinning.list(None, None, 9)
            assert (before.own_small, before.own_large) == (190, 3)
            assert (mine.small, mine.large, mine.own_small, mine.own_large) == (10, 1, 0, 0)
            with pytest.raises(PinNotFound):
                await storage.pinning.release(NOBODY, name="before-pins")
            assert len(keeping_of(storage).kept) == 204
            released = await storage.pinning.release(0, name="before-pins")
            assert (released.small, released.own_small) == (200, 190)
            [mine], _ = await storage.pinning.list(None, None, 9)
            assert (mine.own_small, mine.own_large) == (10, 1)
            assert len(keeping_of(storage).kept) == 11
        async with batched(settings_for(tmp_path)) as storage:
            assert len(keeping_of(storage).kept) == 11

    asyncio.run(main())


def test_the_daemons_own_user_may_release_what_was_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks_of("version-2", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            assert (await storage.pinning.release(NOBODY, name="before-pins")).owner == 0
            assert keeping_of(storage).kept == Ids()

    asyncio.run(main())


def test_nobody_replaces_what_was_before(tmp_path: Path) -> None:
    blocks_of("version-2", tmp_path)

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            with pytest.raises(RequestMalformed):
                await storage.pinning.close(await storage.pinning.open(0), name="before-pins")
            # To others it is a name as any.
            await storage.pinning.close(await storage.pinning.open(NOBODY), name="before-pins")
            assert len(keeping_of(storage).kept) == 204

    asyncio.run(main())


def test_where_it_leaves_little_room_the_ways_out_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocks = list(blocks_of("version-2", tmp_path).values())
    caplog.set_level(logging.WARNING)
    more = list(make_blocks(100, BlockSize.LARGE).values())
    # 1 MiB is the least that may be set; the store has a third of that.
    settings = settings_for(tmp_path, max_size=400_000)

    async def main() -> None:
        async with batched(settings) as storage:
            assert "kapla unpin before-pins" in caplog.text
            assert "max-size" in caplog.text
            answer = await put_many(storage, more)
            assert isinstance(answer, list)
            [refusal] = {str(error) for error in answer if isinstance(error, StoreFull)}
            assert "kapla unpin before-pins" in refusal
            with pytest.raises(StoreFull, match="kapla unpin before-pins"):
                await storage.pinning.open(NOBODY, wants=150_000)
            await storage.pinning.release(0, name="before-pins")
            await close_pin(storage, blocks[:1], "mine")
            caplog.clear()
        async with batched(settings) as storage:
            assert "before-pins" not in caplog.text

    asyncio.run(main())


def test_with_room_enough_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocks_of("version-2", tmp_path)

    async def main() -> None:
        async with batched(settings_for(tmp_path, max_size=1 << 20)):
            assert "before-pins" not in caplog.text

    asyncio.run(main())
