"""Room for nars: bounded, given back, and none where the disk has none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from guix_glue.kept.directory import CacheDirectory
from guix_glue.proxy.spool import NoRoom, Room, Spool
from tests.guix_glue.proxy.support import FullDisk


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[CacheDirectory]:
    opened = CacheDirectory(tmp_path)
    yield opened
    opened.close()


def within(check: Callable[[], None]) -> None:
    """Spools look at the clock of a loop."""

    async def main() -> None:
        check()

    asyncio.run(main())


def spool(directory: CacheDirectory, **more: int) -> Spool:
    return Spool(directory, **{"small": 10, "memory": 20, "spooled": 100, "disk": 250} | more)


def filled(room: Room, content: bytes) -> Room:
    room.open()
    room.write(content[:3])
    room.write(content[3:])
    return room


@pytest.mark.parametrize("size", [5, 10, 11, 100])
def test_what_is_written_is_read(directory: CacheDirectory, size: int) -> None:
    def check() -> None:
        content = os.urandom(size)
        room = filled(spool(directory).room(size), content)
        assert room.read(0, size) == content
        assert room.read(2, 2) == content[2:4]
        assert room.read(size - 1, 1) == content[-1:]
        # Whatever happens, nothing is left.
        assert list((directory.path / "tmp").iterdir()) == []
        room.close()
        room.close()

    within(check)


def test_all_room_has_its_limit(directory: CacheDirectory) -> None:
    def check() -> None:
        one = spool(directory)
        with pytest.raises(NoRoom):
            one.room(101)
        on_disk = [one.room(100), one.room(100), one.room(50)]
        with pytest.raises(NoRoom):
            one.room(11)
        in_memory = [one.room(10), one.room(10)]
        # There is none on disk for these, either.
        with pytest.raises(NoRoom):
            one.room(1)
        for room in (on_disk[0], in_memory[0]):
            room.close()
            room.close()
        for room in (one.room(100), one.room(10)):
            filled(room, b"content")
            room.close()

    within(check)


def test_small_ones_go_to_disk_when_memory_is_full(directory: CacheDirectory) -> None:
    def check() -> None:
        one = spool(directory)
        for _ in range(10):
            room = filled(one.room(10), b"0123456789")
            assert room.read(0, 10) == b"0123456789"

    within(check)


def test_a_full_disk_has_no_room(tmp_path: Path) -> None:
    full = FullDisk(tmp_path)

    def check() -> None:
        one = spool(full)
        for _ in range(10):
            # Each gives back what it took.
            room = one.room(100)
            with pytest.raises(NoRoom, match="No space left"):
                room.open()
            room.close()
        filled(one.room(10), b"in memory").close()

    try:
        within(check)
    finally:
        full.close()


def test_a_disk_that_fails_is_left_alone_for_a_while(
    directory: CacheDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    def check() -> None:
        one = spool(directory)
        one.failed("Input/output error")
        one.failed("Input/output error")
        with pytest.raises(NoRoom):
            one.room(100)
        filled(one.room(10), b"in memory").close()
        one.works()
        filled(one.room(100), b"on disk").close()

    within(check)
    said: list[Any] = [record.message for record in caplog.records]
    assert said == ["No nars are made on disk for 60 s: Input/output error"]
