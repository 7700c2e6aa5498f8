"""A full disk: PUTs are turned away, reads go on, nothing is damaged, and room is used again.

Needs a file system of its own, small enough to be filled: only root may mount one.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eris import BlockSize, Reference, StoreRefused, StoreUnavailable
from kapla.client import RemoteStore
from kapla.coap.blocks import put_options
from kapla.coap.frame import Code, format_frame
from kapla.urls import parse_store_url
from tests.integration.daemon import Daemon, program, running_daemon
from tests.kapla.storage.databases import make_blocks

MIB = 1 << 20


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 32 MiB: twice what the WAL alone may take."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    with tempfile.TemporaryDirectory(prefix="kapla-disk-") as name:
        mounting = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=32m", "kapla-test", name],
            capture_output=True,
            text=True,
            check=False,
        )
        if mounting.returncode != 0:
            pytest.skip(f"cannot mount a small file system here: {mounting.stderr.strip()}")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


def grow(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=256m", str(disk)], check=True)


async def put_all(daemon: Daemon, blocks: dict[Reference, bytes]) -> dict[Reference, Exception]:
    """Put blocks, some at a time; returns the errors."""
    errors: dict[Reference, Exception] = {}
    names = list(blocks)
    async with RemoteStore(parse_store_url(daemon.url)) as store:
        for start in range(0, len(names), 32):
            part = names[start : start + 32]
            results = await asyncio.gather(
                *[store.put(name, blocks[name]) for name in part], return_exceptions=True
            )
            for name, result in zip(part, results, strict=True):
                if result is not None:
                    assert isinstance(result, Exception)
                    errors[name] = result
    return errors


async def missing(
    daemon: Daemon, blocks: dict[Reference, bytes], size: BlockSize
) -> list[Reference]:
    async with RemoteStore(parse_store_url(daemon.url)) as store:
        results = await asyncio.gather(
            *[store.get(name, size) for name in blocks], return_exceptions=True
        )
    return [
        name
        for (name, block), result in zip(blocks.items(), results, strict=True)
        if result != block
    ]


def check_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("size", BlockSize, ids=lambda size: size.label)
def test_a_full_disk(small_disk: Path, size: BlockSize) -> None:
    blocks = make_blocks(32 * MIB // size, size)
    with running_daemon(small_disk) as daemon:
        errors = asyncio.run(put_all(daemon, blocks))
        assert errors
        assert all(isinstance(error, StoreUnavailable) for error in errors.values())
        assert all("full" in str(error) for error in errors.values())
        kept = {name: block for name, block in blocks.items() if name not in errors}
        # A good part of the disk was used before it was full.
        assert len(kept) * size > 8 * MIB
        # Reads go on, and so does the daemon; known blocks need no room.
        assert asyncio.run(missing(daemon, kept, size)) == []
        assert asyncio.run(put_all(daemon, dict(list(kept.items())[:100]))) == {}
        with daemon.connect() as peer:
            # The code on the wire, and why; a few blocks may still fit into a corner.
            for block in make_blocks(500, BlockSize.LARGE, seed=1).values():
                peer.send(format_frame(Code.PUT, b"p", put_options(()) + b"\xff" + block))
                response = peer.response()
                if response.code != Code.CREATED:
                    break
            assert response.code == Code.SERVICE_UNAVAILABLE
            assert b"full" in response.payload
        assert "Traceback" not in daemon.log

        # Room is made, and used at once.
        grow(small_disk)
        assert asyncio.run(put_all(daemon, blocks)) == {}
        assert asyncio.run(missing(daemon, blocks, size)) == []
        assert daemon.stop() == 0
        check_database(daemon.store)


def test_a_disk_that_others_have_filled(small_disk: Path) -> None:
    first, second = make_blocks(500, seed=1), make_blocks(2000, seed=2)
    filler = small_disk / "filler"
    with running_daemon(small_disk) as daemon:
        assert asyncio.run(put_all(daemon, first)) == {}
        fill(filler)
        errors = asyncio.run(put_all(daemon, second))
        assert errors
        assert asyncio.run(missing(daemon, first, BlockSize.SMALL)) == []

        # Stopped and killed on the full disk, it starts again and gives away what it has.
        assert daemon.stop() == 0
        daemon.start()
        assert asyncio.run(missing(daemon, first, BlockSize.SMALL)) == []
        daemon.kill()
        daemon.start()
        assert asyncio.run(missing(daemon, first, BlockSize.SMALL)) == []

        filler.unlink()
        assert asyncio.run(put_all(daemon, second)) == {}
        assert asyncio.run(missing(daemon, first | second, BlockSize.SMALL)) == []
        assert daemon.stop() == 0
        check_database(daemon.store)


def fill(path: Path) -> None:
    """Write until there is no room at all."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def test_no_room_for_a_store_at_all(small_disk: Path) -> None:
    fill(small_disk / "filler")
    with tempfile.TemporaryDirectory(prefix="kapla-") as name:
        daemon = Daemon(Path(name), store=small_disk / "blocks.sqlite")
        daemon.spawn()
        assert daemon.wait() == 1
        assert "Traceback" not in daemon.log
        assert daemon.log.splitlines()[-1].startswith("kaplad: cannot ")
        # Nothing in the way of another try.
        (small_disk / "filler").unlink()
        daemon.start()
        assert daemon.stop() == 0


