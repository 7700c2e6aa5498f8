"""Pumps between the codec and a store: a window of requests in flight, in reading order.

The codec says which blocks it made or wants; the store brings them. A pump keeps up to `window`
requests going, awaits them oldest first, and so needs memory for the window only. Content that is
read from a file is read and encrypted in a worker thread, some steps ahead of the sending.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
)
from contextlib import aclosing
from typing import BinaryIO, Final, NamedTuple, Protocol

from eris import node
from eris.ahead import run_ahead
from eris.capability import ReadCapability
from eris.crypto import Buffer
from eris.decode import Decoder
from eris.encode import Encoder
from eris.errors import BlockNotFound, ContentError, CorruptBlock, ErisError
from eris.lacking import Kept, Lacking
from eris.model import (
    NULL_CONVERGENCE_SECRET,
    SMALL_CONTENT_LIMIT,
    BlockSize,
    ConvergenceSecret,
    EncodedBlock,
    Hole,
    Reference,
    choose_block_size,
)
from eris.put_window import PutWindow, check_window
from eris.sizing import content_size
from eris.store import BlockFinder, BlockReader, BlockWriter
from eris.threads import in_thread, withdraw

__all__ = [
    "DEFAULT_WINDOW",
    "CheckedBlock",
    "Kept",
    "PutWindow",
    "Source",
    "SparseReader",
    "check_content",
    "content_length",
    "get_content",
    "put_content",
    "read_content",
    "stream_content",
]

DEFAULT_WINDOW: Final = 256
"""Requests in flight, and at least half as many. At 32 KiB blocks that half is 4 MiB, enough for
100 ms at 320 Mbit/s."""

# How much is read and encrypted in one step: some milliseconds of work, and far more than a thread
# switch costs.
_STEP: Final = 1024 * 1024
_AHEAD: Final = 4


class SparseReader(Protocol):
    """A file whose holes need not be read."""

    def read(self, size: int, /) -> bytes | Hole:
        """Read the next bytes, up to `size`, or pass a hole, of any length; nothing at the end."""


Source = Buffer | BinaryIO | SparseReader | AsyncIterable[bytes]
"""What content can be encoded from."""

content_length = content_size
"""The name that it had first."""


class CheckedBlock(NamedTuple):
    """One block of a content that was checked, and what is wrong with it, if anything."""

    reference: Reference
    error: BlockNotFound | ContentError | None


async def put_content(
    store: BlockWriter,
    source: Source,
    *,
    block_size: BlockSize | None = None,
    convergence_secret: ConvergenceSecret = NULL_CONVERGENCE_SECRET,
    window: int = DEFAULT_WINDOW,
    finder: BlockFinder | None = None,
    kept: Kept | None = None,
) -> ReadCapability:
    """Encode content into a store; returns its read capability when all blocks are kept.

    `source` is bytes, a binary file object or a reader of sparse files (read from where it stands,
    in a worker thread), or an asynchronous iterable of bytes. Without `block_size` the size follows
    from the length: 1 KiB for content below 16 KiB, else 32 KiB. With a `finder`, mostly the store
    itself, blocks that it says are there are not put: so an upload that broke off goes on, and a
    second one sends next to nothing. One that cannot tell costs a question. `kept` is told how much
    the store has, as it confirms it: bytes of content, but for padding and holes.
    Raises: StoreError; whatever reading the source raises.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        # Small content is not worth a thread switch.
        view = memoryview(source).cast("B")
        encoder = Encoder(block_size or choose_block_size(len(view)), convergence_secret)
        async with (
            PutWindow(store, window, kept) as puts,
            Lacking(finder, puts.add, kept) as lacking,
        ):
            for start in range(0, len(view), _STEP):
                await lacking.add(encoder.feed(view[start : start + _STEP]))
            await lacking.finish(encoder.finish())
        return encoder.read_capability
    pieces = _Pieces(source)
    head = await pieces.read_head()
    length = sum(map(_length, head))
    encoder = Encoder(block_size or choose_block_size(length), convergence_secret)
    # A store answers by the commit: so there is always something to send when it has answered, and
    # something to encode while it has not.
    steps = _encoded(encoder, pieces, head)
    async with (
        PutWindow(store, window, kept) as puts,
        Lacking(finder, puts.add, kept) as lacking,
        run_ahead(steps, _AHEAD) as next_step,
    ):
        while (blocks := await next_step()) is not None:
            await lacking.add(blocks)
        await lacking.finish(encoder.finish())
    return encoder.read_capability


async def get_content(
    store: BlockReader, capability: ReadCapability, *, window: int = DEFAULT_WINDOW
) -> bytes:
    """Decode a whole content into memory.

    Raises: BlockNotFound, ContentError, StoreError.
    """
    async with aclosing(stream_content(store, capability, window=window)) as pieces:
        return b"".join([piece async for piece in pieces])


async def read_content(
    store: BlockReader,
    capability: ReadCapability,
    offset: int,
    length: int,
    *,
    window: int = DEFAULT_WINDOW,
) -> bytes:
    """Read up to `length` bytes from `offset`, fetching only the blocks on the way.

    Shorter where the content ends.
    Raises: BlockNotFound, ContentError, StoreError.
    """
    pieces = stream_content(store, capability, start=offset, stop=offset + length, window=window)
    async with aclosing(pieces):
        return b"".join([piece async for piece in pieces])


