"""The server's end of a connection, driven without a socket over a store in memory."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from eris import reference_of
from eris.errors import ErisError
from eris.model import Reference
from kapla.coap.beyond import Reach
from kapla.coap.caller import NOBODY, Caller
from kapla.coap.connection import Connection
from kapla.coap.fellows import Guests
from kapla.coap.frame import Code, FrameReader, Message, Option, format_message, parse_body
from kapla.coap.link import Link
from kapla.coap.peers import Peers
from kapla.coap.put_rate import PutRates
from kapla.coap.seed import SeedDoor
from kapla.coap.site import AiocoapLane, Remote
from kapla.coap.turns import Line, Turns
from kapla.errors import PinNotFound
from kapla.pins import PinSummary
from kapla.storage.access import BlockAccess, Rights, Statistics
from kapla.storage.batching import BatchedStorage, FindDone, GetDone, PutDone, Wanted, always
from kapla.storage.lending import Lent
from kapla.storage.pinning import OpenPin, Pinning
from kapla.storage.sqlite.keeping.state import Hold
from kapla.storage.sqlite.state import SqliteSettings

__all__ = [
    "ALL_RIGHTS",
    "BLOCKS_PATH",
    "EMPTY_CSM",
    "LARGE",
    "SMALL",
    "SMALL_CSM",
    "FakeTransport",
    "MemoryPinning",
    "MemoryStorage",
    "Server",
    "ask_slow_lane",
    "parse_messages",
    "request_bytes",
]

EMPTY_CSM = b"\x00\xe1"
SMALL_CSM = format_message(Code.CSM, options=[(2, b"\x04\x80"), (4, b"")])
"""A peer that takes messages of 1152 bytes, and pieces."""

ALL_RIGHTS = Rights(get=True, put=True, stat=True)
BLOCKS_PATH: list[Option] = [(11, b".well-known"), (11, b"eris"), (11, b"blocks")]
SMALL = bytes(range(256)) * 4
NO_BLOCK = Reference(b"")
LARGE = bytes(reversed(range(256))) * 128

# Turns of the event loop after which nothing that was going on still does.
_TURNS = 12


class MemoryPinning:
    """What `Pinning` is to the server: pins that hold nothing, by owner and name."""

    def __init__(self) -> None:
        self.open_pins: list[OpenPin] = []
        self.pins: dict[tuple[int, str], PinSummary] = {}
        self.wanted: list[Reference] = []
        self.failure: ErisError | None = None

    def has(self, pin: OpenPin) -> bool:
        return pin in self.open_pins

    def expire(self, pin: OpenPin) -> None:
        self.open_pins.remove(pin)

    async def open(self, owner: int, *, wants: int | None = None) -> OpenPin:
        await asyncio.sleep(0)
        self._check()
        pin = OpenPin(cast(Pinning, self), secrets.token_bytes(16), 1, Hold(owner), wants or 0)
        self.open_pins.append(pin)
        return pin

    async def resume(self, owner: int, token: bytes) -> OpenPin:
        for pin in self.open_pins:
            if (pin.token, pin.hold.owner, pin.is_attached) == (token, owner, False):
                pin.attach()
                return pin
        raise PinNotFound("there is no open pin to go on with")

    async def want(self, pin: OpenPin, references: Sequence[Reference]) -> list[bool]:
        self._check()
        self.wanted += references
        return [False for _ in references]

    async def close(self, pin: OpenPin, **given: Any) -> PinSummary:
        self._check()
        self.open_pins.remove(pin)
        owner, name = pin.hold.owner, given.pop("name") or "root"
        given.pop("incomplete")
        summary = PinSummary(
            name, owner, created=1, small=2, large=3, own_small=4, own_large=5, missing=6, **given
        )
        self.pins[owner, name] = summary
        return summary

    async def abandon(self, pin: OpenPin, *, lend: bool = False) -> int:
        self.open_pins.remove(pin)
        return int(lend)

    async def list(
        self, owner: int | None, after: str | None, most: int
    ) -> tuple[list[PinSummary], str | None]:
        self._check()
        start = int(after or "0")
        found = [pin for pin in self.pins.values() if owner in (None, pin.owner)]
        rest = len(found) > start + most
        return found[start : start + most], str(start + most) if rest else None

    async def change(
        self, owner: int, *, name: str | None, root: Reference | None, **switches: bool | None
    ) -> PinSummary:
        given: dict[str, Any] = {one: on for one, on in switches.items() if on is not None}
        [*names] = self._names(owner, name, root)
        for one in names:
            self.pins[owner, one] = dataclasses.replace(self.pins[owner, one], **given)
        return self.pins[owner, names[-1]]

    async def release(self, owner: int, *, name: str | None, root: Reference | None) -> PinSummary:
        return [self.pins.pop((owner, one)) for one in self._names(owner, name, root)][-1]

    def _names(self, owner: int, name: str | None, root: Reference | None) -> Sequence[str]:
        found = [
            pin.name
            for pin in self.pins.values()
            if pin.owner == owner and (pin.name == name or (root is not None and pin.root == root))
        ]
        if not found:
            raise PinNotFound("there is no such pin")
        return found

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure


class MemoryStorage:
    """What `BatchedStorage` is to the server, in a dict. With `hold` answers wait for `deliver`."""

    def __init__(self, blocks: Iterable[bytes] = (), *, hold: bool = False) -> None:
        self.blocks: dict[Reference, bytes] = {reference_of(block): block for block in blocks}
        self.lent: set[Reference] = set()
        self.pinning = MemoryPinning()
        # Of a store that there is not: whoever lists or copies it finds none.
        self.settings = SqliteSettings(Path("/nonexistent/blocks.sqlite"))
        self.holds: list[Hold | None] = []
        """What each PUT and FETCH came under."""
        self.failure: ErisError | None = None
        self.hold = hold
        self.held: list[Callable[[], None]] = []
        self.batches: list[tuple[str, int]] = []
        self.wanted: list[Wanted] = []

    def get_many(
        self,
        references: Sequence[Reference],
        done: GetDone,
        wanted: Wanted = always,
        group: object = None,
    ) -> None:
        self.batches.append(("get", len(references)))
        self.wanted.append(wanted)
        there = self._there_for(references)
        self._later(lambda: done(self.failure or [self.blocks.get(name) for name in there]))

    def find_many(
        self,
        references: Sequence[Reference],
        done: FindDone,
        wanted: Wanted = always,
        group: object = None,
        hold: Hold | None = None,
    ) -> None:
        self.holds.append(hold)
        self.batches.append(("find", len(references)))
        self.wanted.append(wanted)
        there = self._there_for(references)
        self._later(lambda: done(self.failure or [name in self.blocks for name in there]))

    def put_many(
        self,
        blocks: Sequence[bytes],
        done: PutDone,
        wanted: Wanted = always,
        group: object = None,
        hold: Hold | None = None,
    ) -> None:
        self.holds.append(hold)
        self.batches.append(("put", len(blocks)))
        self.wanted.append(wanted)

        def keep() -> None:
            if self.failure is None:
                self.blocks.update((reference_of(block), block) for block in blocks)
            done(self.failure)

        self._later(keep)

    def deliver(self) -> None:
        """Give the answers that were held back."""
        held, self.held = self.held, []
        for action in held:
            action()

    def _there_for(self, references: Sequence[Reference]) -> Sequence[Reference]:
        """The same, or NO_BLOCK for each that is not there for whoever asks."""
        if not isinstance(references, Lent):
            return references
        return [name if name in self.lent else NO_BLOCK for name in references]

    def _later(self, action: Callable[[], None]) -> None:
        if self.hold:
            self.held.append(action)
        else:
            asyncio.get_running_loop().call_soon(action)


class _FakeSocket:
    """A Unix socket to which somebody connected."""

    family = socket.AF_UNIX

    def __init__(self, uid: int) -> None:
        self._credentials = struct.pack("iII", 1, uid, uid)

    def getsockopt(self, level: int, option: int, size: int = 0) -> int | bytes:
        return self._credentials if option == socket.SO_PEERCRED else 0

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """There are no buffers here."""


class FakeTransport(asyncio.Transport):
    """Keeps what is written. With `blocked` the peer takes nothing: see `unblock`.

    With `uid` it is that of a Unix socket.
    """

    def __init__(self, protocol: asyncio.Protocol, uid: int | None = None) -> None:
        super().__init__(None if uid is None else {"socket": _FakeSocket(uid)})
        self.output = bytearray()
        self.reading = True
        self.blocked = False
        self.lost = False
        self._protocol = protocol
        self._closing = False
        self._high = 64 * 1024
        self._unsent = 0
        self._paused = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self._high = high

    def get_write_buffer_size(self) -> int:
        return self._unsent

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.lost, "written to a lost connection"
        self.output += data
        if self.blocked:
            self._unsent += len(data)
            if self._unsent > self._high and not self._paused:
                self._paused = True
                self._protocol.pause_writing()

    def unblock(self) -> None:
        """The peer has taken everything."""
        self.blocked = False
        self._unsent = 0
        if self._paused:
            self._paused = False
            self._protocol.resume_writing()
        if self._closing:
            self._lose()

    def take(self, count: int) -> None:
        """The peer has taken so many bytes, and leaves the rest."""
        self._unsent = max(0, self._unsent - count)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        self.reading = False
        if not self._unsent:
            self._lose()

    def abort(self) -> None:
        self._closing = True
        self.reading = False
        self._lose()

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading and not self._closing
        self.reading = True

    def _lose(self) -> None:
        if not self.lost:
            self.lost = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)


async def _report() -> dict[str, object]:
    return {"blocks": {}}


class _Peers(Peers):
    """Remembers who has left, and may greet with a refusal or a stop."""

    def __init__(
        self,
        server: Server,
        *,
        refused: bool,
        stopped: bool,
        put_rates: PutRates | None,
        guests: Guests | None,
        beyond: Reach | None,
        seeds: SeedDoor | None,
    ) -> None:
        most = 0 if refused else 1 << 20
        super().__init__(
            server._access,
            server.lane,
            server._line,
            most,
            lambda: None,
            put_rates=put_rates,
            guests=guests,
            reach=beyond,
            seeds=seeds,
        )
        self._closed = server.closed
        if stopped:
            self.finish()

    def closed(self, link: Link) -> None:
        self._closed.append(link)
        super().closed(link)


class Server:
    """One connection to a server in memory."""

    def __init__(
        self,
        storage: MemoryStorage | None = None,
        rights: Rights = ALL_RIGHTS,
        csm: bytes = EMPTY_CSM,
        *,
        refused: bool = False,
        stopped: bool = False,
        uid: int | None = None,
        put_rates: PutRates | None = None,
        guests: Callable[[Server], Guests | None] = lambda server: None,
        beyond: Reach | None = None,
        seeds: SeedDoor | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.storage = storage or MemoryStorage()
        self.statistics = Statistics()
        self.closed: list[Link] = []
        self._access = BlockAccess(cast(BatchedStorage, self.storage), rights, self.statistics)
        self.lane = AiocoapLane(self._access, _report)
        self.turns = Turns(clock)
        self._line = self.turns.line()
        self._peers = _Peers(
            self,
            refused=refused,
            stopped=stopped,
            put_rates=put_rates,
            guests=guests(self),
            beyond=beyond,
            seeds=seeds,
        )
        self.peer, self.transport = self.connect(uid)
        if csm:
            self.feed(csm)

    def connect(self, uid: int | None = None) -> tuple[Link, FakeTransport]:
        """Let a peer connect: a user on a Unix socket, or somebody on TCP."""
        peer = self._peers.connect()
        transport = FakeTransport(peer, uid)
        peer.connection_made(transport)
        return peer, transport

    @property
    def peers(self) -> Peers:
        """All connections."""
        return self._peers

    @property
    def line(self) -> Line:
        """The place of all these connections among listeners."""
        return self._line

    def connect_others(self, count: int) -> list[FakeTransport]:
        """Let other peers connect; they say nothing."""
        return [self.connect()[1] for _ in range(count)]

    def feed(self, data: bytes) -> None:
        """Let bytes arrive, in reads of the size that asyncio uses."""
        for start in range(0, len(data), 1 << 18):
            self.peer.data_received(data[start : start + (1 << 18)])

    async def settle(self) -> None:
        """Let everything happen that can."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def messages(self) -> list[Message]:
        """All that was sent so far, our CSM included."""
        return parse_messages(bytes(self.transport.output))

    def responses(self) -> list[Message]:
        """The responses that were sent so far."""
        return [message for message in self.messages() if message.code < Code.CSM]

    async def ask(self, data: bytes) -> Message:
        """Send one request; returns its response."""
        before = len(self.transport.output)
        self.feed(data)
        await self.settle()
        (response,) = parse_messages(bytes(self.transport.output[before:]))
        return response


def parse_messages(stream: bytes) -> list[Message]:
    """Read a stream that must hold whole messages."""
    reader = FrameReader(1 << 24)
    messages = []
    for code, token, buffer, start, stop in reader.feed(stream):
        options, payload = parse_body(buffer, start, stop)
        messages.append(Message(code, token, options, payload))
    assert reader.failure is None
    return messages


def request_bytes(
    code: int, options: Iterable[Option] = (), payload: bytes = b"", token: bytes = b"t"
) -> bytes:
    """A request; the options are put in order."""
    return format_message(code, token, sorted(options, key=lambda option: option[0]), payload)


async def ask_slow_lane(
    data: bytes,
    storage: MemoryStorage,
    rights: Rights,
    caller: Caller = NOBODY,
) -> Message:
    """The answer of the aiocoap lane to a request, whatever the fast lane would do with it."""
    connection = Connection()
    connection.receive(EMPTY_CSM)
    (frame,) = connection.receive(data)
    access = BlockAccess(cast(BatchedStorage, storage), rights, Statistics())
    lane = AiocoapLane(access, _report)
    remote = Remote(connection)
    remote.caller = caller
    (response,) = parse_messages(await lane.answer(frame, remote))
    return response
