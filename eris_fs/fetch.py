"""The contents of many files, one after the other, out of one window of requests.

The files of a tree are read as if they were one long content: requests go out for the first file,
then for those after it, as long as the window has room, and answers are taken in the order of the
requests. So a thousand files of one block each cost no more round trips than one file of a thousand
blocks, without a task for every file. What arrives for a file whose turn has not come waits; how
much may wait is bounded, and only the file whose turn it is may always ask.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from typing import Final, NamedTuple

from eris.capability import ReadCapability
from eris.decode import Decoder
from eris.errors import BlockNotFound, ContentError
from eris.store import BlockReader
from eris_fs.model import Path, show_path

__all__ = ["DEFAULT_BUFFER", "DEFAULT_WINDOW", "FilePiece", "fetch_files"]

DEFAULT_WINDOW: Final = 2048
"""Requests in flight: files of one 1 KiB block, the most common ones, need many. This is 100 ms at
160 Mbit/s of them."""

DEFAULT_BUFFER: Final = 8 * 1024 * 1024
"""Bytes that may be asked for at a time, and that may wait ahead of their turn: few requests for
blocks of 32 KiB reach it."""


class FilePiece(NamedTuple):
    """The next bytes of a file, maybe none, and whether they are its last."""

    path: Path
    content: bytes
    last: bool


class _File:
    """A file being fetched: its decoder, and what arrived before its turn."""

    __slots__ = ("block_size", "decoder", "is_leaf", "path", "waiting")

    def __init__(self, path: Path, capability: ReadCapability, lookahead: int) -> None:
        self.path = path
        self.decoder = Decoder(capability, lookahead=lookahead)
        self.block_size = int(capability.block_size)
        self.is_leaf = capability.level == 0
        self.waiting: list[bytes] = []


async def fetch_files(
    store: BlockReader,
    files: Iterable[tuple[Path, ReadCapability]],
    *,
    window: int = DEFAULT_WINDOW,
    buffer: int = DEFAULT_BUFFER,
) -> AsyncGenerator[FilePiece, None]:
    """Decode files piece by piece, each whole before the next, in the order given.

    Close the iterator (`contextlib.aclosing`) if it is not read to its end.
    Raises: BlockNotFound and ContentError, with a note that names the file; StoreError.
    """
    fetcher = _Fetcher(store, files, window, buffer)
    try:
        while pieces := await fetcher.step():
            for piece in pieces:
                yield piece
    finally:
        fetcher.close()


class _Fetcher:
    """What `fetch_files` knows between two pieces."""

    def __init__(
        self,
        store: BlockReader,
        files: Iterable[tuple[Path, ReadCapability]],
        window: int,
        buffer: int,
    ) -> None:
        self._store = store
        self._coming = iter(files)
        self._window = window
        self._buffer = buffer
        # The first of these is the file whose turn it is.
        self._active: deque[_File] = deque()
        self._in_flight: deque[tuple[_File, asyncio.Future[bytes]]] = deque()
        # Bytes asked for, and bytes that wait for their turn.
        self._asked = 0
        self._waiting = 0

    async def step(self) -> list[FilePiece]:
        """Take answers until some content is next in order; none when all is done."""
        while True:
            self._fill()
            if not self._in_flight:
                return []
            # Awaited where it stands, so that an interruption finds it in the queue.
            file, future = self._in_flight[0]
            try:
                content = file.decoder.receive(await future)
            except (BlockNotFound, ContentError) as error:
                error.add_note(f"while reading {show_path(file.path)}")
                raise
            self._in_flight.popleft()
            self._asked -= file.block_size
            if content:
                file.waiting.append(content)
                self._waiting += len(content)
            if file is self._active[0] and (pieces := self._take_turns()):
                return pieces

    def close(self) -> None:
        """Withdraw what is still asked for."""
        for _, future in self._in_flight:
            if not future.cancel() and not future.cancelled():
                # Already failed: look at the exception, or asyncio complains that nobody did.
                future.exception()
        self._in_flight.clear()

    def _take_turns(self) -> list[FilePiece]:
        """Hand out what arrived for the file whose turn it is, and for those that follow."""
        pieces = []
        while self._active:
            file = self._active[0]
            content = b"".join(file.waiting)
            file.waiting.clear()
            self._waiting -= len(content)
            done = file.decoder.done
            if content or done:
                pieces.append(FilePiece(file.path, content, done))
            if not done:
                break
            self._active.popleft()
        return pieces

    def _fill(self) -> None:
        """Ask for more once half the window is free: asking in runs is cheaper than one by one."""
        if len(self._in_flight) > self._window // 2 or self._asked > self._buffer // 2:
            return
        for file in self._active:
            # A file of one block was asked for whole when it was opened.
            if not file.is_leaf:
                self._ask(file)
        # Empty files take no buffer, and so are counted too.
        while len(self._active) < self._window * 4 and self._may_open():
            coming = next(self._coming, None)
            if coming is None:
                break
            self._active.append(_File(*coming, self._window))
            self._ask(self._active[-1])

    def _may_open(self) -> bool:
        if len(self._in_flight) >= self._window:
            return False
        return not self._active or self._asked + self._waiting < self._buffer

    def _ask(self, file: _File) -> None:
        # What waits for its turn must not keep the file whose turn it is from asking.
        waiting = 0 if file is self._active[0] else self._waiting
        space = self._buffer - self._asked - waiting
        room = min(self._window - len(self._in_flight), -(-space // file.block_size))
        block_size = file.decoder.block_size
        for reference in file.decoder.wanted(room) if room > 0 else ():
            awaitable = self._store.get(reference, block_size)
            self._in_flight.append((file, asyncio.ensure_future(awaitable)))
            self._asked += file.block_size
