"""A door in this process, over a store in memory, on a clock that can be put forward."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import cast

from eris.model import Reference
from kapla.coap.allowance import Allowance
from kapla.coap.turns import Turns
from kapla.http.door.answering import Answering
from kapla.http.serving.connections import ConnectionLimits
from kapla.http.settings import parse_http
from kapla.http.turns.listener import Listener
from kapla.http.wire.n2r import format_n2r
from kapla.sockets import bind_tcp
from kapla.storage.access import BlockAccess, Rights, Statistics
from kapla.storage.batching import BatchedStorage
from tests.guix_glue.publish.serving import Connect
from tests.kapla.coap.harness import MemoryStorage

__all__ = ["Door", "a_batch", "a_door", "a_get"]


def a_get(reference: Reference) -> bytes:
    """A request for a block."""
    return f"GET {format_n2r(reference)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def a_batch(references: Iterable[Reference]) -> bytes:
    """A request for many."""
    body = b"".join(references)
    return (
        b"POST /kapla/blocks HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )


class Door(Connect):
    """Connects to a door, and knows what it counts."""

    def __init__(self, family: int, address: object, statistics: Statistics) -> None:
        super().__init__(family, address)
        self.statistics = statistics


@asynccontextmanager
async def a_door(
    storage: MemoryStorage,
    limits: ConnectionLimits | None = None,
    allowance: Allowance | None = None,
) -> AsyncIterator[Door]:
    """A door with these limits, which lends what the store has as lent."""
    (listening,) = bind_tcp(parse_http("127.0.0.1:0")[0])
    statistics = Statistics()
    access = BlockAccess(cast(BatchedStorage, storage), Rights(get=False, lend=True), statistics)
    line = Turns().line()
    limits = limits or ConnectionLimits()
    listener = Listener(Answering(access), line, statistics, limits, 5.0, allowance)
    await listener.start([listening])
    door = Door(listening.family, listening.getsockname(), statistics)
    try:
        yield door
    finally:
        for client in door.clients:
            client.close()
        await listener.stop()
