"""Many connections to one server, and whatever may happen to them, in any order.

Resets, half-closes, refusals, tasks that are cancelled at any of their steps, answers that come
late or never. Whatever it was: once all have gone and the store has answered, nothing is left.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from eris import reference_of
from eris.errors import StoreUnavailable
from kapla.coap.frame import Code, format_message
from kapla.coap.link import Link
from kapla.storage.access import Rights
from tests.examples import examples
from tests.kapla.coap.harness import (
    ALL_RIGHTS,
    BLOCKS_PATH,
    EMPTY_CSM,
    LARGE,
    SMALL,
    FakeTransport,
    MemoryStorage,
    Server,
    request_bytes,
)

_NAME = (15, reference_of(LARGE))
REQUESTS = {
    "get": request_bytes(Code.GET, [*BLOCKS_PATH, _NAME]),
    "slow get": request_bytes(Code.GET, [*BLOCKS_PATH, _NAME, (23, b"\x06")]),
    "put": request_bytes(Code.PUT, BLOCKS_PATH, SMALL),
    "slow put": request_bytes(Code.PUT, [*BLOCKS_PATH, (3, b"host")], SMALL),
    "fetch": request_bytes(Code.FETCH, BLOCKS_PATH, bytes(32)),
    "nothing": request_bytes(Code.GET, [(11, b"nothing")]),
    "stat": request_bytes(Code.GET, [(11, b"kapla"), (11, b"stat")]),
    "malformed": b"\x10\x01\xf0",
    "response": b"\x00\x45",
    "ping": format_message(Code.PING, b"p"),
}
ENDS = {
    "release": format_message(Code.RELEASE),
    "abort": format_message(Code.ABORT),
    "garbage": b"\xff" * 20,
}
# More turns of the loop than anything here takes, each of which may be the last for a while.
_SETTLED = 200
_MANY = 150


@dataclass
class _Client:
    peer: Link
    transport: FakeTransport
    unread: bytes = b""
    """What the server has not been ready to read."""


class Connections(RuleBasedStateMachine):
    """One server, some clients, a store whose answers wait for `deliver`."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.storage = MemoryStorage([LARGE], hold=True)

    @initialize(rights=st.sampled_from([ALL_RIGHTS, Rights(get=False)]))
    def start(self, rights: Rights) -> None:
        async def make() -> Server:
            return Server(self.storage, rights)

        self.server = self.loop.run_until_complete(make())
        self.clients = [_Client(self.server.peer, self.server.transport)]

    def _do(self, action: object) -> None:
        async def run() -> None:
            assert callable(action)
            action()

        self.loop.run_until_complete(run())

    def _turn(self, count: int) -> None:
        async def turn() -> None:
            for _ in range(count):
                await asyncio.sleep(0)
                self._read()

        self.loop.run_until_complete(turn())

    def _read(self) -> None:
        for client in self.clients:
            if client.unread and client.transport.reading and not client.transport.is_closing():
                data, client.unread = client.unread, b""
                client.peer.data_received(data)

    def _one(self, number: int) -> _Client:
        return self.clients[number % len(self.clients)]

    @rule()
    def connect(self) -> None:
        def act() -> None:
            peer, transport = self.server.connect()
            self.clients.append(_Client(peer, transport, EMPTY_CSM))

        if len(self.clients) < 8:
            self._do(act)

    @rule(
        number=st.integers(0, 7),
        names=st.one_of(
            st.lists(st.sampled_from(sorted(REQUESTS)), min_size=1, max_size=8),
            st.sampled_from(sorted(REQUESTS)).map(lambda name: [name] * _MANY),
        ),
    )
    def ask(self, number: int, names: list[str]) -> None:
        self._one(number).unread += b"".join(REQUESTS[name] for name in names)
        self._do(self._read)

    @rule(number=st.integers(0, 7), end=st.sampled_from(sorted(ENDS)))
    def say_the_end(self, number: int, end: str) -> None:
        self._one(number).unread += ENDS[end]
        self._do(self._read)

    @rule(number=st.integers(0, 7))
    def half_close(self, number: int) -> None:
        client = self._one(number)
        if client.transport.reading and not client.unread and not client.transport.is_closing():
            self._do(client.peer.eof_received)

    @rule(number=st.integers(0, 7), blocked=st.booleans())
    def stop_or_start_listening(self, number: int, blocked: bool) -> None:
        transport = self._one(number).transport
        if transport.lost:
            return
        if blocked:
            transport.blocked = True
        else:
            self._do(transport.unblock)

    @rule(number=st.integers(0, 7))
    def reset(self, number: int) -> None:
        self._do(self._one(number).transport.abort)

    @rule(number=st.integers(0, 7))
    def stop_one(self, number: int) -> None:
        self._do(self._one(number).peer.finish)

    @rule(count=st.integers(0, 5))
    def go_on(self, count: int) -> None:
        self._turn(count)

    @rule(failing=st.booleans())
    def deliver(self, failing: bool) -> None:
        self.storage.failure = StoreUnavailable("so it is") if failing else None
        self._do(self.storage.deliver)

    @rule()
    def cancel_all_tasks(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()

    @invariant()
    def what_is_counted_is_there(self) -> None:
        statistics = self.server.statistics if hasattr(self, "server") else None
        if statistics is not None:
            open_now = len(self.clients) - len(self.server.closed)
            assert statistics.open_connections == open_now
            assert len(set(self.server.closed)) == len(self.server.closed)

    def teardown(self) -> None:
        """All go, the store answers what it still has, and the loop comes to rest."""
        try:
            if hasattr(self, "server"):
                self._leave_and_look()
        finally:
            self.loop.close()

    def _leave_and_look(self) -> None:
        for client in self.clients:
            client.unread = b""
            self._do(client.transport.abort)
        for _ in range(_SETTLED):
            self._turn(1)
            self._do(self.storage.deliver)
            if len(self.server.closed) == len(self.clients):
                break
        self._turn(3)
        assert self.server.statistics.open_connections == 0
        assert {client.peer for client in self.clients} == set(self.server.closed)
        for client in self.clients:
            assert client.peer.answering is not None
            under_way = client.peer.answering.under_way
            assert (under_way.requests, under_way.weight) == (0, 0)
        assert not asyncio.all_tasks(self.loop)
        assert not self.server._line.is_waited_in


TestConnections = Connections.TestCase
TestConnections.settings = settings(
    max_examples=examples(60), stateful_step_count=40, deadline=None
)
