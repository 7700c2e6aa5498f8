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
from eris.model import BlockSize, Reference
from kapla.coap import fast_lane
from kapla.coap.blocks import code_of_error, diagnostic
from kapla.coap.connection import Connection, is_request
from kapla.coap.frame import Code, Frame, encode_uint, format_message
from kapla.coap.site import AiocoapLane, Remote
from kapla.coap.sockets import spread_output
from kapla.storage.access import BlockAccess

__all__ = ["PeerConnection"]

_log = logging.getLogger(__name__)

# How a GET ends that says it expects 1 KiB.
_SMALL_HINT: Final = encode_uint(BlockSize.SMALL)

# Requests one peer may have outstanding, however many peers there are, and those that all share
# while there are few: a commit for many blocks costs hardly more than one for a few.
_OUTSTANDING: Final = 128
_SHARED_OUTSTANDING: Final = 1024
# What they may weigh together, in KiB of memory: 32 blocks of 32 KiB, or a share of 8 MiB. A GET
# weighs what its Size1 says it will bring, as long as the peer's hints are true.
_WEIGHT: Final = 1024
_SHARED_WEIGHT: Final = 8192
_PART: Final = 512
_LARGE_WEIGHT: Final = 32
# Answers not yet taken by the peer, in bytes, before no more are prepared.
_WRITE_BUFFER: Final = 512 * 1024
# What a request of the aiocoap lane takes besides its bytes, and how much its bytes multiply there.
_SLOW_WEIGHT: Final = 4
_SLOW_FACTOR: Final = 4
# A peer that takes none of its answers for so long is dropped, with what is kept for it.
_STALL_TIMEOUT_S: Final = 30.0
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
        self._weight = 0
        self._hints_are_true = True
        self._working = False
        self._written = 0
        self._stall: asyncio.TimerHandle | None = None
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
        spread_output(transport)
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        self._write([self._connection.take_output()])
        self._greeting = asyncio.get_running_loop().call_later(
            _GREETING_TIMEOUT_S, self._check_greeting
        )
        self._access.statistics.connections += 1
        self._access.statistics.open_connections += 1
        if self._connection.closing is not None or self._ending:
            self._end()

    def data_received(self, data: bytes) -> None:
        """Sort what arrived into signals and requests."""
        frames = self._connection.receive(data)
        if frames:
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
        """Forget the peer, once nothing is worked on for it."""
        self._transport = None
        self._waiting.clear()
        for timer in (self._greeting, self._stall):
            if timer is not None:
                timer.cancel()
        for task in self._tasks:
            task.cancel()
        closing = self._connection.closing
        if closing is not None and closing.aborted:
            # Not at a level that is on by default: strangers would write our log.
            _log.debug("Connection ended: %s", closing.reason)
        self._leave_when_idle()

    def _leave_when_idle(self) -> None:
        # Not before: what was handed on takes memory, and whoever comes next has a full allowance.
        if not self._is_there() and not self._outstanding:
            self._access.statistics.open_connections -= 1
            self._on_closed(self)

    def _is_there(self) -> bool:
        """Whether anybody waits for answers. Also asked by the threads of the store."""
        return self._transport is not None

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
                self._watch_for_a_stall()
            return
        self._close_when_idle()

    def _close_when_idle(self) -> None:
        if self._outstanding or self._waiting or self._transport is None:
            return
        if self._releasing:
            self._connection.release()
            self._write([self._connection.take_output()])
        self._transport.close()
        self._watch_for_a_stall()

    def _watch_for_a_stall(self) -> None:
        """Drop the peer if it takes nothing of what is kept for it."""
        if self._stall is None and self._unsent():
            self._stall = asyncio.get_running_loop().call_later(
                _STALL_TIMEOUT_S, self._check_for_a_stall, self._taken()
            )

    def _check_for_a_stall(self, before: int) -> None:
        self._stall = None
        if not self._unsent():
            return
        if self._taken() == before:
            _log.debug("Connection ended: the peer takes no answers")
            self.abort()
        else:
            self._watch_for_a_stall()

    def _unsent(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _taken(self) -> int:
        """How many bytes the peer has taken so far."""
        return self._written - self._unsent()

    # requests

    def _work(self) -> None:
        """Hand on waiting requests, as far as the limits allow."""
        if self._working:
            return  # a refusal is answered before it is even handed on: the loop below goes on
        self._working = True
        try:
            while self._waiting and self._hand_on():
                pass
        finally:
            self._working = False
        if not self._ending:
            self._set_reading(not self._waiting and self._writable)

    def _hand_on(self) -> bool:
        """Hand on one batch; False if the limits allow none."""
        gets: list[Reference] = []
        get_tokens: list[bytes] = []
        puts: list[bytes] = []
        put_tokens: list[bytes] = []
        waiting = self._waiting
        whole = self._connection.takes_whole_blocks
        peers = self._access.statistics.open_connections
        most_weight = max(_WEIGHT, _SHARED_WEIGHT // peers)
        most_outstanding = max(_OUTSTANDING, _SHARED_OUTSTANDING // peers)
        room = most_outstanding - self._outstanding if self._writable else 0
        get_weight = put_weight = slow_weight = taken = 0
        light = self._hints_are_true
        # In parts that the store can begin with before all is there.
        most_weight = min(most_weight - self._weight, _PART)
        while waiting and room > 0 and get_weight + put_weight + slow_weight < most_weight:
            frame = waiting.popleft()
            code, token, buffer, start, stop = frame
            room -= 1
            taken += 1
            if code == Code.GET and whole:
                reference = fast_lane.requested_reference(buffer, start, stop)
                if reference is not None:
                    gets.append(reference)
                    get_tokens.append(token)
                    small = light and buffer.endswith(_SMALL_HINT, start, stop)
                    get_weight += 1 if small else _LARGE_WEIGHT
                    continue
            elif code == Code.PUT:
                payload = fast_lane.put_payload_start(buffer, start, stop)
                if payload is not None:
                    puts.append(buffer[payload:stop])
                    put_tokens.append(token)
                    put_weight += (stop - payload) >> 10
                    continue
            if is_request(code):
                slow_weight += self._take_slow_lane(frame)
            else:
                room += 1  # a response to nothing: this end sends no requests
        self._weight += get_weight + put_weight
        if gets:
            self._outstanding += len(gets)
            self._access.get_many(
                gets,
                lambda result: self._answer_gets(get_tokens, get_weight, result),
                self._is_there,
            )
        if puts:
            self._outstanding += len(puts)
            self._access.put_many(
                puts,
                lambda result: self._answer_puts(put_tokens, put_weight, result),
                self._is_there,
            )
        return taken > 0

    def _answer_gets(
        self, tokens: Sequence[bytes], weight: int, result: Sequence[bytes | None] | ErisError
    ) -> None:
        if isinstance(result, ErisError):
            self._answer_error(tokens, weight, result)
            return
        if sum(len(block) for block in result if block is not None) > weight << 10:
            self._hints_are_true = False
        answer_block = fast_lane.answer_block
        self._answered(
            [
                fast_lane.answer_empty(Code.NOT_FOUND, token)
                if block is None
                else answer_block(token, block)
                for token, block in zip(tokens, result, strict=True)
            ],
            weight,
        )

    def _answer_puts(
        self,
        tokens: Sequence[bytes],
        weight: int,
        result: Sequence[ErisError | None] | ErisError | None,
    ) -> None:
        if isinstance(result, ErisError):
            self._answer_error(tokens, weight, result)
            return
        created = Code.CREATED
        errors = result or [None] * len(tokens)
        self._answered(
            [
                fast_lane.answer_empty(created, token)
                if error is None
                else format_message(code_of_error(error), token, payload=diagnostic(error))
                for token, error in zip(tokens, errors, strict=True)
            ],
            weight,
        )

    def _answer_error(self, tokens: Sequence[bytes], weight: int, error: ErisError) -> None:
        code, payload = code_of_error(error), diagnostic(error)
        self._answered([format_message(code, token, payload=payload) for token in tokens], weight)

    def _take_slow_lane(self, frame: Frame) -> int:
        """Answer a request in a task of its own; returns what it weighs."""
        code, token, buffer, start, stop = frame
        weight = _SLOW_WEIGHT + _SLOW_FACTOR * ((stop - start) >> 10)
        if code == Code.GET:
            weight += _LARGE_WEIGHT
        self._outstanding += 1
        self._weight += weight
        # A copy: all that was read together with it is not to be kept for it.
        own = (code, token, buffer[start:stop], 0, stop - start)
        task = asyncio.ensure_future(self._answer_slowly(own, weight))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return weight

    async def _answer_slowly(self, frame: Frame, weight: int) -> None:
        answer = b""
        try:
            answer = await self._lane.answer(frame, self._remote)
        finally:
            self._answered([answer], weight)

    def _answered(self, answers: list[bytes], weight: int) -> None:
        self._outstanding -= len(answers)
        self._weight -= weight
        self._write(answers)
        if self._waiting:
            self._work()
        if self._ending:
            self._close_when_idle()
        self._leave_when_idle()

    def _write(self, pieces: list[bytes]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            # Not writelines(): in Python 3.12.0 to 3.12.8 and 3.13.0 to 3.13.1 it never calls
            # pause_writing (CVE-2024-12254).
            data = b"".join(pieces)
            self._written += len(data)
            self._transport.write(data)
            self._watch_for_a_stall()

    def _set_reading(self, reading: bool) -> None:
        if reading == self._reading or self._transport is None or self._transport.is_closing():
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
