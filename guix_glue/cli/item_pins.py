"""The pins of a publisher's items in a Kapla store, over connections of their own.

A connection has one open pin, so each item that is being baked has a connection; they are used
again. Two publishers on one store do not see each other's pins: the names differ.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from eris.model import Reference
from guix_glue.publish.item_pins import OpenedPin, PinnedItem, PinningStore
from kapla.cli.common import Store
from kapla.client import open_store
from kapla.errors import PinNotFound, PinsUnsupported
from kapla.pinning import OpenPin, Pins
from kapla.urls import StoreUrl

__all__ = ["StorePins"]

_log = logging.getLogger(__name__)

_PREFIX: Final = "kapla-publish"


class _Held:
    """A pin that is open in the store."""

    def __init__(self, store: PinningStore, pin: OpenPin, prefix: str) -> None:
        self.store = store
        self._pin = pin
        self._prefix = prefix

    async def want(self, references: Sequence[Reference]) -> list[bool]:
        return await self._pin.want(references)

    async def keep(self, key: str, root: Reference) -> None:
        await self._pin.close(name=self._prefix + key, root=root, lend=True)


class _Unpinned:
    """Stands for a pin in a store without any."""

    def __init__(self, store: PinningStore) -> None:
        self.store = store

    async def want(self, references: Sequence[Reference]) -> list[bool]:
        return await self.store.find(references)

    async def keep(self, key: str, root: Reference) -> None:
        pass


class StorePins:
    """The pins of the publisher that is called `identity`. `close()` it."""

    def __init__(self, urls: Sequence[StoreUrl], identity: str) -> None:
        self._urls = urls
        self._prefix = f"{_PREFIX}-{identity}/"
        self._stores: list[Store] = []
        self._idle: list[Store] = []
        self._has_warned = False

    async def close(self) -> None:
        """Close all connections."""
        for store in self._stores:
            await store.close()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[OpenedPin]:
        """See `ItemPins`."""
        async with self._connection() as store:
            taker = await store.taker()
            try:
                pin = await Pins(taker).open()
            except PinsUnsupported as error:
                self._warn(error)
                pin = None
            if pin is None:
                yield _Unpinned(store)
                return
            async with pin:
                yield _Held(taker, pin, self._prefix)

    async def items(self) -> Sequence[PinnedItem] | None:
        """See `ItemPins`."""
        found = []
        now = time.time()
        async with self._connection() as store:
            try:
                async for pin in Pins(await store.taker()).list():
                    if pin.name.startswith(self._prefix):
                        root = None if pin.root is None else Reference(pin.root)
                        part = pin.name.removeprefix(self._prefix)
                        found.append(PinnedItem(part, root, now - pin.created, pin.missing))
            except PinsUnsupported as error:
                self._warn(error)
                return None
        return found

    async def release(self, key: str) -> None:
        """See `ItemPins`."""
        async with self._connection() as store:
            with suppress(PinNotFound):
                await Pins(await store.taker()).release(self._prefix + key)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Store]:
        """A store that nobody else has a pin open on."""
        if not self._idle:
            store = open_store(self._urls)
            self._stores.append(store)
            self._idle.append(store)
        store = self._idle.pop()
        try:
            yield store
        finally:
            self._idle.append(store)

    def _warn(self, error: PinsUnsupported) -> None:
        if not self._has_warned:
            _log.warning("Items that are baked may go when the store needs room: %s", error)
        self._has_warned = True
