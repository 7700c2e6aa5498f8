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
from collections.abc import Sequence
from typing import Final

from eris.errors import ErisError
from eris.model import Reference
from kapla.coap import shares
from kapla.coap.answers import answers_to_gets, answers_to_puts
from kapla.coap.batch import Limits, take_batch
from kapla.coap.caller import caller_of
from kapla.coap.connection import Connection
from kapla.coap.fellows import Fellows
from kapla.coap.frame import Frame
from kapla.coap.patience import Patience
from kapla.coap.put_rate import NO_LIMIT, PutRate
from kapla.coap.site import AiocoapLane, Remote
from kapla.coap.sockets import is_reset, peer_uid, spread_output
from kapla.coap.steps import Begun
from kapla.coap.turns import Line, Turn
from kapla.coap.under_way import UnderWay
from kapla.storage.access import BlockAccess, GetDone, PutDone

__all__ = ["PeerConnection"]

_log = logging.getLogger(__name__)

# Answers not yet taken by the peer, in bytes, before no more are prepared.
_WRITE_BUFFER: Final = 512 * 1024
# What the store's threads take for each of these bytes: it looks for 1024 references in 0.8 ms.
_STORE_TAKES_S: Final = 25e-9


class PeerConnection(asyncio.Protocol):
    """The server's end of one connection."""

    def __init__(
        self, access: BlockAccess, lane: AiocoapLane, line: Line, fellows: Fellows
    ) -> None:
        self._access = access
        self._lane = lane
        self._fellows = fellows
        self._connection = Connection()
        self._remote = Remote(self._connection, self._is_there)
        self._waiting: deque[Frame] = deque()
        self._unread = b""
        # Of the slow lane, as far as they needed no waiting.
        self._answers: list[bytes] = []
        self._under_way = UnderWay(self._go_on)
        self._turn = Turn(line, self._take_turn, self._was_reset)
        self._put_rate: PutRate | None = None
        self._hints_are_true = True
        self._working = False
        self._patience: Patience | None = None
        self._transport: asyncio.Transport | None = None
        self._reading = True
        self._writable = True
        self._ending = False
        self._releasing = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the peer with our CSM, and expect its own."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # First of all: whatever fails below ends in `connection_lost`.
        self._fellows.opened(self)
        uid = peer_uid(transport)
        self._remote.caller = caller_of(uid, self._access.rights)
        self._put_rate = self._fellows.put_rate(uid)
        self._patience = Patience(transport, self._miss_greeting, self._drop_stalled)
        spread_output(transport)
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        self._write([self._connection.take_output()])
        if self._connection.closing is not None or self._ending:
            self._end()
        elif not self._turn.may_go_on():
            self._set_reading(False)

    def data_received(self, data: bytes) -> None:
        """Read what arrived; or keep it, and no more, until the turn comes."""
        with self._turn:
            if self._turn.may_go_on():
                self._read(data)
            else:
                self._unread = data
                self._set_reading(False)

    def _read(self, data: bytes) -> None:
        """Sort bytes into signals and requests; beside others, some at a time."""
        most = self._turn.at_once(len(data))
        if most < len(data):
            self._unread = data[most:]
            data = data[:most]
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
        self._take_turn()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the peer, once nothing is worked on for it.

        What is, is not cancelled: the store drops it when its turn comes, and says so.
        """
        self._transport = None
        self._unread = b""
        self._waiting.clear()
        self._turn.leave()
        self._remote.pin.leave()
        if self._put_rate is not None:
            self._put_rate.leave(self._take_turn)
        if self._patience is not None:
            self._patience.end()
        closing = self._connection.closing
        if closing is not None and closing.aborted:
            # Not at a level that is on by default: strangers would write our log.
            _log.debug("Connection ended: %s", closing.reason)
        self._leave_when_idle()

    def _leave_when_idle(self) -> None:
        # Not before: what was handed on takes memory, and whoever comes next has a full allowance.
        if not self._is_there() and not self._under_way.requests:
            self._fellows.closed(self)

    def _was_reset(self) -> bool:
        """Whether the peer has gone, which nobody tells while it is not read from; then close."""
        if self._transport is None or not is_reset(self._transport):
            return False
        self._transport.abort()
        return True

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
        """When the connection is made: tell the peer that there are too many, then close."""
        self._connection.abort("too many connections")

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _miss_greeting(self) -> None:
        if not self._connection.peer_known and self._connection.closing is None:
            self._connection.abort("no CSM in time")
            self._write([self._connection.take_output()])
            self._end()

    def _drop_stalled(self) -> None:
        _log.debug("Connection ended: the peer takes no answers")
        self.abort()

    def _end(self) -> None:
        self._ending = True
        self._set_reading(False)
        closing = self._connection.closing
        if closing is not None and closing.aborted:
            self._waiting.clear()
            self._unread = b""
            self._close()
        else:
            self._close_when_idle()

    def _close_when_idle(self) -> None:
        if self._under_way.requests or self._waiting or self._unread:
            return
        if self._releasing:
            self._connection.release()
            self._write([self._connection.take_output()])
        self._close()

    def _close(self) -> None:
        if self._transport is not None and self._patience is not None:
            self._transport.close()
            self._patience.watch()

    # requests

    def _work(self) -> None:
        """Hand on waiting requests, as far as the limits allow."""
        if self._working:
            return  # a refusal is answered before it is even handed on: the loop below goes on
        self._working = True
        try:
            while self._waiting and self._turn.may_go_on() and self._hand_on():
                pass
        finally:
            self._working = False
        if self._unread and not self._waiting and self._writable and self._turn.may_go_on():
            data, self._unread = self._unread, b""
            self._read(data)
        elif not self._ending:
            self._set_reading(not (self._waiting or self._unread) and self._writable)

    def _hand_on(self) -> bool:
        """Hand on one batch; False if the limits allow none."""
        peers = max(1, len(self._fellows))
        under_way = self._under_way
        room = shares.requests(peers) - under_way.requests if self._writable else 0
        rate = self._put_rate
        limits = Limits(
            room,
            # In parts that the store can begin with before all is there.
            min(shares.weight(peers) - under_way.weight, shares.PART),
            self._connection.takes_whole_blocks,
            self._hints_are_true,
            NO_LIMIT if rate is None else rate.room(self._take_turn),
        )
        batch = take_batch(self._waiting, limits, self._take_slow_lane)
        if rate is not None:
            if batch.put_kib:
                rate.took(self._take_turn, batch.put_kib)
            if batch.is_held_up:
                rate.wait(self._take_turn)
        if self._answers:
            answers, self._answers = self._answers, []
            self._write(answers)
        if batch.gets:
            self._get(batch.get_tokens, batch.gets, batch.get_weight)
        if batch.puts:
            self._put(batch.put_tokens, batch.puts, batch.put_weight)
        return batch.taken > 0

    def _get(self, tokens: list[bytes], references: list[Reference], weight: int) -> None:
        def start(done: GetDone) -> None:
            self._access.get_many(references, done, self._is_there, self._turn.group)

        def answer(result: Sequence[bytes | None] | ErisError) -> None:
            self._answer_gets(tokens, weight, result)

        self._under_way.hand_on(len(tokens), weight, start, answer)

    def _put(self, tokens: list[bytes], blocks: list[bytes], weight: int) -> None:
        hold = self._remote.pin.hold

        def start(done: PutDone) -> None:
            self._access.put_many(blocks, done, self._is_there, hold, self._turn.group)

        def answer(result: Sequence[ErisError | None] | ErisError | None) -> None:
            self._answer_puts(tokens, result)

        self._under_way.hand_on(len(tokens), weight, start, answer)

    def _answer_gets(
        self, tokens: Sequence[bytes], weight: int, result: Sequence[bytes | None] | ErisError
    ) -> None:
        with self._turn:
            if not isinstance(result, ErisError):
                blocks = list(filter(None, result))
                self._hints_are_true &= sum(map(len, blocks)) <= weight << 10
                self._turn.gave(len(blocks), len(result) - len(blocks))
            self._write(answers_to_gets(tokens, result))

    def _answer_puts(
        self, tokens: Sequence[bytes], result: Sequence[ErisError | None] | ErisError | None
    ) -> None:
        with self._turn:
            if result is None:
                self._turn.gave(len(tokens))
            self._write(answers_to_puts(tokens, result))

    def _take_slow_lane(self, frame: Frame) -> int | None:
        """Answer a request in a task of its own; returns what it weighs, None if it has to wait."""
        if not self._turn.may_go_slowly():
            return None
        code, token, buffer, start, stop = frame
        weight = shares.slow_weight(code, stop - start)
        with self._turn.slowly:
            # A copy: all that was read together with it is not to be kept for it.
            own = (code, token, buffer[start:stop], 0, stop - start)
            work = Begun(self._lane.answer(own, self._remote), self._turn.slowly)
            if work.done:
                self._answers.append(work.result)
            else:
                self._turn.took_elsewhere(_STORE_TAKES_S * (stop - start))
                self._under_way.run(_finish(work), weight, self._answer_slowly)
        return weight

    def _answer_slowly(self, answer: bytes | None) -> None:
        if answer is not None:
            with self._turn.slowly:
                self._write([answer])

    def _go_on(self) -> None:
        """Something was answered: there is room for more, or an end."""
        if self._waiting or self._unread or self._ending:
            self._take_turn()
        self._leave_when_idle()

    def _take_turn(self) -> None:
        with self._turn:
            self._work()
            if self._ending:
                self._close_when_idle()

    def _write(self, pieces: list[bytes]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            # Not writelines(): in Python 3.12.0 to 3.12.8 and 3.13.0 to 3.13.1 it never calls
            # pause_writing (CVE-2024-12254).
            data = b"".join(pieces)
            self._transport.write(data)
            if self._patience is not None:
                self._patience.wrote(len(data))

    def _set_reading(self, reading: bool) -> None:
        if reading == self._reading or self._transport is None or self._transport.is_closing():
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()


async def _finish(work: Begun[bytes]) -> bytes:
    return await work
