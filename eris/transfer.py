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
    Awaitable,
    Iterable,
)
from contextlib import aclosing
from types import TracebackType
from typing import BinaryIO, Final, NamedTuple, Self, cast

from eris import node
from eris.ahead import run_ahead
from eris.capability import ReadCapability
from eris.crypto import Buffer
from eris.decode import Decoder
from eris.encode import Encoder
from eris.errors import BlockNotFound, ContentError, CorruptBlock, ErisError
from eris.lacking import Lacking
from eris.model import (
    NULL_CONVERGENCE_SECRET,
    SMALL_CONTENT_LIMIT,
    BlockSize,
    ConvergenceSecret,
    EncodedBlock,
    Reference,
    choose_block_size,
)
from eris.sizing import content_size
from eris.store import BlockFinder, BlockReader, BlockWriter
from eris.threads import in_thread, withdraw

__all__ = [
    "DEFAULT_WINDOW",
    "CheckedBlock",
    "PutWindow",
    "Source",
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

# Bytes of puts in flight.
_PUT_BUFFER: Final = 8 * 1024 * 1024

# How much is read and encrypted in one step: some milliseconds of work, and far more than a thread
# switch costs.
_STEP: Final = 1024 * 1024
_AHEAD: Final = 4

Source = Buffer | BinaryIO | AsyncIterable[bytes]
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
) -> ReadCapability:
    """Encode content into a store; returns its read capability when all blocks are kept.

    `source` is bytes, a binary file object (read from where it stands, in a worker thread), or an
    asynchronous iterable of bytes. Without `block_size` the size follows from the length: 1 KiB
    for content below 16 KiB, else 32 KiB. With a `finder`, mostly the store itself, blocks that it
    says are there are not put: so an upload that broke off goes on, and a second one sends next to
    nothing. One that cannot tell costs a question.
    Raises: StoreError; whatever reading the source raises.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        # Small content is not worth a thread switch.
        view = memoryview(source).cast("B")
        encoder = Encoder(block_size or choose_block_size(len(view)), convergence_secret)
        async with PutWindow(store, window) as puts, Lacking(finder, puts.add) as lacking:
            for start in range(0, len(view), _STEP):
                await lacking.add(encoder.feed(view[start : start + _STEP]))
            await lacking.finish(encoder.finish())
        return encoder.read_capability
    pieces = _Pieces(source)
    head = await pieces.read_head()
    encoder = Encoder(block_size or choose_block_size(len(head)), convergence_secret)
    # A store answers by the commit: so there is always something to send when it has answered, and
    # something to encode while it has not.
    steps = _encoded(encoder, pieces, head)
    async with (
        PutWindow(store, window) as puts,
        Lacking(finder, puts.add) as lacking,
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
    _check_window(window)
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
    _check_window(window)
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


def _check_window(window: int) -> None:
    if window < 1:
        raise ValueError(f"a window of {window} requests in flight moves nothing")


def _fill(
    in_flight: deque[asyncio.Future[bytes]], decoder: Decoder, store: BlockReader, window: int
) -> list[Reference]:
    """Ask for more once half the window is free: asking in runs is cheaper than one by one."""
    if len(in_flight) > window // 2:
        return []
    wanted = decoder.wanted(window - len(in_flight))
    for reference in wanted:
        in_flight.append(asyncio.ensure_future(store.get(reference, decoder.block_size)))
    return wanted


class PutWindow:
    """Puts in flight; leaving the context waits for all, or withdraws them after an error.

    At most `window` of them, and at most 8 MiB.
    """

    def __init__(self, store: BlockWriter, window: int) -> None:
        _check_window(window)
        self._store = store
        self._window = window
        self._in_flight: deque[asyncio.Future[None]] = deque()
        self._sizes: deque[int] = deque()
        self._size = 0

    async def add(self, blocks: Iterable[EncodedBlock]) -> None:
        """Send blocks, waiting for room; one caller at a time."""
        in_flight, put = self._in_flight, self._store.put
        for reference, block in blocks:
            while len(in_flight) >= self._window or self._size >= _PUT_BUFFER:
                await in_flight[0]
                in_flight.popleft()
                self._size -= self._sizes.popleft()
            awaitable: Awaitable[None] = put(reference, block)
            in_flight.append(asyncio.ensure_future(awaitable))
            self._sizes.append(len(block))
            self._size += len(block)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            while kind is None and self._in_flight:
                await self._in_flight[0]
                self._in_flight.popleft()
        finally:
            withdraw(self._in_flight)


async def _encoded(
    encoder: Encoder, pieces: _Pieces, head: bytes
) -> AsyncGenerator[list[EncodedBlock], None]:
    """Encode step by step, all but what `Encoder.finish` gives."""
    yield await in_thread(encoder.feed, head)
    while not pieces.ended:
        yield await pieces.next(encoder)


class _Pieces:
    """Reads a file object or an asynchronous iterable in steps."""

    def __init__(self, source: BinaryIO | AsyncIterable[bytes]) -> None:
        self.ended = False
        self._file: BinaryIO | None = None
        if hasattr(source, "read"):
            self._file = cast(BinaryIO, source)
        else:
            self._items = aiter(source)

    async def read_head(self) -> bytes:
        """Read enough to know whether the content is small."""
        head = b""
        while len(head) < SMALL_CONTENT_LIMIT and not self.ended:
            head += await self._read()
        return head

    async def next(self, encoder: Encoder) -> list[EncodedBlock]:
        """Read one step and feed it."""
        if self._file is not None:
            return await in_thread(self._read_and_feed, encoder)
        piece = await self._read()
        return await in_thread(encoder.feed, piece)

    async def _read(self) -> bytes:
        if self._file is not None:
            return await in_thread(self._read_file, self._file)
        try:
            return await anext(self._items)
        except StopAsyncIteration:
            self.ended = True
            return b""

    def _read_file(self, file: BinaryIO) -> bytes:
        piece: bytes | None = file.read(_STEP)
        if piece is None:
            raise BlockingIOError("the source has nothing to read yet and does not wait for more")
        # A raw or interactive stream gives what it has; only nothing is the end.
        self.ended = not piece
        return piece

    def _read_and_feed(self, encoder: Encoder) -> list[EncodedBlock]:
        assert self._file is not None
        return encoder.feed(self._read_file(self._file))
