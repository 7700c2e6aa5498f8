"""One connection, and the two things that are done on it.

RFC 8323 lets both ends ask. What the other end asks of us is *answering*, what we ask of it is
*asking*; a link has one of these roles or both. Requests and responses are told apart by their
codes. Everything is written in one place, and a link is over once: when its transport is lost and
nothing is worked on any more.

A server stops reading while its peer does not take its answers. With both roles that could leave
two ends waiting for each other for ever. So such a link reads on, as far as what is asked of us may
wait; what waits is bounded by what a sensible peer has under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from kapla.coap.connection import Connection, is_response
from kapla.coap.frame import Frame
from kapla.coap.patience import Patience
from kapla.coap.sockets import is_reset, spread_output, widen_output

if TYPE_CHECKING:
    from kapla.coap.answering import Answering
    from kapla.coap.requester import Requester

__all__ = ["Link"]

_log = logging.getLogger(__name__)

# Answers not yet taken by the peer, in bytes, before no more are prepared.
_WRITE_BUFFER: Final = 512 * 1024
# Requests not yet taken by a peer that asks nothing: the rest waits where it need not be copied.
_ASKED_BUFFER: Final = 128 * 1024
# Answers to the peer's own requests and pings, in bytes, that it may leave unread where we have
# nothing to give.
_MAX_UNREAD: Final = 64 * 1024
# Requests that may wait on a link with both roles before it is not read from: twice what a peer of
# ours has under way.
_MOST_WAITING: Final = 2 * 4096
# And bytes of these: many times what so many GETs have, and few large questions.
_MOST_KEPT: Final = 4 * 1024 * 1024


class Link(asyncio.Protocol):
    """A connection with one role or two: `answering`, `asking`.

    Each is made by a function that gets the link; what they need of the transport they find when
    they are told that the link is made.
    """

    def __init__(
        self,
        answering: Callable[[Link], Answering] | None = None,
        asking: Callable[[Link], Requester] | None = None,
    ) -> None:
        self.connection = Connection(hands_on_custody=answering is not None)
        self.transport: asyncio.Transport | None = None
        self.writable = True
        """Whether the peer takes what is sent to it."""
        self.ending = False
        """Whether nothing more is read that would be answered."""
        self.answering = None if answering is None else answering(self)
        self.asking = None if asking is None else asking(self)
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the transport is lost."""
        self.ping_s: float | None = None
        """How long a Ping took, if one was answered; only peers that we dialled are pinged."""
        self._patience: Patience | None = None
        self._reading = True
        self._releasing = False
        self._reads_at_once = False
        self._unread = 0

    @property
    def is_there(self) -> bool:
        """Whether anybody is at the other end."""
        return self.transport is not None

    @property
    def usable(self) -> bool:
        """Whether something can be asked here."""
        return self.asking is not None and self.asking.usable

    @property
    def address(self) -> str | None:
        """Where the other end is, on TCP: a host and a port."""
        place = None if self.transport is None else self.transport.get_extra_info("peername")
        if not isinstance(place, tuple):
            return None
        return f"[{place[0]}]:{place[1]}" if ":" in place[0] else f"{place[0]}:{place[1]}"

    def was_reset(self) -> bool:
        """Whether the peer has gone, which nobody tells while it is not read from; then close."""
        if self.transport is None or not is_reset(self.transport):
            return False
        self.transport.abort()
        return True

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the peer with our CSM, and expect its own."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        spread_output(transport)
        transport.set_write_buffer_limits(
            high=_ASKED_BUFFER if self.answering is None else _WRITE_BUFFER
        )
        if self.answering is not None:
            self._patience = Patience(transport, self._miss_greeting, self._drop_stalled)
            # First of all: whatever fails below ends in `connection_lost`.
            self.answering.made(transport)
        self.write([self.connection.take_output()])
        if self.asking is not None:
            widen_output(transport)
            self.asking.made()
        if self.connection.closing is not None or self.ending:
            self.end()
        elif self.answering is not None:
            self.answering.begin()

    def data_received(self, data: bytes) -> None:
        """Read what arrived; where others are served too, when the turn comes."""
        if self.answering is None or (self._reads_at_once and not self.answering.has_unread):
            self.read(data)
        else:
            self.answering.admit(data)

    def read(self, data: bytes) -> None:
        """Sort bytes into signals, requests and responses."""
        self._hand_out(self.connection.receive(data))
        if self.connection.has_output:
            self._answer_signals(self.connection.take_output())
        if self.connection.closing is not None:
            if self.asking is not None:
                self.asking.fail(f"{self.asking.name}: {self.connection.closing.reason}")
            self.end()
        elif self.connection.released:
            if self.asking is not None:
                self.asking.wind_up()
            self.end()

    def _hand_out(self, frames: list[Frame]) -> None:
        answering, asking = self.answering, self.asking
        if answering is None:
            assert asking is not None
            asking.take(frames)
        elif asking is None:
            # Responses to nothing are passed over where requests are sorted.
            answering.take(frames)
        else:
            asking.take([frame for frame in frames if is_response(frame[0])])
            requests = [frame for frame in frames if not is_response(frame[0])]
            if not self._reads_at_once:
                answering.take(requests)
            elif requests:
                with answering.turn:
                    answering.take(requests)

    def _answer_signals(self, output: bytes) -> None:
        self.write([output])
        if self.answering is None or self.asking is not None:
            # It is read on while the peer takes nothing, so that is counted here.
            self._unread = 0 if self.writable else self._unread + len(output)
            if self._unread > _MAX_UNREAD:
                if self.asking is not None:
                    self.asking.fail(f"{self.asking.name} asks and does not listen")
                self.hang_up()

    def eof_received(self) -> bool:
        """Answer what was asked; the peer will ask no more, and answer nothing."""
        if self.answering is None:
            return False
        if self.asking is not None:
            self.asking.fail(f"{self.asking.name} has ended the connection")
        self.end()
        # TLS has no half of a connection, and asyncio logs that somebody wants one.
        return self.transport is not None and self.transport.get_extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        """Prepare no more answers while the peer does not take those it has, and ask no more.

        Nor read on, if all that comes are requests: its pings would be answered too.
        """
        self.writable = False
        self.read_on()

    def resume_writing(self) -> None:
        """Go on."""
        self.writable = True
        if self.asking is not None:
            self.asking.send_queued()
        if self.answering is not None:
            self.answering.take_turn()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the peer, once nothing is worked on for it.

        What is, is not cancelled: the store drops it when its turn comes, and says so.
        """
        self.transport = None
        if self._patience is not None:
            self._patience.end()
        closing = self.connection.closing
        if self.answering is not None and closing is not None and closing.aborted:
            # Not at a level that is on by default: strangers would write our log.
            _log.debug("Connection ended: %s", closing.reason)
        if self.asking is not None:
            self.asking.lost(error)
        if self.answering is not None:
            self.answering.lost()
        if not self.closed.done():
            self.closed.set_result(None)

    # writing and reading

    def write(self, pieces: list[bytes]) -> None:
        """Send; to a peer that has gone, nothing."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            # Not writelines(): in Python 3.12.0 to 3.12.8 and 3.13.0 to 3.13.1 it never calls
            # pause_writing (CVE-2024-12254).
            data = b"".join(pieces)
            transport.write(data)
            if self._patience is not None:
                self._patience.wrote(len(data))

    def read_on(self) -> None:
        """Read from the peer or not, as its requests and its appetite are."""
        if self.ending:
            self.set_reading(self.asking is not None and self.asking.is_owed)
        elif self.answering is not None:
            self.set_reading(self.takes_more and not self.answering.has_unread)

    @property
    def takes_more(self) -> bool:
        """Whether there is room for what comes next."""
        if self.answering is None:
            return True
        if self.asking is None:
            return self.writable and not self.answering.waiting
        return self.answering.waiting < _MOST_WAITING and self.answering.kept < _MOST_KEPT

    def set_reading(self, reading: bool) -> None:
        """Read from the peer, or not."""
        transport = self.transport
        if reading == self._reading or transport is None or transport.is_closing():
            return
        self._reading = reading
        if reading:
            transport.resume_reading()
        else:
            transport.pause_reading()

    # ending

    def finish(self) -> None:
        """Answer what was asked, tell the peer, close.

        In this order: some clients take a Release as the end, whatever they still wait for.
        """
        self._releasing = True
        if self.asking is not None:
            self.asking.give_up()
        self.end()

    def refuse(self, reason: str) -> None:
        """When the connection is made: tell the peer why there is none, then close."""
        self.connection.abort(reason)

    def ask_too(self, asking: Requester) -> None:
        """From now on something is asked here as well, though the other end made the connection.

        What comes is read at once: it is on behalf of others, whose turn it was. Requests still
        wait for the turn of this connection.
        """
        self.asking = asking
        self._reads_at_once = True
        if self.transport is not None:
            widen_output(self.transport)
            asking.made()

    def cut_off(self, reason: str) -> None:
        """Tell the peer why it is of no use, and close."""
        if self.asking is not None:
            self.asking.fail(reason)
        self.connection.abort(reason)
        self.write([self.connection.take_output()])
        self.end()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()

    def hang_up(self) -> None:
        """Close, without waiting for a peer that does not take what was sent to it."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.close()
            if transport.get_write_buffer_size():
                transport.abort()

    def end(self) -> None:
        """No more requests are taken; close when those that were are answered."""
        self.ending = True
        closing = self.connection.closing
        if closing is not None and closing.aborted:
            if self.answering is not None:
                self.answering.drop()
            self.close()
            return
        self.read_on()
        self.close_when_idle()

    def close_when_idle(self) -> None:
        """Close a link that is ending, unless something is still to come."""
        if self.answering is not None and self.answering.is_busy:
            return
        if self.asking is not None and self.asking.is_owed:
            return
        if self._releasing:
            self.connection.release()
            self.write([self.connection.take_output()])
        self.close()

    def close(self) -> None:
        """Close, after what was written; from a peer that takes nothing, after a while."""
        if self.transport is None or self.transport.is_closing():
            # Under TLS one that is closed twice cannot even be aborted any more.
            return
        if self._patience is None:
            self.hang_up()
        else:
            self.transport.close()
            self._patience.watch()

    def _miss_greeting(self) -> None:
        if not self.connection.peer_known and self.connection.closing is None:
            self.connection.abort("no CSM in time")
            self.write([self.connection.take_output()])
            self.end()

    def _drop_stalled(self) -> None:
        _log.debug("Connection ended: the peer takes no answers")
        self.abort()
