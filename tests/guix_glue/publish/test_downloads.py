"""Downloads that are shared: whoever goes at whatever moment, nothing is left behind."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from guix_glue.errors import FetchFailed
from guix_glue.formats.compression import Compression
from guix_glue.kept.directory import CacheDirectory
from guix_glue.upstream.downloads import Downloads
from guix_glue.upstream.kept_nars import KeptNars, NarKey
from guix_glue.upstream.nar_check import NarCheck
from tests.descriptors import descriptors, left_open

NAR = random.Random(0).randbytes(300_000)
KEY = NarKey("0" * 32, hashlib.sha256(NAR).digest(), Compression.NONE)


def check() -> NarCheck:
    return NarCheck(KEY.method, KEY.nar_hash, len(NAR))


async def fetch() -> AsyncGenerator[bytes, None]:
    for at in range(0, len(NAR), 50_000):
        await asyncio.sleep(0)
        yield NAR[at : at + 50_000]


async def no_doubt(hash_part: str) -> None:
    """Nobody keeps a narinfo here."""


async def take(downloads: Downloads, limit: int = len(NAR)) -> bytes | None:
    """What a client takes that goes after so many bytes."""
    download = await downloads.join(KEY, len(NAR), lambda: (fetch, check()))
    if download is None:
        return None
    taken = b""
    try:
        async with aclosing(download.pieces(0, len(NAR))) as pieces:
            async for piece in pieces:
                taken += piece
                if len(taken) >= limit:
                    break
    finally:
        download.leave()
    return taken


@pytest.mark.parametrize("seed", range(12))
def test_whoever_goes_at_any_moment_leaves_nothing(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    directory = CacheDirectory(tmp_path / "cache")

    async def main() -> None:
        kept = KeptNars(directory, 1_000_000)
        downloads = Downloads(directory, kept, no_doubt)
        before = asyncio.all_tasks()
        for _ in range(4):
            tasks = []
            for _ in range(choose.randrange(1, 5)):
                limit = choose.choice((1, 120_000, len(NAR)))
                tasks.append(asyncio.create_task(take(downloads, limit)))
                for _ in range(choose.randrange(20)):
                    await asyncio.sleep(0)
            for task in choose.sample(tasks, choose.randrange(len(tasks) + 1)):
                task.cancel()
                for _ in range(choose.randrange(20)):
                    await asyncio.sleep(choose.choice((0, 0.001)))
            for taken in await asyncio.gather(*tasks, return_exceptions=True):
                assert taken is None or isinstance(taken, asyncio.CancelledError | bytes)
                assert not isinstance(taken, bytes) or NAR.startswith(taken)
        await downloads.close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before
        assert os.listdir(directory.path / "tmp") == []
        assert kept.size(KEY) in (None, len(NAR))

    before = descriptors()
    asyncio.run(main())
    assert not left_open(before)
    directory.close()


def test_a_wrong_nar_is_never_whole(tmp_path: Path) -> None:
    directory = CacheDirectory(tmp_path / "cache")

    async def wrong() -> AsyncGenerator[bytes, None]:
        yield NAR[:-1]
        yield b"?"

    async def main() -> None:
        kept = KeptNars(directory, 1_000_000)
        downloads = Downloads(directory, kept, no_doubt)
        download = await downloads.join(KEY, len(NAR), lambda: (wrong, check()))
        assert download is not None
        taken = 0
        with pytest.raises(FetchFailed):
            async for piece in download.pieces(0, len(NAR)):
                taken += len(piece)
        assert taken < len(NAR)
        download.leave()
        await downloads.close()
        assert kept.size(KEY) is None

    asyncio.run(main())
    directory.close()


class Filling(io.FileIO):
    """A file on a disk that is full after the first piece."""

    def write(self, data: Any, /) -> int:
        if self.tell():
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


class FullDisk(CacheDirectory):
    """A cache whose files cannot be written to the end, though there was room at first."""

    is_full = True

    def create(self, path: Path) -> BinaryIO:
        return cast(BinaryIO, Filling(path, "x+")) if self.is_full else super().create(path)


def test_a_disk_that_fills_cuts_off_nobody_twice(tmp_path: Path) -> None:
    directory = FullDisk(tmp_path / "cache")

    async def main() -> None:
        downloads = Downloads(directory, KeptNars(directory, 1_000_000), no_doubt)
        with pytest.raises(FetchFailed):
            await take(downloads)
        # Nor anybody who wants another nar.
        other = NarKey("1" * 32, KEY.nar_hash, KEY.method)
        for key in (KEY, other):
            assert await downloads.join(key, len(NAR), lambda: (fetch, check())) is None
        await downloads.close()

    asyncio.run(main())
    directory.close()


def test_whoever_goes_makes_no_failure(tmp_path: Path) -> None:
    directory = CacheDirectory(tmp_path / "cache")

    async def main() -> None:
        downloads = Downloads(directory, KeptNars(directory, 1_000_000), no_doubt)
        await take(downloads, 1)
        # What it has left may still be being removed.
        for _ in range(1000):
            taken = await take(downloads)
            if taken is not None:
                break
            await asyncio.sleep(0.001)
        assert taken == NAR
        await downloads.close()

    asyncio.run(main())
    directory.close()


def test_no_more_are_under_way_than_there_is_room_for(tmp_path: Path) -> None:
    directory = CacheDirectory(tmp_path / "cache")

    async def main() -> None:
        downloads = Downloads(directory, KeptNars(directory, len(NAR) + 1), no_doubt)
        download = await downloads.join(KEY, len(NAR), lambda: (fetch, check()))
        assert download is not None
        other = NarKey("1" * 32, KEY.nar_hash, KEY.method)
        assert await downloads.join(other, len(NAR), lambda: (fetch, check())) is None
        download.leave()
        await downloads.close()

    asyncio.run(main())
    directory.close()
