"""What we ask on a connection: requests in flight, known by their tokens.

A request goes into the next piece of output, together with whatever else was asked in the same turn
of the event loop. Tokens count up and are never used twice on a connection, so the answer to a
request that nobody waits for any more cannot be taken for another's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from eris.errors import BlockNotFound, ErisError, StoreUnavailable
from kapla.coap.asked import (
    ANY_ANSWER,
    ANY_BLOCK,
    Asked,
    make_asked,
    outcome_of,
    plain_block,
)
from kapla.coap.connection import is_request
from kapla.coap.frame import (
    Code,
    Frame,
    format_header,
    format_message,
)
from kapla.coap.link import Link
from kapla.coap.lot import TOKEN_SIZE, Lot, SentPart
from kapla.coap.pace import Pace
from kapla.coap.sockets import is_unix
from kapla.coap.waiting import Waiting
from kapla.errors import StoreSilent
from kapla.identity.failures import tls_reason

__all__ = ["SAID_AFTER_S", "Requester"]

T = TypeVar("T")

SAID_AFTER_S: Final = 3.0
"""Without an answer for so long, whoever wants to know is told whom we wait for."""
# How late that may be.
_STEP_S: Final = 1.0

# Bytes of lots in one write. What the kernel takes at once stays in the processor's cache until it
# does; what it does not take is copied twice more.
_ONE_WRITE: Final = 256 * 1024


class Requester:
    """What is asked on one link. `window` requests at most are on the wire; more wait here.

    How many it is depends on their bytes, and on the link: see `Pace`.

    `timeout_s`: how long it may stay silent while an answer is owed; `greeting_timeout_s`: until
    its CSM is there, which costs it nothing. `on_wait` is called once, after 3 s of silence.
    `on_lost` gets what is not answered when the connection is lost or released, and returns what it
    does not see to: that fails.
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
        on_lost: Callable[[Requester, list[Asked]], list[Asked]] | None = None,
    ) -> None:
        self.usable = True
        self.has_answered = False
        """Whether there ever was an answer."""
        self.was_released = False
        """Whether the store has said that it ends, so that there may be another soon."""
        self.name = name
        """Whom we ask, for messages."""
        self._link = link
        self._window = window
        self._timeout_s = timeout_s
        self._greeting_timeout_s = min(timeout_s, greeting_timeout_s or timeout_s)
        self._on_wait = on_wait
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._next_token = 0
        self._pace = Pace()
        # The request whose round trip is measured, and when it was sent.
        self._timed = b""
        self._timed_at = 0.0
        self._pending: dict[bytes, Asked | SentPart] = {}
        self._waiting = Waiting()
        self._output: list[bytes] = []
        self._output_size = 0
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
        return self._request(Code.GET, body, reference, ANY_BLOCK, expected, make)

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
        asked = make_asked((future, code, body, reference, size, expected + len(body), make, False))
        if not self._waiting and self._may_send():
            self._send(asked)
        else:
            self._waiting.add(asked)
        return future

    def put_all(self, lot: Lot) -> None:
        """Send PUTs of blocks; the lot's future gets what comes of them."""
        if not self.usable:
            lot.fail(StoreUnavailable(f"the connection to {self.name} is lost"))
        elif lot:
            self._waiting.add(lot)
            self.send_queued()

    def ask_again(self, asked: Asked) -> None:
        """Send this, maybe for the second time; its own future gets what comes of it."""
        if self.usable:
            self._waiting.add(asked)
            self.send_queued()
        else:
            self._fail([asked], f"the connection to {self.name} is lost")

    def ask(
        self, code: int, body: bytes, *, may_be_repeated: bool = False
    ) -> asyncio.Future[tuple[int, bytes]]:
        """Send a request; the future gets code and payload of whatever the answer is."""
        future: asyncio.Future[tuple[int, bytes]] = self._loop.create_future()
        self.ask_again(Asked(future, code, body, b"", ANY_ANSWER, len(body), None, may_be_repeated))
        return future

    @property
    def is_over(self) -> bool:
        """Whether the connection has ended, and nobody waits for anything on it."""
        return self._link.closed.done()

    @property
    def is_owed(self) -> bool:
        """Whether an answer is still to come."""
        return bool(self._pending)

    @property
    def owed(self) -> int:
        """How many answers are still to come, to what was sent or waits to be."""
        return len(self._pending) + self._waiting.requests

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
        transport = self._link.transport
        self._pace.is_local = transport is not None and is_unix(transport)
        self._made = self._loop.time()
        self._look()

    def take(self, frames: Sequence[Frame]) -> None:
        """Give every answer to whoever waits for it; then there may be room for more requests."""
        now = self._loop.time()
        owed = len(self._pending)
        for frame in frames:
            self._take(frame, now)
        self.has_answered |= len(self._pending) < owed
        if self._timed and self._timed not in self._pending:
            self._pace.learn(self._heard - self._timed_at)
            self._timed = b""
        if self._waiting:
            self.send_queued()

    def send_queued(self) -> None:
        """Send what waits, as far as there is room."""
        connection = self._link.connection
        if connection.closing is not None or connection.released:
            return
        while self._waiting and self._output_size < _ONE_WRITE and self._may_send():
            one = self._waiting.take()
            if isinstance(one, Asked):
                self._send(one)
            elif one is not None:
                self._send_part(one)
                if one:
                    self._waiting.put_back(one)

    def wind_up(self) -> None:
        """After a Release: ask no more, but take the answers that are still to come."""
        self.usable, self.was_released = False, True
        waiting = self._waiting.take_all()
        self._fail(self._handed_back(waiting), f"{self.name} is shutting down")

    def give_up(self) -> None:
        """Nobody waits for anything any more."""
        self.fail(f"the connection to {self.name} was closed")

    def lost(self, error: Exception | None) -> None:
        """The connection has gone: fail whatever still waits."""
        if self._watch is not None:
            self._watch.cancel()
        reason = ""
        if error:
            reason = f": {tls_reason(error) or getattr(error, 'strerror', None) or error}"
        if isinstance(error, BrokenPipeError | ConnectionResetError):
            # What it said last is not read any more once we cannot write: perhaps that it ends.
            self.was_released = True
        was_usable, self.usable = self.usable, False
        waiting = self._taken()
        if waiting or was_usable:
            waiting = self._handed_back(waiting)
        self._fail(waiting, f"the connection to {self.name} is lost{reason}")

    def fail(self, reason: str, kind: type[StoreUnavailable] = StoreUnavailable) -> None:
        """Ask no more; whatever still waits gets this reason."""
        self.usable = False
        self._fail(self._taken(), reason, kind)

    def _taken(self) -> list[Asked]:
        """All that is not answered; it is not waited for here any more."""
        waiting = [
            sent if isinstance(sent, Asked) else sent.lot.alone(sent.block(token))
            for token, sent in self._pending.items()
            if not sent.future.done()
        ]
        self._pending.clear()
        return waiting + self._waiting.take_all()

    def _handed_back(self, waiting: list[Asked]) -> list[Asked]:
        """Leave these to whoever asks again; returns the rest."""
        return waiting if self._on_lost is None else self._on_lost(self, waiting)

    @staticmethod
    def _fail(
        waiting: Sequence[Asked], reason: str, kind: type[StoreUnavailable] = StoreUnavailable
    ) -> None:
        for asked in waiting:
            if not asked.future.done():
                asked.future.set_exception(kind(reason))

    # requests

    def _may_send(self) -> bool:
        return len(self._pending) < self._window and self._link.writable and self._pace.has_room

    def _send(self, asked: Asked) -> None:
        if not self._pending:
            # Silence counts from when an answer is owed.
            self._heard = self._loop.time()
        token = self._next_token.to_bytes(TOKEN_SIZE, "big")
        self._next_token += 1
        body = asked.body
        self._pending[token] = asked
        self._pace.under_way += asked.weight
        if not self._timed:
            self._timed, self._timed_at = token, self._loop.time()
        self._output += (format_header(asked.code, TOKEN_SIZE, len(body)), token, body)
        self._plan_flush()

    def _send_part(self, lot: Lot) -> None:
        """Send as much of a lot as there is room for."""
        if not self._pending:
            self._heard = self._loop.time()
        most = self._window - len(self._pending)
        room = min(self._pace.room, _ONE_WRITE - self._output_size)
        part = lot.next_part(self._next_token, most, room)
        self._next_token += part.blocks
        tokens = part.tokens()
        self._pending.update(dict.fromkeys(tokens, part))
        self._pace.under_way += part.weight
        self._output_size += part.weight
        if not self._timed:
            self._timed, self._timed_at = tokens[0], self._loop.time()
        part.write(tokens, self._output)
        self._plan_flush()

    def _plan_flush(self) -> None:
        if not self._flush_planned:
            # At the end of this turn of the loop, with whatever else was asked in it.
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        if self._output:
            self._link.write(self._output)
            self._output.clear()
            self._output_size = 0
        if self._waiting:
            self.send_queued()

    def _take(self, frame: Frame, now: float) -> None:
        code, token, buffer, start, stop = frame
        if is_request(code):
            # Some servers ask their clients for blocks; this one has none to give.
            self._link.connection.reply(format_message(Code.NOT_FOUND, token))
            return
        pending = self._pending.pop(token, None)
        if pending is None:
            return
        # Only an answer counts as a sign of life: anybody can send empty messages for ever.
        self._heard = now
        if isinstance(pending, SentPart):
            self._pace.under_way -= pending.take(code, token, buffer, start, stop)
            return
        future, size = pending.future, pending.size
        self._pace.under_way -= pending.weight
        if future.done():
            return
        # What nearly every answer is: that a block is kept, a block without options in front, or
        # that there is none.
        if code == Code.CREATED and start == stop and not size:
            future.set_result(None)
            return
        if code == Code.CONTENT and size == stop - start - 1 and buffer[start] == 0xFF:
            future.set_result(buffer[start + 1 : stop])
            return
        if code == Code.NOT_FOUND and start == stop and size == ANY_BLOCK:
            future.set_exception(BlockNotFound(pending.reference))
            return
        result: Any = None
        if code == Code.CONTENT and pending.size == ANY_BLOCK:
            result = plain_block(pending, buffer, start, stop)
        if result is None:
            result = outcome_of(code, pending, buffer, start, stop)
        if isinstance(result, ErisError):
            future.set_exception(result)
        else:
            future.set_result(result)

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
        owed = self._pending or self._waiting
        return now - self._heard if owed else 0.0, self._timeout_s
