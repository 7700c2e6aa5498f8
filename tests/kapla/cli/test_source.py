"""Reading content from streams that keep one waiting."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import pytest

from eris.transfer import Source
from kapla.cli.common import Counted
from kapla.cli.source import check_source, content_of, open_source, size_of

CONTENT = random.Random(1).randbytes(3_000_000)


class Shown:
    """A progress display that adds up."""

    def __init__(self) -> None:
        self.bytes = 0

    def advance(self, byte_count: int) -> None:
        self.bytes += byte_count

    def expect(self, byte_count: int) -> None:
        raise AssertionError

    def reach(self, files: int, byte_count: int) -> None:
        self.bytes = byte_count


async def collect(source: Source) -> bytes:
    assert isinstance(source, AsyncIterable)
    return b"".join([piece async for piece in source])


def read_while(file: BinaryIO, descriptor: int, pieces: list[bytes]) -> tuple[bytes, int]:
    """Read a stream while somebody writes these pieces into its other end and closes it."""
    shown = Shown()

    def write() -> None:
        with open(descriptor, "wb", buffering=0) as other:
            for piece in pieces:
                while piece:
                    piece = piece[other.write(piece) :]

    async def main() -> bytes:
        reading = asyncio.ensure_future(collect(content_of(file, shown)))
        await asyncio.gather(asyncio.to_thread(write), reading)
        return reading.result()

    return asyncio.run(asyncio.wait_for(main(), 30)), shown.bytes


@pytest.mark.parametrize(
    "pieces",
    [[], [b"x"], [CONTENT], [bytes([n]) for n in range(200)], [CONTENT[:70_000], b"", b"y"]],
    ids=["nothing", "a byte", "much", "bytes", "some"],
)
@pytest.mark.parametrize("kind", ["pipe", "pipe that does not wait", "fifo"])
def test_a_stream_is_read_to_its_end(tmp_path: Path, kind: str, pieces: list[bytes]) -> None:
    expected = b"".join(pieces)
    if kind == "fifo":
        os.mkfifo(tmp_path / "fifo")
        with open_source(str(tmp_path / "fifo")) as file:
            assert size_of(file) is None
            writing = os.open(tmp_path / "fifo", os.O_WRONLY)
            assert read_while(file, writing, pieces) == (expected, len(expected))
        return
    reading, writing = os.pipe()
    os.set_blocking(reading, kind == "pipe")
    with open(reading, "rb", buffering=0) as file:
        assert read_while(file, writing, pieces) == (expected, len(expected))


def test_a_socket_is_a_stream() -> None:
    ours, theirs = socket.socketpair()
    with closing(ours), open(ours.detach(), "rb", buffering=0) as file:
        assert size_of(file) is None
        assert read_while(file, theirs.detach(), [CONTENT])[0] == CONTENT


def test_files_never_wait(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    shown = Shown()
    with open_source(str(tmp_path / "file")) as file:
        assert size_of(file) == len(CONTENT)
        source = content_of(file, shown)
        assert isinstance(source, Counted)
        assert b"".join(iter(lambda: source.read(1 << 20), b"")) == CONTENT
    assert shown.bytes == len(CONTENT)
    with open_source("/dev/zero") as file:
        assert isinstance(content_of(file, shown), Counted)


def test_waiting_is_given_up_when_cancelled(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    async def main() -> None:
        with open_source(str(tmp_path / "fifo")) as file:
            reading = asyncio.ensure_future(collect(content_of(file, Shown())))
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            # Nothing is left behind that would wake up later.
            assert not asyncio.get_running_loop().remove_reader(file.fileno())

    asyncio.run(main())


def test_what_cannot_be_read_is_told_before_anything_else(tmp_path: Path) -> None:
    for kind in ("file", "directory"):
        (tmp_path / kind).touch() if kind == "file" else (tmp_path / kind).mkdir()
        check_source(str(tmp_path / kind))
    check_source("-")
    (tmp_path / "dangling").symlink_to("nowhere")
    for missing in ("missing", "dangling", "file/below"):
        with pytest.raises(OSError, match=r"No such file|Not a directory"):
            check_source(str(tmp_path / missing))


def test_to_look_at_a_pipe_breaks_it_for_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with open_source(str(tmp_path / "fifo")) as file:
        writing = os.open(tmp_path / "fifo", os.O_WRONLY)
        check_source(str(tmp_path / "fifo"))
        assert read_while(file, writing, [b"x"]) == (b"x", 1)
