"""A seed's end of its connection to a daemon: it says what it is, and is then asked for blocks.

What arrives in one read is handed to threads some blocks at a time, and answered in whatever order
it is made. A block that takes long goes to other threads (`slowly.py`), so that it holds up no
other. The daemon has a bounded number of questions under way; one that had more would not be read
from until there is room.

Source: docs/wire.md, "Seeds".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol

from eris.base32 import parse_base32_reference
from eris.errors import StoreUnavailable
from eris.model import Reference
from kapla.coap.blocks import (
    BLOCKS_PATHS,
    SEED_PATH,
    BadRequest,
    error_of_code,
    get_options_by_size,
    pack_bitmap,
    split_references,
)
from kapla.coap.connection import Connection, is_request, is_response
from kapla.coap.fast_lane import answer_block, answer_empty
from kapla.coap.frame import (
    Code,
    Frame,
    MalformedMessage,
    OptionNumber,
    format_message,
    parse_body,
)
from kapla.coap.slowly import Later, Slowly
from kapla.coap.sockets import widen_output

__all__ = ["LONGEST_S", "BlockMaker", "Later", "Offering"]

# Of one piece of work: little enough that several threads have something to do.
_AT_ONCE: Final = 16
# Questions that may wait: four times what a daemon of ours has under way.
_MOST_WAITING: Final = 1024
# A daemon that hears nothing for five seconds takes a seed for one that is away.
LONGEST_S: Final = 4.0
_LETTERS: Final = 52
_TOKEN: Final = b"\x01"
_Asked = tuple[Reference, bytes, bool]
"""A GET: the reference, its token, whether it is for somebody near."""
_BLOCKS: Final = frozenset(tuple(part.encode() for part in path) for path in BLOCKS_PATHS)


class BlockMaker(Protocol):
    """What makes blocks. Both are called by several threads at once, and never raise.

    `near`: whether it is asked for somebody of this machine or near it, for whom it may cost much.
    """

    def make(
        self, references: Sequence[Reference], *, near: bool
    ) -> Sequence[bytes | Later | None]:
        """For each the block, compared with its reference; or what makes it; or None."""
        ...

    def find(self, references: Sequence[Reference], *, near: bool) -> Sequence[bool]:
        """For each whether `make` would give it."""
        ...


class Offering(asyncio.Protocol):
    """One connection. `workers` make blocks, `slow` those that take long.

    `at_once`: how many pieces of work are under way. `longest_s`: how long anybody waits for one.
    """

    def __init__(
        self,
        maker: BlockMaker,
        workers: Executor,
        slow: Executor,
        *,
        at_once: int,
        longest_s: float = LONGEST_S,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._maker = maker
        self._workers = workers
        self._at_once = at_once
        self._loop = loop
        self._connection = Connection()
        self._transport: asyncio.Transport | None = None
        self._gets: deque[_Asked] = deque()
        self._finds: deque[tuple[list[Reference], bytes, bool]] = deque()
        self._running = 0
        self._later: Slowly[_Asked] = Slowly(
            slow,
            longest_s,
            on_made=self._give_same,
            on_again=self._make_again,
            on_late=self._refuse,
        )
        self._writable = True
        self._reading = True
        self.accepted: asyncio.Future[None] = loop.create_future()
        """Done when the daemon takes this connection for a seed's; else it has the reason."""
        self.ended: asyncio.Future[str] = loop.create_future()
        """Done when the connection has ended, with the reason."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the daemon, and say what we are."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        path = [(int(OptionNumber.URI_PATH), part.encode()) for part in SEED_PATH]
        post = format_message(Code.POST, _TOKEN, path)
        widen_output(transport)
        self._write(self._connection.take_output() + post)

    def data_received(self, data: bytes) -> None:
        """Read what arrived."""
        for frame in self._connection.receive(data):
            self._take(frame)
        if self._connection.has_output:
            self._write(self._connection.take_output())
        if self._connection.closing is not None:
            self._end(self._connection.closing.reason)
        elif self._connection.released:
            self._end("the daemon is shutting down")
        else:
            self._work()

    def pause_writing(self) -> None:
        """Make no more while the daemon does not take what is made."""
        self._writable = False

    def resume_writing(self) -> None:
        """Go on."""
        self._writable = True
        self._work()

    def connection_lost(self, error: Exception | None) -> None:
        """It is over."""
        self._transport = None
        reason = getattr(error, "strerror", None) or "the daemon has ended the connection"
        self._fail(reason)

    def close(self) -> None:
        """End it in order."""
        self._connection.release()
        self._write(self._connection.take_output())
        self._end("closed by this side")

    # questions

    def _take(self, frame: Frame) -> None:
        code, token, buffer, start, stop = frame
        if code == Code.GET and (near := _COMMON.get(stop - start)) is not None:
            # Nearly all are of one of four shapes, down to the byte.
            for before, behind, is_near in near:
                at = start + len(before)
                end = at + _LETTERS
                if buffer.startswith(before, start) and buffer[end:stop] == behind:
                    with suppress(ValueError):
                        reference = Reference(parse_base32_reference(buffer[at:end]))
                        self._gets.append((reference, token, is_near))
                        return
        if is_request(code):
            try:
                self._ask(frame)
            except (BadRequest, MalformedMessage) as error:
                self._write(format_message(Code.BAD_REQUEST, token, payload=str(error).encode()))
        elif is_response(code) and token == _TOKEN and not self.accepted.done():
            self._take_answer(frame)

    def _take_answer(self, frame: Frame) -> None:
        code, _, buffer, start, stop = frame
        if code == Code.CHANGED:
            self.accepted.set_result(None)
            return
        try:
            payload = parse_body(buffer, start, stop)[1]
        except MalformedMessage:
            payload = b""
        self.accepted.set_exception(error_of_code(code, b"", payload, is_get=False))

    def _ask(self, frame: Frame) -> None:
        code, token, buffer, start, stop = frame
        options, payload = parse_body(buffer, start, stop)
        path = tuple(value for number, value in options if number == OptionNumber.URI_PATH)
        near = any(number == OptionNumber.NEAR for number, _ in options)
        if path not in _BLOCKS:
            self._write(answer_empty(Code.NOT_FOUND, token))
        elif code == Code.GET:
            queries = [value for number, value in options if number == OptionNumber.URI_QUERY]
            self._gets.append((_reference(queries), token, near))
        elif code == Code.FETCH:
            self._finds.append((split_references(payload), token, near))
        else:
            self._write(answer_empty(Code.METHOD_NOT_ALLOWED, token))

    def _work(self) -> None:
        while self._running < self._at_once and self._writable:
            if self._finds:
                references, token, near = self._finds.popleft()
                find = partial(self._maker.find, references, near=near)
                self._start(self._workers, find, partial(self._tell, token))
            elif self._gets:
                asked = self._next_gets()
                references = [reference for reference, _, _ in asked]
                make = partial(self._maker.make, references, near=asked[0][2])
                self._start(self._workers, make, partial(self._give, asked))
            else:
                break
        waiting = len(self._gets) + len(self._finds) + self._later.waiting
        self._read_on(waiting < _MOST_WAITING)

    def _next_gets(self) -> list[_Asked]:
        """Some that may be answered together: all for somebody near, or none."""
        near = self._gets[0][2]
        asked: list[_Asked] = []
        while self._gets and len(asked) < _AT_ONCE and self._gets[0][2] == near:
            asked.append(self._gets.popleft())
        return asked

    def _start(
        self, threads: Executor, work: Callable[[], Any], then: Callable[[Any], None]
    ) -> None:
        self._running += 1
        future = self._loop.run_in_executor(threads, work)
        future.add_done_callback(partial(self._done, then))

    def _done(self, then: Callable[[Any], None], future: asyncio.Future[Any]) -> None:
        self._running -= 1
        if not self.ended.done():
            then(_result(future))
            self._work()

    # answers

    def _tell(self, token: bytes, found: Sequence[bool] | None) -> None:
        if found is None:
            self._write(answer_empty(Code.SERVICE_UNAVAILABLE, token))
        else:
            self._write(format_message(Code.CONTENT, token, payload=pack_bitmap(found)))

    def _give(self, asked: Sequence[_Asked], made: Sequence[bytes | Later | None] | None) -> None:
        answers = []
        for place, one in enumerate(asked):
            block = None if made is None else made[place]
            if block is None or isinstance(block, bytes):
                answers.append(_answer(one[1], block))
            else:
                self._later.add(one, block, near=one[2])
        if answers:
            self._write(b"".join(answers))

    def _give_same(self, asked: Sequence[_Asked], block: bytes | None) -> None:
        self._write(b"".join(_answer(token, block) for _, token, _ in asked))

    def _make_again(self, asked: Sequence[_Asked]) -> None:
        self._gets.extend(asked)
        self._work()

    def _refuse(self, asked: Sequence[_Asked]) -> None:
        """It may be made all the same, for who comes next."""
        busy = Code.SERVICE_UNAVAILABLE
        self._write(b"".join(answer_empty(busy, token) for _, token, _ in asked))

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _read_on(self, reading: bool) -> None:
        transport = self._transport
        if reading == self._reading or transport is None or transport.is_closing():
            return
        self._reading = reading
        if reading:
            transport.resume_reading()
        else:
            transport.pause_reading()

    # ending

    def _end(self, reason: str) -> None:
        self._fail(reason)
        if self._transport is not None:
            # What was written goes out, for as long as the daemon takes it.
            self._transport.close()

    def _fail(self, reason: str) -> None:
        self._gets.clear()
        self._finds.clear()
        self._later.forget()
        if not self.accepted.done():
            self.accepted.set_exception(StoreUnavailable(reason))
            # Maybe nobody waits for it.
            self.accepted.exception()
        if not self.ended.done():
            self.ended.set_result(reason)


def _common_shapes() -> dict[int, list[tuple[bytes, bytes, bool]]]:
    """What stands before and behind the reference in a GET of the daemon's, by its length."""
    found: dict[int, list[tuple[bytes, bytes, bool]]] = {}
    for near in (False, True):
        for before, behind in get_options_by_size((), 1, near=near).values():
            found.setdefault(len(before) + _LETTERS + len(behind), []).append(
                (before, behind, near)
            )
    return found


_COMMON: Final = _common_shapes()


def _reference(queries: Sequence[bytes]) -> Reference:
    if len(queries) != 1 or len(queries[0]) != _LETTERS:
        raise BadRequest("a GET has one query: a reference as 52 letters of Base32")
    try:
        return Reference(parse_base32_reference(queries[0]))
    except ValueError:
        raise BadRequest("the query is not upper-case Base32") from None


def _answer(token: bytes, block: bytes | None) -> bytes:
    return answer_empty(Code.NOT_FOUND, token) if block is None else answer_block(token, block)


def _result(future: asyncio.Future[Any]) -> Any:
    """What came of it; None if threads are being ended, or somebody made a mistake."""
    if future.cancelled() or future.exception() is not None:
        return None
    return future.result()
