"""The stores that must keep the contract: name -> how to open one, empty, for one test.

To add a store, write an asynchronous context manager that gives a BlockWriter and cleans up after
itself, and name it in `STORES`.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from eris import (
    BlockNotFound,
    BlockSize,
    BlockWriter,
    CorruptBlock,
    MemoryStore,
    Reference,
    reference_of,
)
from kapla.client import RemoteStore, open_store
from kapla.config import Config
from kapla.daemon import Daemon
from kapla.file_store import FileStore
from kapla.http.asking.store import HttpStore
from kapla.identity.pair import KeyPair
from kapla.peer_config import PeerSettings
from kapla.storage.access import BlockAccess, Rights, Statistics
from kapla.storage.batching import BatchedStorage
from kapla.storage.sqlite.database import SqliteSettings
from kapla.urls import StoreUrl, parse_store_url
from tests.kapla.http.servers import Blocks, Gateway, Resolver, serving

__all__ = ["ONE_BY_ONE", "STORES", "OpenStore"]

# Nothing that works comes near it.
_GUARD_S: Final = 30

OpenStore = Callable[[], AbstractAsyncContextManager[BlockWriter]]


@asynccontextmanager
async def _memory() -> AsyncIterator[BlockWriter]:
    yield MemoryStore()


@asynccontextmanager
async def _sqlite() -> AsyncIterator[BlockWriter]:
    """A database file, as the handlers of a daemon use it."""
    with tempfile.TemporaryDirectory(prefix="kapla-") as directory:
        storage = BatchedStorage(SqliteSettings(Path(directory) / "blocks.sqlite"))
        await storage.open()
        try:
            yield BlockAccess(storage, Rights(put=True), Statistics())
        finally:
            await storage.close()


@asynccontextmanager
async def _daemon(
    listener: str, *peers: StoreUrl, pair: KeyPair | None = None
) -> AsyncIterator[Daemon]:
    """A daemon in the test's own event loop; `{}` in the listener's URL is its directory."""
    with tempfile.TemporaryDirectory(prefix="kapla-") as directory:
        url = parse_store_url(listener.format(directory))
        config = Config(
            store=Path(directory) / "blocks.sqlite",
            listen=(url,),
            peers=tuple(PeerSettings(peer) for peer in peers),
        )
        daemon = Daemon(config)
        # Not that of whoever runs the tests.
        daemon._pair = pair
        try:
            await daemon.start()
            yield daemon
        finally:
            await daemon.stop()


@asynccontextmanager
async def _unix() -> AsyncIterator[BlockWriter]:
    async with _daemon("coap+unix://{}/eris.sock") as daemon:
        [url] = daemon._config.listen
        async with RemoteStore(url) as store:
            yield store


@asynccontextmanager
async def _file() -> AsyncIterator[BlockWriter]:
    """A file without a daemon."""
    with tempfile.TemporaryDirectory(prefix="kapla-") as directory:
        url = parse_store_url(f"file://{directory}/blocks.sqlite")
        async with FileStore(url) as store:
            # Which makes it.
            assert await store.takes_blocks()
            yield store


@asynccontextmanager
async def _tcp() -> AsyncIterator[BlockWriter]:
    async with (
        _daemon("coap+tcp://127.0.0.1:0?get&put") as daemon,
        RemoteStore(_tcp_url(daemon)) as store,
    ):
        yield store


def _tcp_url(daemon: Daemon) -> StoreUrl:
    [server] = daemon._servers
    assert isinstance(server, asyncio.Server)
    port = server.sockets[0].getsockname()[1]
    return parse_store_url(f"coap+tcp://127.0.0.1:{port}")


@asynccontextmanager
async def _tls() -> AsyncIterator[BlockWriter]:
    async with _daemon("coaps+tcp://127.0.0.1:0?get&put", pair=KeyPair.generate()) as daemon:
        port = daemon._servers[0].sockets[0].getsockname()[1]
        assert daemon._pair is not None
        url = f"coaps+tcp://127.0.0.1:{port}#{daemon._pair.public}"
        async with RemoteStore(parse_store_url(url)) as store:
            yield store


@asynccontextmanager
async def _list() -> AsyncIterator[BlockWriter]:
    """Two stores as one: the first takes what is put, the second never has anything."""
    async with (
        _daemon("coap+unix://{}/eris.sock") as first,
        _daemon("coap+unix://{}/eris.sock") as second,
        open_store([*first._config.listen, *second._config.listen]) as store,
    ):
        yield store


@asynccontextmanager
async def _with_a_peer() -> AsyncIterator[BlockWriter]:
    """A daemon that asks another for what it lacks, which never has anything."""
    async with _daemons() as (near, far):
        await _until_it_asks(near, far)
        yield near


@asynccontextmanager
async def _through_a_daemon() -> AsyncIterator[BlockWriter]:
    """What is put into a far daemon is got through a near one, which asks it."""
    async with _daemons() as (near, far):
        await _until_it_asks(near, far)
        yield _Between(near, far)


@asynccontextmanager
async def _daemons() -> AsyncIterator[tuple[RemoteStore, RemoteStore]]:
    async with (
        _daemon("coap+tcp://127.0.0.1:0?get&put") as far,
        _daemon("coap+unix://{}/eris.sock", _tcp_url(far)) as near,
        RemoteStore(near._config.listen[0]) as near_store,
        RemoteStore(_tcp_url(far)) as far_store,
    ):
        yield near_store, far_store


async def _until_it_asks(near: RemoteStore, far: RemoteStore) -> None:
    """Wait until one daemon has dialled the other: then it gives what only that has."""
    async with asyncio.timeout(_GUARD_S):
        while True:
            block = os.urandom(BlockSize.SMALL)
            await far.put(reference_of(block), block)
            try:
                await near.get(reference_of(block), BlockSize.SMALL)
            except BlockNotFound:
                continue
            return


class _Between:
    """A store whose reader and writer are at different daemons.

    Which blocks there are is asked where they are put: what peers have does not count as stored.
    """

    def __init__(self, near: RemoteStore, far: RemoteStore) -> None:
        self.get = near.get
        self.put = far.put
        self.find = far.find


class _OverHttp:
    """A store that is read over HTTP; what is put goes to the server by another way."""

    def __init__(self, store: HttpStore, server: Blocks) -> None:
        self.get = store.get
        self.find = store.find
        self._server = server

    async def put(self, reference: Reference, block: bytes) -> None:
        if len(block) not in set(BlockSize) or reference_of(block) != reference:
            raise CorruptBlock(reference)
        self._server.add(block)


@asynccontextmanager
async def _over_http(scheme: str, server: Resolver | Gateway) -> AsyncIterator[BlockWriter]:
    async with serving(server) as port:
        url = parse_store_url(f"{scheme}://127.0.0.1:{port}")
        async with HttpStore(url, timeout_s=_GUARD_S, connect_timeout_s=_GUARD_S) as store:
            yield _OverHttp(store, server)


ONE_BY_ONE: Final = ("n2r", "gateway")
"""Those that are asked about each block by itself: not for ten thousand of them in a test."""

STORES: Final[dict[str, OpenStore]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "file": _file,
    "unix": _unix,
    "tcp": _tcp,
    "tls": _tls,
    "list": _list,
    "with a peer": _with_a_peer,
    "through a daemon": _through_a_daemon,
    "n2r": lambda: _over_http("http", Resolver(has_batch=False)),
    "batch": lambda: _over_http("http", Resolver()),
    "gateway": lambda: _over_http("ipfs+http", Gateway()),
}
