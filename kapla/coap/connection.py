"""One RFC 8323 connection as a value: signalling, limits, state. No I/O; both ends use it.

`receive(data)` returns the requests and responses, leaves what must be sent in `take_output()`, and
says in `closing` when the connection is over. A peer must begin with a CSM; it is told why it is
aborted.

Source: RFC 8323 sections 3.3, 3.4 and 5.
"""

from __future__ import annotations

from typing import Final

from kapla.coap.frame import (
    DEFAULT_MAX_MESSAGE_SIZE,
    Code,
    Frame,
    FrameReader,
    MalformedMessage,
    Option,
    encode_uint,
    format_message,
    is_critical,
    parse_body,
)

__all__ = ["Closing", "Connection", "is_request", "is_response", "pong_with_custody"]

_CSM_MAX_MESSAGE_SIZE: Final = 2
_CSM_BLOCK_WISE: Final = 4
_ABORT_BAD_CSM_OPTION: Final = 2
_CUSTODY: Final = 2
_BASE_MESSAGE_SIZE: Final = 1152
# What stands around a payload: header, token, a few options.
_AROUND: Final = 64
_WHOLE_BLOCK_MESSAGE: Final = 32768 + _AROUND
# Of a payload in pieces, and the least that a message has to hold so that a piece fits.
_SMALLEST_PIECE: Final = 16
_LEAST_MESSAGE_SIZE: Final = _SMALLEST_PIECE + _AROUND

# In one read. Each costs as much as a request and brings nothing.
_MAX_SIGNALS: Final = 64

_FIRST_RESPONSE_CODE: Final = 0x40
_FIRST_SIGNAL_CODE: Final = 0xE0


