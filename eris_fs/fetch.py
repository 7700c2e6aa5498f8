"""The contents of many files, one after the other, out of one window of requests.

The files of a tree are read as if they were one long content: requests go out for the first file,
then for those after it, as long as the window has room. So a thousand files of one block each cost
no more round trips than one file of a thousand blocks, without a task for every file.

Each file goes on by itself when its oldest request is answered, and asks for what it then knows of,
whether its turn has come or not: where some blocks are near and others far, those that are far are
asked for early. What arrives for a file whose turn has not come waits. So files are begun only as
far as what they will need fits in a buffer, and where not all can ask at once, those in front come
first: blocks of later files would else fill the buffer, or the window, and files in front of them
would have to go on one by one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from heapq import heappop, heappush
from typing import Final, NamedTuple

from eris.capability import ReadCapability
from eris.decode import Decoder
from eris.errors import BlockNotFound, ContentError, StoreUnavailable
from eris.model import BlockSize, Reference
from eris.store import BlockReader
from eris.threads import withdraw
from eris_fs.model import Path, show_path

__all__ = ["DEFAULT_BUFFER", "DEFAULT_WINDOW", "FilePiece", "fetch_files"]

DEFAULT_WINDOW: Final = 2048
"""Requests in flight: files of one 1 KiB block, the most common ones, need many. This is 100 ms at
160 Mbit/s of them."""

DEFAULT_BUFFER: Final = 8 * 1024 * 1024
"""Bytes that may be asked for at a time, or be needed by all files that were begun. What a file
needs is not known at first, so up to three times as much may wait."""

# Blocks that a file of two levels is taken to need until its first node tells; one of more levels
# needs as many times more, but whatever is beyond the buffer is the same.
_GUESS: Final = 4
_HIGHEST: Final = 4

# One part in so many of the window, and of the buffer, has to be free before more is asked for:
# asking in runs is cheaper than one by one.
_RUN: Final = 8

# Given out in one piece at most; a block may be more.
_PIECE: Final = 1024 * 1024


class FilePiece(NamedTuple):
    """The next bytes of a file, maybe none, and whether they are its last."""

    path: Path
    content: bytes
    last: bool


class _File:
    """A file being fetched: its decoder, its requests in order, and what waits for its turn."""

    __slots__ = (
        "asked",
        "block_size",
        "decoder",
        "error",
        "held",
        "is_new",
        "is_shallow",
        "is_short",
        "need",
        "number",
        "path",
        "waiting",
    )

    def __init__(self, number: int, path: Path, capability: ReadCapability, lookahead: int) -> None:
        self.number = number
        self.path = path
        self.decoder = Decoder(capability, lookahead=lookahead)
        self.block_size = int(capability.block_size)
        self.asked: deque[asyncio.Future[bytes]] = deque()
        self.waiting: list[bytes] = []
        self.held = 0
        """Bytes that wait."""
        above = min(capability.level - 1, _HIGHEST)
        blocks = _GUESS * capability.block_size.arity**above if capability.level else 1
        self.need = self.block_size * blocks
        """Bytes that wait, are asked for, or are known to be wanted."""
        self.is_short = False
        """Whether it would have asked for more if there had been room."""
        self.is_shallow = False
        """Whether it has internal nodes to ask for when the buffer has room for what they name."""
        self.is_new = True
        """Whether it has asked for nothing so far."""
        self.error: BaseException | None = None
        """Why nothing more will come of this file."""


async def fetch_files(
    store: BlockReader,
    files: Iterable[tuple[Path, ReadCapability]],
    *,
    window: int = DEFAULT_WINDOW,
    buffer: int = DEFAULT_BUFFER,
) -> AsyncGenerator[FilePiece, None]:
    """Decode files piece by piece, each whole before the next, in the order given.

    Close the iterator (`contextlib.aclosing`) if it is not read to its end.
    Raises: BlockNotFound and ContentError, with a note that names the file; StoreError; whatever
    `files` raises, after the files before it; ValueError for a window or a buffer below 1.
    """
    if window < 1 or buffer < 1:
        raise ValueError(f"{window} requests in flight, {buffer} bytes: that moves nothing")
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
        self._coming: Iterator[tuple[Path, ReadCapability]] | None = iter(files)
        # Why no more files can be had: to be told after those that could.
        self._failure: BaseException | None = None
        self._window = window
        self._buffer = buffer
        # The first of these is the file whose turn it is.
        self._active: deque[_File] = deque()
        self._begun = 0
        # The files that are short, the first of them on top, and those that are shallow.
        self._short: list[tuple[int, _File]] = []
        self._shallow: list[_File] = []
        # Requests not answered, their bytes, and bytes that wait for their turn.
        self._in_flight = 0
        self._asked = 0
        self._waiting = 0
        self._needed = 0
        self._wake: asyncio.Future[None] | None = None
        self._closed = False

    async def step(self) -> list[FilePiece]:
        """Wait until some content is next in order; none when all is done."""
        while True:
            self._fill()
            if not self._active:
                if self._failure is not None:
                    raise self._failure
                return []
            if pieces := self._take_turns():
                # What was taken left room, and it takes a while until all of it is used.
                self._fill()
                return pieces
            first = self._active[0]
            if first.error is not None:
                raise first.error
            if not first.asked:
                self._ask(first)
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None

    def close(self) -> None:
        """Withdraw what is still asked for."""
        self._closed = True
        for file in self._active:
            self._withdraw(file)

    def _take_turns(self) -> list[FilePiece]:
        """Hand out what arrived for the file whose turn it is, and for those that follow."""
        pieces = []
        while self._active:
            file = self._active[0]
            done = file.decoder.done and file.error is None
            step = max(1, _PIECE // file.block_size)
            while len(file.waiting) > step:
                pieces.append(FilePiece(file.path, b"".join(file.waiting[:step]), False))
                del file.waiting[:step]
            if file.waiting or done:
                pieces.append(FilePiece(file.path, b"".join(file.waiting), done))
            file.waiting.clear()
            self._waiting -= file.held
            file.held = 0
            self._count(file)
            if not done:
                break
            self._active.popleft()
        return pieces

    def _fill(self) -> None:
        """Ask for more if there is room: for the files in front, and then for others behind."""
        if not self._may_fill():
            return
        if self._needed < self._buffer:
            for file in self._shallow:
                file.is_shallow = False
                self._note_short(file)
            self._shallow.clear()
        while self._short:
            _, file = heappop(self._short)
            file.is_short = False
            self._ask(file)
            if file.is_short:
                return
        # Empty files take no buffer, and so are counted too.
        while len(self._active) < self._window * 4 and self._may_open():
            begun = self._next_file()
            if begun is None:
                break
            self._active.append(begun)
            self._ask(begun)

    def _next_file(self) -> _File | None:
        """Begin the next file, if there is one."""
        coming = None
        try:
            if self._coming is not None:
                coming = next(self._coming, None)
        except BaseException as error:
            self._failure = error
        if coming is None:
            self._coming = None
            return None
        file = _File(self._begun, *coming, self._window)
        self._begun += 1
        self._needed += file.need
        return file

    def _may_fill(self) -> bool:
        return (
            self._in_flight <= self._window - self._window // _RUN
            and self._asked <= self._buffer - self._buffer // _RUN
        )

    def _may_open(self) -> bool:
        if self._in_flight >= self._window:
            return False
        return not self._active or self._needed < self._buffer

    def _count(self, file: _File) -> None:
        """Correct what a file needs by what is now known of it."""
        blocks = 0 if file.error else len(file.asked) + file.decoder.known
        need = file.held + blocks * file.block_size
        self._needed += need - file.need
        file.need = need

    def _ask(self, file: _File) -> None:
        if file.error is not None or file.decoder.done:
            return
        is_first = file is self._active[0]
        # What waits for its turn must not keep the file whose turn it is from asking.
        held = file.held if is_first else max(0, self._waiting - self._buffer)
        space = self._buffer - self._asked - held
        room = min(self._window - self._in_flight, -(-space // file.block_size))
        if is_first and not file.asked and not file.held:
            # Whatever the others have asked for, this one goes on.
            room = max(room, 1)
        if room <= 0:
            self._note_short(file)
            return
        # An internal node makes more known, and so needed. The root is counted in from the first.
        leaves_only = self._needed >= self._buffer and not (is_first or file.is_new)
        wanted = file.decoder.wanted(room, leaves_only=leaves_only)
        file.is_new = False
        if len(wanted) == room:
            self._note_short(file)
        elif leaves_only and file.decoder.known and not file.is_shallow:
            file.is_shallow = True
            self._shallow.append(file)
        if not wanted:
            return
        is_idle = not file.asked
        block_size = file.decoder.block_size
        before: Reference | None = None
        for reference in wanted:
            # Leaves of zeros come many in a row.
            again = reference == before
            file.asked.append(file.asked[-1] if again else self._get(reference, block_size))
            before = reference
        self._in_flight += len(wanted)
        self._asked += len(wanted) * file.block_size
        if is_idle:
            self._watch(file)

    def _get(self, reference: Reference, block_size: BlockSize) -> asyncio.Future[bytes]:
        try:
            return asyncio.ensure_future(self._store.get(reference, block_size))
        except BaseException as error:
            # Told in its turn: from here it might reach nobody but the event loop.
            return asyncio.ensure_future(_failing(error))

    def _note_short(self, file: _File) -> None:
        if not file.is_short:
            file.is_short = True
            heappush(self._short, (file.number, file))

    def _watch(self, file: _File) -> None:
        """Go on with a file when its oldest request is answered."""
        file.asked[0].add_done_callback(lambda _: self._go_on(file))

    def _go_on(self, file: _File) -> None:
        """Take the answers that are there, in order, and ask for what they name."""
        if self._closed or file.error is not None:
            return
        self._take_answers(file)
        self._count(file)
        if file.asked:
            self._watch(file)
        is_first = file is self._active[0]
        if is_first or not self._short:
            self._ask(file)
        else:
            self._note_short(file)
        self._fill()
        if is_first and self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _take_answers(self, file: _File) -> None:
        while file.asked and file.asked[0].done():
            future = file.asked.popleft()
            self._in_flight -= 1
            self._asked -= file.block_size
            try:
                content = file.decoder.receive(future.result())
            except asyncio.CancelledError:
                self._fail(file, StoreUnavailable("the store gave up a request"))
                break
            except BaseException as error:
                # Of whatever kind: the event loop would tell nobody who waits.
                self._fail(file, error)
                break
            if content:
                file.waiting.append(content)
                file.held += len(content)
                self._waiting += len(content)

    def _fail(self, file: _File, error: BaseException) -> None:
        if isinstance(error, BlockNotFound | ContentError):
            error.add_note(f"while reading {show_path(file.path)}")
        file.error = error
        self._withdraw(file)
        # Nothing of what stands behind it can ever be given out.
        self._coming = None
        while self._active[-1] is not file:
            self._drop(self._active.pop(), error)

    def _drop(self, file: _File, error: BaseException) -> None:
        """Give up a file that will not have its turn."""
        file.error = error
        self._withdraw(file)
        file.waiting.clear()
        self._waiting -= file.held
        file.held = 0
        self._count(file)

    def _withdraw(self, file: _File) -> None:
        self._in_flight -= len(file.asked)
        self._asked -= len(file.asked) * file.block_size
        withdraw(file.asked)
        file.asked.clear()


async def _failing(error: BaseException) -> bytes:
    raise error