async def stream_content(
    store: BlockReader,
    capability: ReadCapability,
    *,
    start: int = 0,
    stop: int | None = None,
    window: int = DEFAULT_WINDOW,
) -> AsyncGenerator[bytes, None]:
    """Decode content piece by piece, in order, from byte `start` up to `stop`.

    Close the iterator (`contextlib.aclosing`) if it is not read to its end.
    Raises: BlockNotFound with the position of the block, ContentError, StoreError.
    """
    check_window(window)
    decoder = Decoder(capability, start=start, stop=stop, lookahead=window)
    in_flight: deque[asyncio.Future[bytes]] = deque()
    received = 0
    try:
        while True:
            _fill(in_flight, decoder, store, window)
            if not in_flight:
                return
            # Awaited where it stands, so that an interruption finds it in the queue.
            block = await in_flight[0]
            in_flight.popleft()
            content = decoder.receive(block)
            received += 1
            if content:
                yield content
    except BlockNotFound as error:
        total = await _count_blocks(store, capability)
        raise BlockNotFound(error.reference, position=received + 1, total=total) from error
    finally:
        withdraw(in_flight)


async def check_content(
    store: BlockReader, capability: ReadCapability, *, window: int = DEFAULT_WINDOW
) -> AsyncGenerator[CheckedBlock, None]:
    """Check every block of a content that can be found, and go on after what is missing or bad.

    Blocks under a missing or bad internal node are not known and not reported.
    Raises: StoreError.
    """
    check_window(window)
    decoder = Decoder(capability, lookahead=window)
    in_flight: deque[asyncio.Future[bytes]] = deque()
    asked: deque[Reference] = deque()
    try:
        while True:
            asked.extend(_fill(in_flight, decoder, store, window))
            if not in_flight:
                return
            reference = asked.popleft()
            failure: BlockNotFound | ContentError | None = None
            try:
                block = await in_flight[0]
            except (BlockNotFound, CorruptBlock) as error:
                decoder.skip()
                failure = error
            else:
                try:
                    decoder.receive(block)
                except ContentError as error:
                    failure = error
            in_flight.popleft()
            yield CheckedBlock(reference, failure)
    finally:
        withdraw(in_flight)


async def _count_blocks(store: BlockReader, capability: ReadCapability) -> int | None:
    try:
        length = await content_size(store, capability)
    except ErisError:
        return None
    return node.block_count(length, capability.block_size)


def _fill(
    in_flight: deque[asyncio.Future[bytes]], decoder: Decoder, store: BlockReader, window: int
) -> list[Reference]:
    """Ask for more once half the window is free: asking in runs is cheaper than one by one.

    What is wanted several times in a row, as leaves of zeros are, is asked for once.
    """
    if len(in_flight) > window // 2:
        return []
    wanted = decoder.wanted(window - len(in_flight))
    before: Reference | None = None
    for reference in wanted:
        if reference == before:
            in_flight.append(in_flight[-1])
        else:
            in_flight.append(asyncio.ensure_future(store.get(reference, decoder.block_size)))
        before = reference
    return wanted


async def _encoded(
    encoder: Encoder, pieces: _Pieces, head: list[bytes | Hole]
) -> AsyncGenerator[list[EncodedBlock], None]:
    """Encode step by step, all but what `Encoder.finish` gives."""
    for piece in head:
        yield await in_thread(encoder.feed, piece)
    while not pieces.ended:
        yield await pieces.next(encoder)


class _Pieces:
    """Reads a file object or an asynchronous iterable in steps."""

    def __init__(self, source: BinaryIO | SparseReader | AsyncIterable[bytes]) -> None:
        self.ended = False
        self._file: SparseReader | None = None
        if not isinstance(source, AsyncIterable):
            self._file = source
        else:
            self._items = aiter(source)

    async def read_head(self) -> list[bytes | Hole]:
        """Read enough to know whether the content is small; in one piece, if nothing is a hole."""
        head: list[bytes | Hole] = []
        length = 0
        while length < SMALL_CONTENT_LIMIT and not self.ended:
            piece = await self._read()
            length += _length(piece)
            if head and not isinstance(piece, Hole) and not isinstance(head[-1], Hole):
                head[-1] += piece
            else:
                head.append(piece)
        return head

    async def next(self, encoder: Encoder) -> list[EncodedBlock]:
        """Read one step and feed it."""
        if self._file is not None:
            return await in_thread(self._read_and_feed, encoder)
        piece = await self._read()
        return await in_thread(encoder.feed, piece)

    async def _read(self) -> bytes | Hole:
        if self._file is not None:
            return await in_thread(self._read_file, self._file)
        try:
            return await anext(self._items)
        except StopAsyncIteration:
            self.ended = True
            return b""

    def _read_file(self, file: SparseReader) -> bytes | Hole:
        piece: bytes | Hole | None = file.read(_STEP)
        if piece is None:
            raise BlockingIOError("the source has nothing to read yet and does not wait for more")
        # A raw or interactive stream gives what it has; only nothing is the end.
        self.ended = not piece
        return piece

    def _read_and_feed(self, encoder: Encoder) -> list[EncodedBlock]:
        assert self._file is not None
        return encoder.feed(self._read_file(self._file))


def _length(piece: bytes | Hole) -> int:
    return int(piece) if isinstance(piece, Hole) else len(piece)
