"""What we ask on a connection: requests in flight, known by their tokens.

A request goes into the next piece of output, together with whatever else was asked in the same turn
of the event loop. Tokens count up and are never used twice on a connection, so the answer to a
request that nobody waits for any more cannot be taken for another's.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from eris.errors import CorruptBlock, ErisError, StoreUnavailable
from kapla.coap.blocks import BLOCK_SIZES, LENT_BEFORE_BLOCK, error_of_code
from kapla.coap.connection import is_request
from kapla.coap.frame import (
    Code,
    Frame,
    MalformedMessage,
    OptionNumber,
    format_header,
    format_message,
    parse_body,
)
from kapla.coap.link import Link
from kapla.coap.pace import Pace
from kapla.errors import StoreSilent

__all__ = ["SAID_AFTER_S", "Requester"]

T = TypeVar("T")

SAID_AFTER_S: Final = 3.0
"""Without an answer for so long, whoever wants to know is told whom we wait for."""
# How late that may be.
_STEP_S: Final = 1.0

# In the place of a block's size: whatever the answer is, its code and payload are the result. No
# payload has this length, nor does what stands between two others.
_ANY_ANSWER: Final = -2
# Likewise: a block of either size is the result, with whether it may be given on.
_ANY_BLOCK: Final = -3

# So many may wait, or so many bytes of them, before those that were cancelled are looked for, and
# then twice what is left: a question about a thousand blocks is as large as three hundred GETs.
_LEAST_FORGOTTEN: Final = 4096
_LEAST_FORGOTTEN_BYTES: Final = 1024 * 1024


class _Pending(NamedTuple):
    """A request that is not answered yet."""

    future: asyncio.Future[Any]
    reference: bytes
    size: int
    """The size of the block that is wanted; 0 for other requests; or one of those above."""
    weight: int
    """Bytes on the wire: those of the request, and of the block that is wanted."""
    make: Callable[[bytes, bool], Any] | None
    """What becomes of a block of either size, and of whether it may be given on."""


class Requester:
    """What is asked on one link. `window` requests at most are on the wire; more wait here.

    How many it is depends on their bytes, and on the link: see `Pace`.

    `timeout_s`: how long it may stay silent while an answer is owed; `greeting_timeout_s`: until
    its CSM is there, which costs it nothing. `on_wait` is called once, after 3 s of silence.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        window: int,
        timeout_s: float,
        *,
        greeting_timeout_s: float | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> None:
        self.usable = True
        self.name = name
        """Whom we ask, for messages."""
        self._link = link
        self._window = window
        self._timeout_s = timeout_s
        self._greeting_timeout_s = min(timeout_s, greeting_timeout_s or timeout_s)
        self._on_wait = on_wait
        self._loop = asyncio.get_running_loop()
        self._tokens = itertools.count()
        self._pace = Pace()
        # The request whose round trip is measured, and when it was sent.
        self._timed = b""
        self._timed_at = 0.0
        self._pending: dict[bytes, _Pending] = {}
        self._queue: deque[tuple[int, bytes, _Pending]] = deque()
        self._forget_at = _LEAST_FORGOTTEN
        # Bytes that began to wait since those were looked for, and that were left then.
        self._queued = 0
        self._forget_at_bytes = _LEAST_FORGOTTEN_BYTES
        self._output: list[bytes] = []
        self._flush_planned = False
        self._heard = self._made = self._loop.time()
        self._watch: asyncio.TimerHandle | None = None

    def request(self, code: int, body: bytes, reference: bytes, size: int) -> asyncio.Future[Any]:
        """Send a request; the future gets the payload of a good answer, or the error."""
        return self._request(code, body, reference, size, max(0, size))

    def want(
        self, body: bytes, reference: bytes, expected: int, make: Callable[[bytes, bool], T]
    ) -> asyncio.Future[T]:
        """Send a GET; the future gets what `make` makes of the block and of whether it is lent.

        The block is of either size, and not compared with its reference. `expected`: how many bytes
        it probably has.
        """
        return self._request(Code.GET, body, reference, _ANY_BLOCK, expected, make)

    def _request(
        self,
        code: int,
        body: bytes,
        reference: bytes,
        size: int,
        expected: int,
        make: Callable[[bytes, bool], Any] | None = None,
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self.usable:
            future.set_exception(StoreUnavailable(f"the connection to {self.name} is lost"))
            return future
        pending = _Pending(future, reference, size, expected + len(body), make)
        if not self._queue and self._may_send():
            self._send(code, body, pending)
        else:
            self._queue.append((code, body, pending))
            self._queued += len(body)
            if len(self._queue) > self._forget_at or self._queued > self._forget_at_bytes:
                self._forget_given_up()
        return future

    def ask(self, code: int, body: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Send a request; the future gets code and payload of whatever the answer is."""
        return self.request(code, body, b"", _ANY_ANSWER)

    @property
    def is_over(self) -> bool:
        """Whether the connection has ended, and nobody waits for anything on it."""
        return self._link.closed.done()

    @property
    def is_owed(self) -> bool:
        """Whether an answer is still to come."""
        return bool(self._pending)

    async def close(self) -> None:
        """Release the connection."""
        self.give_up()
        link = self._link
        if link.transport is None:
            return
        if not link.transport.is_closing():
            link.connection.release()
            link.write([link.connection.take_output()])
            link.hang_up()
        # Not awaited itself: whoever is cancelled meanwhile would cancel it for all.
        await asyncio.wait([link.closed])

    # what the link tells

    def made(self) -> None:
        """There is a connection."""
        self._made = self._loop.time()
        self._look()

    def take(self, frames: Sequence[Frame]) -> None:
        """Give every answer to whoever waits for it; then there may be room for more requests."""
        now = self._loop.time()
        for frame in frames:
            self._take(frame, now)
        if self._timed and self._timed not in self._pending:
            self._pace.learn(self._heard - self._timed_at)
            self._timed = b""
        if self._queue:
            self.send_queued()

    def send_queued(self) -> None:
        """Send what waits, as far as there is room."""
        connection = self._link.connection
        if connection.closing is not None or connection.released:
            return
        while self._queue and self._may_send():
            code, body, pending = self._queue.popleft()
            if not pending.future.done():  # cancelled while it waited
                self._send(code, body, pending)

    def wind_up(self) -> None:
        """After a Release: ask no more, but take the answers that are still to come."""
        self.usable = False
        while self._queue:
            future = self._queue.popleft()[2].future
            if not future.done():
                future.set_exception(StoreUnavailable(f"{self.name} is shutting down"))

    def give_up(self) -> None:
        """Nobody waits for anything any more."""
        self.fail(f"the connection to {self.name} was closed")

    def lost(self, error: Exception | None) -> None:
        """The connection has gone: fail whatever still waits."""
        if self._watch is not None:
            self._watch.cancel()
        reason = ""
        if error:
            reason = f": {getattr(error, 'strerror', None) or error}"
        self.fail(f"the connection to {self.name} is lost{reason}")

    def fail(self, reason: str, kind: type[StoreUnavailable] = StoreUnavailable) -> None:
        """Ask no more; whatever still waits gets this reason."""
        self.usable = False
        waiting = [*self._pending.values(), *(pending for _, _, pending in self._queue)]
        self._pending.clear()
        self._queue.clear()
        for pending in waiting:
            if not pending.future.done():
                pending.future.set_exception(kind(reason))

    # requests

    def _may_send(self) -> bool:
        return len(self._pending) < self._window and self._link.writable and self._pace.has_room

    def _send(self, code: int, body: bytes, pending: _Pending) -> None:
        if not self._pending:
            # Silence counts from when an answer is owed.
            self._heard = self._loop.time()
        token = next(self._tokens).to_bytes(4, "big")
        self._pending[token] = pending
        self._pace.under_way += pending.weight
        if not self._timed:
            self._timed, self._timed_at = token, self._loop.time()
        self._output.append(format_header(code, 4, len(body)))
        self._output.append(token)
        self._output.append(body)
        if not self._flush_planned:
            # At the end of this turn of the loop, with whatever else was asked in it.
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _forget_given_up(self) -> None:
        """Drop what was cancelled while it waited: a slow store may take long to come to it."""
        self._queue = deque(entry for entry in self._queue if not entry[2].future.done())
        self._forget_at = max(_LEAST_FORGOTTEN, 2 * len(self._queue))
        self._queued = sum(len(body) for _, body, _ in self._queue)
        self._forget_at_bytes = max(_LEAST_FORGOTTEN_BYTES, 2 * self._queued)

    def _flush(self) -> None:
        self._flush_planned = False
        if self._output:
            self._link.write(self._output)
            self._output.clear()

    def _take(self, frame: Frame, now: float) -> None:
        code, token, buffer, start, stop = frame
        if is_request(code):
            # Some servers ask their clients for blocks; this one has none to give.
            self._link.connection.reply(format_message(Code.NOT_FOUND, token))
            return
        pending = self._pending.pop(token, None)
        if pending is None:
            return
        self._pace.under_way -= pending.weight
        # Only an answer counts as a sign of life: anybody can send empty messages for ever.
        self._heard = now
        if pending.future.done():
            return
        # What nearly every answer is: that a block is kept, or a block without options in front.
        if code == Code.CREATED and start == stop and not pending.size:
            pending.future.set_result(None)
            return
        if code == Code.CONTENT and pending.size == stop - start - 1 and buffer[start] == 0xFF:
            pending.future.set_result(buffer[start + 1 : stop])
            return
        result: Any = None
        if code == Code.CONTENT and pending.size == _ANY_BLOCK:
            result = _plain_block(pending, buffer, start, stop)
        if result is None:
            result = _outcome(code, pending, buffer, start, stop)
        if isinstance(result, ErisError):
            pending.future.set_exception(result)
        else:
            pending.future.set_result(result)

    def _look(self) -> None:
        """Whether the store has been silent too long while it owes an answer, or its greeting."""
        silent_s, limit_s = self._silence()
        if silent_s >= limit_s:
            self.fail(f"{self.name} did not answer for {silent_s:.0f} s", StoreSilent)
            self._link.hang_up()
            return
        next_s = limit_s - silent_s
        if self._on_wait is not None:
            if silent_s >= SAID_AFTER_S:
                on_wait, self._on_wait = self._on_wait, None
                on_wait()
            next_s = min(next_s, _STEP_S)
        self._watch = self._loop.call_later(next_s, self._look)

    def _silence(self) -> tuple[float, float]:
        """How long nothing has come that should have, and how long that may be."""
        now = self._loop.time()
        if not self._link.connection.peer_known:
            return now - self._made, self._greeting_timeout_s
        owed = self._pending or self._queue
        return now - self._heard if owed else 0.0, self._timeout_s


def _plain_block(pending: _Pending, buffer: bytes, start: int, stop: int) -> Any:
    """What becomes of a block, marked as lent or not, if that is all there is; else None."""
    assert pending.make is not None
    if stop - start - 1 in BLOCK_SIZES and buffer[start] == 0xFF:
        return pending.make(buffer[start + 1 : stop], False)
    begin = start + len(LENT_BEFORE_BLOCK)
    if stop - begin in BLOCK_SIZES and buffer.startswith(LENT_BEFORE_BLOCK, start):
        return pending.make(buffer[begin:stop], True)
    return None


def _outcome(code: int, pending: _Pending, buffer: bytes, start: int, stop: int) -> Any:
    """What a response that is not a plain block means: a result, or an error."""
    try:
        options, payload = parse_body(buffer, start, stop)
    except MalformedMessage as error:
        return StoreUnavailable(f"the store sent a malformed answer: {error}")
    if code == Code.CONTENT and any(number == OptionNumber.BLOCK2 for number, _ in options):
        return StoreUnavailable("the store sent an answer in pieces, though it was told not to")
    if pending.size == _ANY_ANSWER:
        return code, payload
    if code == Code.CONTENT and pending.size == _ANY_BLOCK:
        if len(payload) not in BLOCK_SIZES:
            return CorruptBlock(pending.reference, size=len(payload), expected_size=1024)
        assert pending.make is not None
        return pending.make(payload, any(number == OptionNumber.LENT for number, _ in options))
    if code == Code.CONTENT:
        if pending.size and len(payload) != pending.size:
            return CorruptBlock(pending.reference, size=len(payload), expected_size=pending.size)
        return payload
    if code in (Code.CREATED, Code.CHANGED) and not pending.size:
        return None
    is_get = pending.size > 0 or pending.size == _ANY_BLOCK
    return error_of_code(code, pending.reference, payload, is_get=is_get)
