"""One connection of a client: what it is doing, how it is ended, and what it is told if we fail.

A server whose connections do more is a subclass: `arrived`, `working` and `left` are for it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, Final

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError

from kapla.http.serving.taking import Taking, acknowledged, is_owed
from kapla.http.serving.tally import Tally

__all__ = ["SERVER_NAME", "Connection"]

_log = logging.getLogger(__name__)

SERVER_NAME: Final = "kapla"
"""All that the header `Server` tells."""

_UNSENT: Final = 512 * 1024
"""What the kernel may keep that it has not sent even once."""
_FILE_STEP: Final = 1024 * 1024
_LOCAL_FILE_STEP: Final = 32 * 1024
_SILENT_S: Final = 1.0
"""Nobody who makes progress takes nothing for so long, most of the time."""


class Connection(web.RequestHandler):
    """One connection. `busy_since` a time of the loop it is answered, else idle since one."""

    __slots__ = (
        "_away",
        "_cut_off",
        "_ended_sending",
        "_head_s",
        "_head_timer",
        "_refused",
        "_socket",
        "_task",
        "_wire",
        "busy_since",
        "client",
        "handed",
        "idle_since",
        "lost",
        "taking",
    )

    def __init__(
        self,
        server: web.Server,
        cut_off: Tally,
        refused: Callable[[Connection, int], None],
        *,
        head_s: float,
        idle_s: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            logger=_log,
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=idle_s,
            # Bodies are as they came: who sends some knows what they are not to be.
            auto_decompress=False,
        )
        self._cut_off = cut_off
        self._refused = refused
        self._head_s = head_s
        self._head_timer: asyncio.TimerHandle | None = None
        self.lost = False
        """Whether the client has gone, and only work for it may be left."""
        self._ended_sending = False
        self._away: str | None = None
        self._socket: socket.socket | None = None
        # aiohttp forgets its transport before that has ended.
        self._wire: asyncio.Transport | None = None
        self._task: asyncio.Task[object] | None = None
        self.client = "-"
        """The address of the client, without the port; `-` where there is none."""
        self.handed = 0
        """Bytes of replies that were written; for sockets that cannot tell what was taken."""
        self.busy_since: float | None = None
        self.idle_since = loop.time()
        self.taking = Taking(self.idle_since)

    # what happens to it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        assert isinstance(transport, asyncio.Transport)
        self._wire = transport
        self._socket = transport.get_extra_info("socket")
        if isinstance(address := transport.get_extra_info("peername"), tuple):
            self.client = str(address[0])
        # A reply that counts as sent is in the kernel, and none is kept twice. A file can be sent
        # only when nothing is in the way.
        transport.set_write_buffer_limits(0)
        if self._socket is not None and self._socket.family != socket.AF_UNIX:
            with suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client has gone, or was sent away."""
        self.lost = True
        self.left()
        self._forget_head()
        super().connection_lost(exc)
        self._wire = self._socket = None

    def data_received(self, data: bytes) -> None:
        """Have requests taken apart."""
        self.arrived(data)
        if data and self.busy_since is None:
            self._await_head()
        super().data_received(data)
        self._expect_no_more()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more; what it has asked for it gets. True keeps the connection."""
        self._ended_sending = True
        self._expect_no_more()
        if self._messages:
            return True
        if self._waiter is not None and not self._waiter.done():
            # It waits for a request.
            return False
        self.close()
        return True

    # what a subclass may have to do with it

    def arrived(self, data: bytes) -> None:
        """These bytes have come, and are about to be taken apart."""

    def working(self) -> AbstractContextManager[None]:
        """The context in which a request is answered."""
        return nullcontext()

    def left(self) -> None:
        """The client has gone: called once, however that came about."""

    # what it does

    @contextmanager
    def answering(self) -> Iterator[None]:
        """A request is whole, and is answered in this context, by the task that enters it."""
        self._forget_head()
        self._task = asyncio.current_task()
        self.busy_since = self._loop.time()
        self.look(self.busy_since)
        self._expect_no_more()
        try:
            with self.working():
                yield
        finally:
            self._task = None
            self.busy_since = None
            self.idle_since = self._loop.time()
            if self._ended_sending and not self._messages:
                # There will be no other request to wait for. This lets the reply be finished.
                self.close()

    def look(self, now: float) -> None:
        """See what the client has taken."""
        if self._socket is None or self._wire is None:
            return
        taken = acknowledged(self._socket)
        unsent = self._wire.get_write_buffer_size()
        if taken is None:
            # Of a Unix socket the kernel keeps little: what it has taken counts.
            taken = self.handed - unsent
        self.taking.look(now, taken, owes=unsent > 0 or is_owed(self._socket))

    def standing(self, now: float, least_rate: float) -> tuple[int, float]:
        """Whoever has the lowest goes first, when some must. True as of the last look."""
        taking = self.taking
        if self.busy_since is None:
            return 0, self.idle_since
        if self._body_to_come is not None:
            # It is as silent as who has asked for nothing.
            return 0, self.busy_since
        if not taking.owes:
            # It waits for us, and has nothing yet that it would lose.
            return 2, self.busy_since
        if now - taking.quiet_since >= _SILENT_S:
            return 0, taking.quiet_since
        rate = taking.rate(now)
        return (1 if rate < least_rate and not taking.is_fresh(now) else 3), rate

    @property
    def file_step(self) -> int:
        """How many bytes of a file to hand over at once: each step counts when it is done."""
        local = self._socket is not None and self._socket.family == socket.AF_UNIX
        return _LOCAL_FILE_STEP if local else _FILE_STEP

    # how it ends

    def send_away(self, reason: str) -> None:
        """End it, whatever is under way."""
        self._away = reason
        if self._task is not None:
            # Before its socket goes: asyncio would keep on waiting until a file can be sent, and
            # take the next socket of that number for it.
            self._task.cancel()
        self._loop.call_soon(self.abort)

    def abort(self) -> None:
        """End it at once, so that nobody takes what was sent for the whole."""
        if self._wire is not None:
            self._wire.abort()

    def cut_off(self, sent: int, size: int) -> None:
        """Tell of a reply that has ended too early; nothing, if it was the client who left."""
        if self._away is not None:
            text = "A reply to %s was cut off at %d of %d bytes: %s"
            self._cut_off.note(text, self.client, sent, size, self._away)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The reply to what is no request, or if we fail; tells nothing of what runs here."""
        if status >= 500:
            _log.error("A reply failed", exc_info=exc)
        else:
            # Not the error itself, which repeats what was sent: that may be somebody's secret.
            _log.debug("This is no request: %s", type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("some of the reply has been sent")
        self._refused(self, status)
        text = "Bad request" if status < 500 else "Internal error"
        response = web.Response(status=status, text=text, headers={"Server": SERVER_NAME})
        response.force_close()
        return response

    def log_exception(self, *arguments: Any, **facts: Any) -> None:
        """Tell of what aiohttp did not expect, but of bodies that are none: strangers make many."""
        error = facts.get("exc_info")
        if isinstance(error, web.RequestPayloadError | HttpProcessingError | ConnectionError):
            _log.debug("This is no body: %s", type(error).__name__)
        else:
            super().log_exception(*arguments, **facts)

    @property
    def _body_to_come(self) -> StreamReader | None:
        """The body of the request that is answered, if some of it has not come."""
        body = None if self._current_request is None else self._current_request.content
        return None if body is None or body.is_eof() else body

    def _expect_no_more(self) -> None:
        """Let nobody wait for the rest of a body that cannot come any more.

        What comes behind a body is taken apart when that is whole, or makes no sense.
        """
        body = self._body_to_come
        if body is not None and (self._ended_sending or self._messages):
            body.set_exception(web.RequestPayloadError("the body was cut off"))

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self._loop.call_later(self._head_s, self._give_up)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        _log.debug("A client sends no whole request")
        self.send_away("no whole request came")
