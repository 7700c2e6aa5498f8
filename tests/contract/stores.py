"""The stores that must keep the contract: name -> how to open one, empty, for one test.

To add a store, write an asynchronous context manager that gives a BlockWriter and cleans up after
itself, and name it in `STORES`.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from eris import BlockWriter, MemoryStore
from kapla.client import RemoteStore, open_store
from kapla.config import Config
from kapla.daemon import Daemon
from kapla.identity.pair import KeyPair
from kapla.storage.access import BlockAccess, Rights, Statistics
from kapla.storage.batching import BatchedStorage
from kapla.storage.database import SqliteSettings
from kapla.urls import parse_store_url

__all__ = ["STORES", "OpenStore"]

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
async def _daemon(listener: str, pair: KeyPair | None = None) -> AsyncIterator[Daemon]:
    """A daemon in the test's own event loop; `{}` in the listener's URL is its directory."""
    with tempfile.TemporaryDirectory(prefix="kapla-") as directory:
        url = parse_store_url(listener.format(directory))
        daemon = Daemon(Config(store=Path(directory) / "blocks.sqlite", listen=(url,)))
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
async def _tcp() -> AsyncIterator[BlockWriter]:
    async with _daemon("coap+tcp://127.0.0.1:0?get&put") as daemon:
        [server] = daemon._servers
        assert isinstance(server, asyncio.Server)
        port = server.sockets[0].getsockname()[1]
        async with RemoteStore(parse_store_url(f"coap+tcp://127.0.0.1:{port}")) as store:
            yield store


@asynccontextmanager
async def _tls() -> AsyncIterator[BlockWriter]:
    async with _daemon("coaps+tcp://127.0.0.1:0?get&put", KeyPair.generate()) as daemon:
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


STORES: Final[dict[str, OpenStore]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "unix": _unix,
    "tcp": _tcp,
    "tls": _tls,
    "list": _list,
}