class Closing(Exception):
    """Why a connection is over."""

    def __init__(self, reason: str, *, aborted: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.aborted = aborted


class Connection:
    """The state of one connection."""

    def __init__(
        self, max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE, *, hands_on_custody: bool = False
    ) -> None:
        """`hands_on_custody`: whether Pings with Custody are returned among the requests.

        Whoever answers these answers such a Ping, too, after all that came before it.
        """
        self._hands_on_custody = hands_on_custody
        self.closing: Closing | None = None
        self.released = False
        """Whether the peer wants the connection to end once everything is answered."""
        self.peer_known = False
        """Whether the peer's CSM has arrived."""
        self.peer_max_message_size = _BASE_MESSAGE_SIZE
        self.peer_block_wise = False
        self._csm_was_empty = True
        self._reader = FrameReader(max_message_size)
        self._output: list[bytes] = [
            format_message(
                Code.CSM,
                options=[
                    (_CSM_MAX_MESSAGE_SIZE, encode_uint(max_message_size)),
                    (_CSM_BLOCK_WISE, b""),
                ],
            )
        ]

    @property
    def takes_whole_blocks(self) -> bool:
        """Whether a block of 32 KiB may be sent in one message.

        By the letter an empty CSM means 1152 bytes; but the program known to send one (eris-nim)
        takes whole blocks and cannot put pieces together.
        """
        if self._csm_was_empty:
            return True
        return self.peer_max_message_size >= _WHOLE_BLOCK_MESSAGE

    @property
    def piece_size(self) -> int:
        """How long a piece of a payload may be: a power of two, from 16 to 1024 bytes."""
        room = min(1024, self.peer_max_message_size - _AROUND)
        return 1 << room.bit_length() - 1

    def receive(self, data: bytes) -> list[Frame]:
        """Take the next bytes; returns requests and responses, in order.

        Nothing is returned from behind the place where the connection ended.
        """
        if self.closing is not None:
            return []
        frames = self._reader.feed(data)
        # The rule is a known peer that sends no signals: one look at each code, no copying.
        if not self.peer_known or any(
            frame[0] >= _FIRST_SIGNAL_CODE or frame[0] == Code.EMPTY for frame in frames
        ):
            frames = self._sort_out(frames)
        if self._reader.failure is not None and self.closing is None:
            self.abort(str(self._reader.failure))
        return frames

    @property
    def has_output(self) -> bool:
        """Whether something is to be sent."""
        return bool(self._output)

    def take_output(self) -> bytes:
        """Hand out what is to be sent, at first our CSM."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def abort(self, reason: str, *, bad_csm_option: int | None = None) -> None:
        """End the connection, telling the peer why."""
        options: list[Option] = []
        if bad_csm_option is not None:
            options = [(_ABORT_BAD_CSM_OPTION, encode_uint(bad_csm_option))]
        self._output.append(
            format_message(Code.ABORT, options=options, payload=reason.encode("utf-8"))
        )
        self.closing = Closing(reason, aborted=True)

    def release(self) -> None:
        """End the connection in an orderly way: no new requests after this."""
        if self.closing is None:
            self._output.append(format_message(Code.RELEASE))
            self.closing = Closing("released by this side", aborted=False)

    def reply(self, message: bytes) -> None:
        """Send a message with the next output."""
        self._output.append(message)

    def ping(self, token: bytes) -> None:
        """Ask the peer for a sign of life."""
        self._output.append(format_message(Code.PING, token))

    def _sort_out(self, frames: list[Frame]) -> list[Frame]:
        kept: list[Frame] = []
        signals = 0
        for frame in frames:
            code = frame[0]
            if code >= _FIRST_SIGNAL_CODE:
                signals += 1
                if signals > _MAX_SIGNALS:
                    self.abort("too many signals at once")
                elif self._signal(frame):
                    kept.append(frame)
            elif not self.peer_known:
                self.abort("the first message was not a CSM")
            elif code != Code.EMPTY:  # an empty message is a keep-alive
                kept.append(frame)
            if self.closing is not None:
                break
        return kept

    def _signal(self, frame: Frame) -> bool:
        """Take a signal; returns whether it has to be handed on."""
        code, token, buffer, start, stop = frame
        try:
            options, payload = parse_body(buffer, start, stop)
        except MalformedMessage as error:
            self.abort(f"malformed signal: {error}")
            return False
        if code == Code.CSM:
            self._read_csm(options)
        elif not self.peer_known:
            self.abort("the first message was not a CSM")
        elif code == Code.RELEASE:
            # Section 5.5: what was asked before is still answered, by either side.
            self.released = True
        elif code == Code.ABORT:
            # A few words for the log; never more than a line of them, and printable.
            words = payload[:200].decode("utf-8", "replace")
            printable = "".join(letter if letter.isprintable() else "?" for letter in words)
            self.closing = Closing(f"aborted by the peer: {printable or 'no reason'}", aborted=True)
        elif code not in (Code.PING, Code.PONG):
            # A later standard's signal. It cannot be answered, and nothing here depends on it.
            return False
        elif any(is_critical(number) for number, _ in options):
            self.abort("unknown critical option in a signal")
        elif code == Code.PING:
            # Section 5.4.1: Custody asks that all before it be answered first.
            if self._hands_on_custody and any(number == _CUSTODY for number, _ in options):
                return True
            self._output.append(format_message(Code.PONG, token))
        return False

    def _read_csm(self, options: tuple[Option, ...]) -> None:
        self.peer_known = True
        for number, value in options:
            if number == _CSM_MAX_MESSAGE_SIZE and len(value) <= 4:
                self._csm_was_empty = False
                size = int.from_bytes(value, "big")
                # Where nothing fits in, it makes no sense.
                self.peer_max_message_size = (
                    size if size >= _LEAST_MESSAGE_SIZE else _BASE_MESSAGE_SIZE
                )
            elif number == _CSM_BLOCK_WISE:
                self._csm_was_empty = False
                self.peer_block_wise = True
            elif is_critical(number):
                self.abort("unknown critical option in a CSM", bad_csm_option=number)
                return


def is_request(code: int) -> bool:
    """Whether a message of this code asks for something."""
    return Code.EMPTY < code < _FIRST_RESPONSE_CODE


def is_response(code: int) -> bool:
    """Whether a message of this code answers a request."""
    return _FIRST_RESPONSE_CODE <= code < _FIRST_SIGNAL_CODE


def pong_with_custody(token: bytes) -> bytes:
    """The answer to a Ping with Custody, where all that came before it was answered."""
    return format_message(Code.PONG, token, [(_CUSTODY, b"")])
