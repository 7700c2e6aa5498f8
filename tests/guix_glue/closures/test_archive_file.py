"""An archive in a file: whole or not there, and gone on with where it broke off."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from guix_glue.closures.archive_file import ArchiveFile, ArchiveInUse
from guix_glue.closures.bringing import end_of
from guix_glue.closures.wanted import Wanted
from tests.guix_glue.closures.support import GREETING, WORDS, Made, export_of, make


def end(wanted: Wanted, state: hashlib._Hash) -> bytes:
    return end_of(wanted, state, lambda *_: None)


@pytest.fixture
def items(tmp_path: Path) -> list[Made]:
    return [make(tmp_path, name, node) for name, node in (("a", WORDS), ("b", GREETING), ("c", {}))]


async def put(file: ArchiveFile, made: Made) -> None:
    nar = made.nar
    await file.begin(made.item)
    await file.write(nar)
    await file.complete(end(Wanted(made.item), hashlib.sha256(nar)))


def resumed(path: Path, items: Sequence[Made]) -> int:
    """Go on with what is there, to the end; how many items were there."""

    async def run() -> int:
        file = ArchiveFile(str(path), replace=False)
        try:
            place = await file.resume([Wanted(one.item) for one in items], end)
            for made in items[place:]:
                await put(file, made)
            await file.finish()
            return place
        finally:
            file.close()

    return asyncio.run(run())


def test_it_appears_when_it_is_whole(items: list[Made], tmp_path: Path) -> None:
    out = tmp_path / "out"

    async def run() -> None:
        file = ArchiveFile(str(out), replace=False)
        for made in items:
            await put(file, made)
            assert not out.exists()
        await file.finish()
        file.close()

    asyncio.run(run())
    assert out.read_bytes() == export_of(items)
    assert not (tmp_path / "out.part").exists()


def test_wherever_it_breaks_off_it_goes_on(items: list[Made], tmp_path: Path) -> None:
    whole = export_of(items)
    starts = [len(export_of(items[:count])) - 8 for count in range(4)]
    sizes = {0, 1, 8, *(max(0, at + by) for at in starts for by in (-1, 0, 1, 9)), len(whole) - 8}
    for number, size in enumerate(sorted(sizes)):
        out = tmp_path / f"out-{number}"
        (tmp_path / f"out-{number}.part").write_bytes(whole[:size])
        complete = sum(start <= size for start in starts[1:])
        assert resumed(out, items) == complete
        assert out.read_bytes() == whole


def test_what_is_wrong_in_it_is_fetched_again(items: list[Made], tmp_path: Path) -> None:
    whole = export_of(items)
    for number, at in enumerate(range(0, len(whole) - 8, 997)):
        damaged = bytearray(whole[:-8])
        damaged[at] ^= 1
        (tmp_path / f"out-{number}.part").write_bytes(damaged)
        assert resumed(tmp_path / f"out-{number}", items) < len(items)
        assert (tmp_path / f"out-{number}").read_bytes() == whole


def test_what_was_taken_back_is_not_in_it(items: list[Made], tmp_path: Path) -> None:
    async def run() -> None:
        file = ArchiveFile(str(tmp_path / "out"), replace=False)
        await put(file, items[0])
        await file.begin(items[1].item)
        await file.write(b"something else")
        await file.take_back()
        await put(file, items[2])
        await file.finish()

    asyncio.run(run())
    assert (tmp_path / "out").read_bytes() == export_of([items[0], items[2]])


def test_only_one_program_at_a_time_has_it(tmp_path: Path) -> None:
    file = ArchiveFile(str(tmp_path / "out"), replace=False)
    with pytest.raises(ArchiveInUse, match="another program"):
        ArchiveFile(str(tmp_path / "out"), replace=False)
    file.close()
    # Of what never began nothing stays.
    assert list(tmp_path.iterdir()) == []
    ArchiveFile(str(tmp_path / "out"), replace=False).close()


@pytest.mark.parametrize("kind", ["link", "pipe", "directory", "second name"])
def test_what_is_in_the_way_is_left_alone(tmp_path: Path, kind: str) -> None:
    other, part = tmp_path / "other", tmp_path / "out.part"
    other.write_bytes(b"mine")
    match kind:
        case "link":
            part.symlink_to(other)
        case "pipe":
            os.mkfifo(part)
        case "directory":
            part.mkdir()
        case _:
            os.link(other, part)
    with pytest.raises(OSError, match=r"out\.part"):
        ArchiveFile(str(tmp_path / "out"), replace=False)
    assert other.read_bytes() == b"mine"


@pytest.mark.parametrize("links", [True, False])
def test_what_appears_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:

        def link(*_: object, **__: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)

    async def run() -> None:
        file = ArchiveFile(str(tmp_path / "out"), replace=False)
        (tmp_path / "out").write_bytes(b"mine")
        with pytest.raises(FileExistsError):
            await file.finish()
        file.close()
        (tmp_path / "out").unlink()
        file = ArchiveFile(str(tmp_path / "out"), replace=False)
        assert await file.resume([], end) == 0
        await file.finish()

    asyncio.run(run())
    assert (tmp_path / "out").read_bytes() == bytes(8)
    assert not (tmp_path / "out.part").exists()


def test_it_replaces_what_it_may(tmp_path: Path) -> None:
    async def run() -> None:
        (tmp_path / "out").write_bytes(b"old")
        file = ArchiveFile(str(tmp_path / "out"), replace=True)
        await file.finish()

    asyncio.run(run())
    assert (tmp_path / "out").read_bytes() == bytes(8)