def test_decoding_to_a_full_disk_leaves_nothing(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(33 * MIB))
    (tmp_path / "tree").mkdir()
    for number in range(33):
        (tmp_path / "tree" / str(number)).write_bytes(os.urandom(MIB))
    with running_daemon() as daemon:
        for name in ("large", "tree"):
            urn = kapla(daemon, "encode", str(tmp_path / name)).stdout.decode().strip()
            for limit, words in ((None, b"33,554,432"), ("1TiB", b"the disk is full")):
                arguments = ["--max-size", limit] if limit else []
                done = kapla(daemon, "decode", *arguments, urn, str(small_disk / name), code=7)
                assert done.stderr.count(b"\n") == 1
                assert words in done.stderr.replace(b"33554432", b"33,554,432")
                assert os.listdir(small_disk) == []


def kapla(daemon: Daemon, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [program("kapla"), *arguments],
        env={**os.environ, "ERIS_STORE_URL": daemon.url},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    return done


def test_a_store_whose_file_is_gone_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(os.urandom(MIB))
    with running_daemon(store=tmp_path / "blocks.sqlite") as daemon:
        kapla(daemon, "encode", str(tmp_path / "content"))
        (tmp_path / "blocks.sqlite").unlink()
        (tmp_path / "content").write_bytes(os.urandom(MIB))
        done = kapla(daemon, "encode", str(tmp_path / "content"), code=3)
        assert b"removed or replaced" in done.stderr
        daemon.wait_for_log("removed or replaced")


def test_a_quota_refuses_from_the_start() -> None:
    blocks = make_blocks(4 * MIB // 1024)
    with running_daemon(env={"KAPLA_MAX_SIZE": "2 MiB", "KAPLA_WHEN_FULL": "refuse"}) as daemon:
        errors = asyncio.run(put_all(daemon, blocks))
        assert errors
        assert all(isinstance(error, StoreRefused) for error in errors.values())
        assert all("max-size" in str(error) for error in errors.values())
        kept = {name: block for name, block in blocks.items() if name not in errors}
        assert len(kept) > 1000
        assert asyncio.run(missing(daemon, kept, BlockSize.SMALL)) == []
        assert asyncio.run(put_all(daemon, kept)) == {}
        # A restart forgets neither the quota nor how full it is.
        daemon.restart()
        errors = asyncio.run(put_all(daemon, make_blocks(10, seed=3)))
        assert len(errors) == 10
        assert all(isinstance(error, StoreRefused) for error in errors.values())
        assert daemon.stop() == 0
        check_database(daemon.store)
