"""Where content to encode comes from: a file, or a stream that may keep us waiting.

A worker thread that waits in a read cannot be interrupted. So pipes, terminals and sockets are only
read when there is something to read, and Ctrl-C works meanwhile; regular files never wait.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

from kapla.cli.common import Counted, Progress

__all__ = ["check_source", "content_of", "open_source", "size_of"]

# Gathered from a stream before it is handed on, if it is there at once: as much as is read from a
# file in one step.
_STEP: Final = 1024 * 1024
# A pipe holds this much, unless told otherwise.
_READ_SIZE: Final = 64 * 1024


def check_source(path: str) -> None:
    """See whether there is something to encode that can be read, before any store is asked.

    Pipes are left alone: who writes into one would be told that its reader has gone.
    Raises: OSError.
    """
    mode = 0 if path == "-" else os.stat(path).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))


@contextmanager
def open_source(path: str) -> Iterator[BinaryIO]:
    """Open a file to be encoded, or a bundle.

    Raises: OSError.
    """
    # O_NONBLOCK: opening a named pipe does not wait for its other end.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    with open(descriptor, "rb", buffering=0) as file:
        yield file


def size_of(file: BinaryIO) -> int | None:
    """How many bytes there are; None where nobody can tell."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def content_of(file: BinaryIO, shown: Progress) -> BinaryIO | AsyncIterator[bytes]:
    """What an encoder reads, telling a progress display how far it got."""
    mode = os.fstat(file.fileno()).st_mode
    # A terminal is a character device; others, as /dev/zero, always have something.
    waits = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(file.fileno())
    return _stream(file.fileno(), shown) if waits else Counted.wrap(file, shown)


async def _stream(descriptor: int, shown: Progress) -> AsyncIterator[bytes]:
    while piece := await _gather(descriptor):
        shown.advance(len(piece))
        yield piece


async def _gather(descriptor: int) -> bytes:
    """Wait for something to read and take what is there; nothing at the end."""
    pieces: list[bytes] = []
    size = 0
    await _readable(descriptor)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while size < _STEP and (not pieces or poll.poll(0)):
        try:
            piece = os.read(descriptor, _READ_SIZE)
        except BlockingIOError:  # somebody else was faster
            if pieces:
                break
            await _readable(descriptor)
            continue
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
