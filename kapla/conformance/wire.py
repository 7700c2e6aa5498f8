"""A bare connection to a store: sends whatever it is told to, right or wrong, and keeps what comes.

Two things it does by itself, as any client has to: requests of the store are answered (4.04, 5.01
and 4.05 in turn), since a store may ask its clients for blocks, and so are its Pings. Whatever is
waited for is waited for a bounded time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import cycle
from typing import Final, TypeVar

from kapla.coap.frame import (
    Code,
    FrameReader,
    MalformedMessage,
    Message,
    format_header,
    format_message,
    parse_body,
)
from kapla.conformance.model import Failed, format_code, words
from kapla.conformance.transcript import Transcript

__all__ = ["Wire"]

_Found = TypeVar("_Found")

# Far more than any check asks for; a store that sends more is not read any further.
_MOST_RECEIVED: Final = 64 * 1024 * 1024
_LARGEST_MESSAGE: Final = 16 * 1024 * 1024
_MOST_FRAMES: Final = 1 << 20
_FIRST_RESPONSE: Final = 0x40
_FIRST_SIGNAL: Final = 0xE0


class Wire(asyncio.Protocol):
    """One connection; `ended` says why it is over, in words, and is None until then."""

    def __init__(self, transcript: Transcript, wait_s: float) -> None:
        self.wait_s = wait_s
        """How long anything is waited for."""
        self.ended: str | None = None
        self.csm: Message | None = None
        """The first CSM."""
        self.abort: Message | None = None
        """The store's Abort."""
        self.asked = 0
        """How many requests the store has sent."""
        self.largest = 0
        """Bytes of the longest message that came."""
        self.answers: list[Message] = []
        """Responses that came and were not fetched."""
        self.signals: list[Message] = []
        """Pongs and Releases that came and were not fetched."""
        self.codes = bytearray()
        """The codes of all messages that came, in their order."""
        self._transcript = transcript
        self._reader = FrameReader(_LARGEST_MESSAGE, _MOST_FRAMES)
        self._transport: asyncio.Transport | None = None
        self._received = 0
        self._raw: bytearray | None = None
        self._tokens = 0
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._refusals = cycle((Code.NOT_FOUND, Code.NOT_IMPLEMENTED, Code.METHOD_NOT_ALLOWED))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is a connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Sort what came."""
        self._transcript.add(data, sent=False)
        self._received += len(data)
        if self._received > _MOST_RECEIVED:
            self._end(f"the store sent more than {_MOST_RECEIVED >> 20} MiB")
            self.close()
        elif self._raw is None:
            self._read(data)
        else:
            self._raw += data
        self._news.set()

    def _read(self, data: bytes) -> None:
        try:
            for code, token, buffer, start, stop in self._reader.feed(data):
                self.largest = max(self.largest, _length(token, stop - start))
                self._take(Message(code, token, *parse_body(buffer, start, stop)))
        except MalformedMessage as error:
            self._end(f"the store sent a malformed message: {error}")
        if self._reader.failure is not None:
            self._end(f"the store sent what is no message: {self._reader.failure}")

    def eof_received(self) -> bool:
        """The store sends no more."""
        self._end("the store closed the connection")
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The connection has gone."""
        self._end("the store closed the connection" if error is None else "it was reset")
        self._writable.set()

    def pause_writing(self) -> None:
        """The store takes no more for now."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It goes on."""
        self._writable.set()

    # sending

    def token(self) -> bytes:
        """A token that was not used before here."""
        self._tokens += 1
        return self._tokens.to_bytes(3, "big")

    async def send(self, data: bytes) -> None:
        """Send bytes as they are.

        Raises: Failed, if the store takes nothing for too long.
        """
        self._transcript.add(data, sent=True)
        self._write(data)
        try:
            async with asyncio.timeout(self.wait_s):
                await self._writable.wait()
        except TimeoutError:
            raise Failed(f"the store took nothing for {self.wait_s:g} s") from None

    async def send_slowly(self, data: bytes) -> None:
        """Send byte by byte, each on its own as far as the system lets it."""
        self._transcript.add(data, sent=True)
        for byte in data:
            self._write(bytes((byte,)))
            await asyncio.sleep(0)

    def half_close(self) -> bool:
        """Say that nothing more will be sent; False where there is no half of a connection."""
        if self._transport is None or not self._transport.can_write_eof():
            return False
        if not self._transport.is_closing():
            self._transport.write_eof()
        return True

    def stop_reading(self) -> None:
        """Leave unread what the store sends."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def close(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # receiving

    async def response(self, token: bytes) -> Message:
        """The response with this token.

        Raises: Failed, if there is none in time, or the connection ends.
        """

        def find() -> Message | None:
            for place, message in enumerate(self.answers):
                if message.token == token:
                    return self.answers.pop(place)
            return None

        return await self._wait(find, "an answer")

    async def signal(self, code: int) -> Message:
        """The next Pong, or whatever signal has this code.

        Raises: Failed.
        """

        def find() -> Message | None:
            for place, message in enumerate(self.signals):
                if message.code == code:
                    return self.signals.pop(place)
            return None

        return await self._wait(find, f"a {format_code(code)}")

    async def greeted(self) -> Message:
        """The store's CSM.

        Raises: Failed.
        """
        return await self._wait(lambda: self.csm, "its CSM")

    async def raw(self, data: bytes, count: int) -> bytes:
        """Send, and return the next bytes that come, which are not read as messages.

        Nothing else can be read on this connection then. Raises: Failed.
        """
        self._raw = raw = bytearray()
        await self.send(data)
        return await self._wait(
            lambda: bytes(raw[:count]) if len(raw) >= count else None, f"{count} bytes"
        )

    async def over(self, what: str) -> None:
        """Wait until the store has ended the connection.

        Raises: Failed: `what` it was to do so for.
        """
        try:
            async with asyncio.timeout(self.wait_s):
                while self.ended is None:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise Failed(f"the connection was not ended after {what}") from None

    async def _wait(self, find: Callable[[], _Found | None], what: str) -> _Found:
        try:
            async with asyncio.timeout(self.wait_s):
                while (found := find()) is None:
                    if self.ended is not None:
                        raise Failed(f"{self._why()} instead of {what}")
                    self._news.clear()
                    await self._news.wait()
                return found
        except TimeoutError:
            raise Failed(f"waited {self.wait_s:g} s in vain for {what}") from None

    def _why(self) -> str:
        if self.abort is None:
            return str(self.ended)
        return f"{self.ended}, after an Abort{words(self.abort.payload)},"

    def _take(self, message: Message) -> None:
        self.codes.append(message.code)
        if message.code == Code.CSM:
            self.csm = self.csm or message
        elif message.code == Code.PING:
            self._write(format_message(Code.PONG, message.token))
        elif message.code == Code.ABORT:
            self.abort = message
        elif message.code >= _FIRST_SIGNAL:
            self.signals.append(message)
        elif message.code >= _FIRST_RESPONSE:
            self.answers.append(message)
        elif message.code != Code.EMPTY:
            self.asked += 1
            self._write(format_message(next(self._refusals), message.token))

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _end(self, why: str) -> None:
        if self.ended is None:
            self.ended = why
        self._news.set()


def _length(token: bytes, body_length: int) -> int:
    """Bytes of a whole message."""
    return len(format_header(0, len(token), body_length)) + len(token) + body_length
