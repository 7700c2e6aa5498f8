"""Sockets and connections of the server.

A connection reads whatever has arrived, answers signals, sorts requests into the lanes and hands
them on in batches: all recognised GETs of one read are one query, all PUTs one part of a group
commit. It has no more than a bounded number of requests outstanding; while there are more it stops
reading, and while its peer does not read it stops answering, so that neither a fast nor a slow peer
makes memory grow.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from eris.errors import ErisError
from eris.model import Reference
from kapla.coap import fast_lane
from kapla.coap.blocks import code_of_error, diagnostic
from kapla.coap.connection import Connection, is_request
from kapla.coap.frame import Code, Frame, format_message
from kapla.coap.site import AiocoapLane, Remote
from kapla.storage.access import BlockAccess

__all__ = ["PeerConnection"]

_log = logging.getLogger(__name__)

# Requests one peer may have outstanding: twice a client's usual window. A block is at most 32 KiB,
# so this is also at most 4 MiB a connection.
_MAX_OUTSTANDING: Final = 128
# Answers not yet taken by the peer, in bytes, before no more are prepared.
_WRITE_BUFFER: Final = 512 * 1024
# Requests that may wait for their turn: more than one read can bring of any that ask for a block.
# A request of two bytes takes a hundred times as much once it is told apart from its neighbours.
_MAX_WAITING: Final = 8192
# A peer that has said nothing sensible for so long is not one.
_GREETING_TIMEOUT_S: Final = 30.0


class PeerConnection(asyncio.Protocol):
    """The server's end of one connection."""

    def __init__(
        self,
        access: BlockAccess,
        lane: AiocoapLane,
        on_closed: Callable[[PeerConnection], None],
    ) -> None:
        self._access = access
        self._lane = lane
        self._on_closed = on_closed
        self._connection = Connection()
        self._remote = Remote(self._connection)
        self._waiting: deque[Frame] = deque()
        self._outstanding = 0
        self._transport: asyncio.Transport | None = None
        self._reading = True
        self._writable = True
        self._ending = False
        self._releasing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._greeting: asyncio.TimerHandle | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the peer with our CSM, and expect its own."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        transport.write(self._connection.take_output())
        self._greeting = asyncio.get_running_loop().call_later(
            _GREETING_TIMEOUT_S, self._check_greeting
        )
        self._access.statistics.connections += 1
        if self._connection.closing is not None:
            self._end()

    def data_received(self, data: bytes) -> None:
        """Sort what arrived into signals and requests."""
        frames = self._connection.receive(data)
        if len(frames) > _MAX_WAITING:
            self._connection.abort("too many requests at once")
        elif frames:
            self._waiting.extend(frames)
            self._work()
        if self._connection.has_output:
            self._write([self._connection.take_output()])
        if self._connection.closing is not None or self._connection.released:
            self._end()

    def eof_received(self) -> bool:
        """Answer what was asked; the peer will ask no more."""
        self._end()
        return True

    def pause_writing(self) -> None:
        """Prepare no more answers while the peer does not take those it has.

        Nor read on: its pings would be answered too.
        """
        self._writable = False
        self._set_reading(False)

    def resume_writing(self) -> None:
        """Go on."""
        self._writable = True
        self._work()
        if self._ending:
            self._close_when_idle()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the peer."""
        self._transport = None
        self._waiting.clear()
        if self._greeting is not None:
            self._greeting.cancel()
        for task in self._tasks:
            task.cancel()
        closing = self._connection.closing
        if closing is not None and closing.aborted:
            # Not at a level that is on by default: strangers would write our log.
            _log.debug("Connection ended: %s", closing.reason)
        self._on_closed(self)

    # ending

    def finish(self) -> None:
        """Answer what was asked, tell the peer, close.

        In this order: some clients take a Release as the end, whatever they still wait for.
        """
        self._releasing = True
        self._end()

    def refuse(self) -> None:
        """Before the connection is made: tell the peer that there are too many, then close."""
        self._connection.abort("too many connections")

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _check_greeting(self) -> None:
        if not self._connection.peer_known and self._connection.closing is None:
            self._connection.abort("no CSM in time")
            self._write([self._connection.take_output()])
            self._end()

    def _end(self) -> None:
        self._ending = True
        self._set_reading(False)
        closing = self._connection.closing
        if closing is not None and closing.aborted:
            self._waiting.clear()
            if self._transport is not None:
                self._transport.close()
            return
        self._close_when_idle()

    def _close_when_idle(self) -> None:
        if self._outstanding or self._waiting or self._transport is None:
            return
        if self._releasing:
            self._connection.release()
            self._write([self._connection.take_output()])
        self._transport.close()

    # requests

    def _work(self) -> None:
        """Hand on waiting requests, as far as the limits allow."""
        gets: list[Reference] = []
        get_tokens: list[bytes] = []
        puts: list[bytes] = []
        put_tokens: list[bytes] = []
        waiting = self._waiting
        whole = self._connection.takes_whole_blocks
        room = _MAX_OUTSTANDING - self._outstanding if self._writable else 0
        while waiting and room > 0:
            frame = waiting.popleft()
            code, token, buffer, start, stop = frame
            room -= 1
            if code == Code.GET and whole:
                reference = fast_lane.requested_reference(buffer, start, stop)
                if reference is not None:
                    gets.append(reference)
                    get_tokens.append(token)
                    continue
            elif code == Code.PUT:
                payload = fast_lane.put_payload_start(buffer, start, stop)
                if payload is not None:
                    puts.append(buffer[payload:stop])
                    put_tokens.append(token)
                    continue
            if is_request(code):
                self._take_slow_lane(frame)
            else:
                room += 1  # a response to nothing: this end sends no requests
        if gets:
            self._outstanding += len(gets)
            self._access.get_many(gets, lambda result: self._answer_gets(get_tokens, result))
        if puts:
            self._outstanding += len(puts)
            self._access.put_many(puts, lambda result: self._answer_puts(put_tokens, result))
        if not self._ending:
            self._set_reading(not waiting and self._writable)

    def _answer_gets(
        self, tokens: Sequence[bytes], result: Sequence[bytes | None] | ErisError
    ) -> None:
        if isinstance(result, ErisError):
            self._answer_error(tokens, result)
            return
        answer_block = fast_lane.answer_block
        self._answered(
            [
                fast_lane.answer_empty(Code.NOT_FOUND, token)
                if block is None
                else answer_block(token, block)
                for token, block in zip(tokens, result, strict=True)
            ]
        )

    def _answer_puts(
        self, tokens: Sequence[bytes], result: Sequence[ErisError | None] | ErisError | None
    ) -> None:
        if isinstance(result, ErisError):
            self._answer_error(tokens, result)
            return
        created = Code.CREATED
        errors = result or [None] * len(tokens)
        self._answered(
            [
                fast_lane.answer_empty(created, token)
                if error is None
                else format_message(code_of_error(error), token, payload=diagnostic(error))
                for token, error in zip(tokens, errors, strict=True)
            ]
        )

    def _answer_error(self, tokens: Sequence[bytes], error: ErisError) -> None:
        code, payload = code_of_error(error), diagnostic(error)
        self._answered([format_message(code, token, payload=payload) for token in tokens])

    def _take_slow_lane(self, frame: Frame) -> None:
        self._outstanding += 1
        task = asyncio.ensure_future(self._answer_slowly(frame))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_slowly(self, frame: Frame) -> None:
        self._answered([await self._lane.answer(frame, self._remote)])

    def _answered(self, answers: list[bytes]) -> None:
        self._outstanding -= len(answers)
        self._write(answers)
        if self._waiting:
            self._work()
        if self._ending:
            self._close_when_idle()

    def _write(self, pieces: list[bytes]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            # Not writelines(): in Python 3.12.0 to 3.12.8 and 3.13.0 to 3.13.1 it never calls
            # pause_writing (CVE-2024-12254).
            self._transport.write(b"".join(pieces))

    def _set_reading(self, reading: bool) -> None:
        if reading == self._reading or self._transport is None or self._transport.is_closing():
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
