"""Importing into Nix, by the real one, and archives as it writes them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from guix_glue.closures.bringing import end_of
from guix_glue.closures.nix_import import NixImport, valid_nix_items
from guix_glue.closures.wanted import Wanted
from guix_glue.errors import DaemonError
from tests.eris_fs.trees import read_back
from tests.guix_glue.closures.support import BIG, GREETING, WORDS, Made, export_of, make

pytestmark = pytest.mark.skipif(shutil.which("nix-store") is None, reason="Nix is not installed")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of Nix below a directory, which Nix is told of by its environment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NIX_CONFIG", "build-users-group =\nsandbox = false\nsubstituters =\n")
    monkeypatch.setenv("NIX_REMOTE", f"local?root={tmp_path / 'root'}")
    return tmp_path / "root"


@pytest.fixture
def items(tmp_path: Path) -> list[Made]:
    words = make(tmp_path, "words", WORDS, store_dir="/nix/store")
    name = words.item.base_name
    greeting = make(tmp_path, "greeting", GREETING, name, "self", store_dir="/nix/store")
    big = make(tmp_path, "big", BIG, greeting.item.base_name, store_dir="/nix/store")
    return [words, greeting, big]


async def put(sink: NixImport, made: Made) -> None:
    nar = made.nar
    await sink.begin(made.item)
    await sink.write(nar)
    await sink.complete(end_of(Wanted(made.item), hashlib.sha256(nar), lambda *_: None))


async def valid(items: list[Made]) -> set[str]:
    names = [made.item.base_name for made in items]
    return await valid_nix_items("nix-store", "/nix/store", names)


def test_items_are_imported_and_exported_the_same(root: Path, items: list[Made]) -> None:
    async def run() -> None:
        assert await valid(items) == set()
        sink = NixImport("nix-store")
        for made in items:
            await put(sink, made)
        await sink.finish()
        await sink.close()
        assert await valid(items) == {made.item.base_name for made in items}

    asyncio.run(run())
    assert read_back(root / items[1].item.path[1:]) == GREETING
    exported = subprocess.run(
        ["nix-store", "--export", items[1].item.path], capture_output=True, check=True, timeout=60
    )
    assert exported.stdout == export_of(items[1:2])


def test_what_is_taken_back_is_not_there(root: Path, items: list[Made]) -> None:
    async def run() -> None:
        sink = NixImport("nix-store")
        await put(sink, items[0])
        await put(sink, items[1])
        await sink.begin(items[2].item)
        await sink.write(items[2].nar[:2_000_000])
        await sink.take_back()
        assert await valid(items) == {made.item.base_name for made in items[:2]}
        await put(sink, items[2])
        await sink.finish()
        await sink.close()
        assert await valid(items) == {made.item.base_name for made in items}

    asyncio.run(run())


def test_what_nix_complains_of_is_told(root: Path, items: list[Made]) -> None:
    async def run() -> None:
        sink = NixImport("nix-store")
        with pytest.raises(DaemonError, match=r"nix-store fails: .*words"):
            # What it refers to is not there.
            await put(sink, items[1])
            await sink.finish()
        await sink.close()
        assert await valid(items) == set()

    asyncio.run(run())


def test_a_program_that_is_not_there() -> None:
    async def run() -> None:
        with pytest.raises(DaemonError, match="cannot run no-such-nix-store: No such file"):
            await valid_nix_items("no-such-nix-store", "/nix/store", ["a"])

    asyncio.run(run())


def test_a_program_that_takes_nothing_is_ended(items: list[Made], tmp_path: Path) -> None:
    program = tmp_path / "nix-store"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)

    async def run() -> int:
        sink = NixImport(str(program))
        await sink.begin(items[0].item)
        assert sink._process is not None
        number = sink._process.pid
        await sink.close()
        return number

    number = asyncio.run(run())
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
