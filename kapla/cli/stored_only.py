"""What stores have themselves, as `kapla verify --here` asks for it.

A GET that goes no further is answered by a daemon's seeds too, which keep nothing. A FETCH without
a Hop-Limit counts only what is stored, so each block is asked about before it is fetched: many
together, as many as are wanted at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eris.errors import BlockNotFound, StoreRefused, StoreUnavailable
from eris.model import BlockSize, Reference
from kapla.urls import HttpEndpoint

if TYPE_CHECKING:
    from kapla.cli.store import Store
    from kapla.client import RemoteStore
    from kapla.http.asking.store import HttpStore

__all__ = ["StoredOnly"]


class StoredOnly:
    """A store around a store, for reading. One that does not tell what it has is believed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        for one in store.stores:
            one.stay_here()
        self._wanted: list[Reference] = []
        self._answer: asyncio.Future[frozenset[Reference]] | None = None

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        """Fetch a block: see `eris.store.BlockReader`."""
        if self._answer is None:
            self._answer = asyncio.ensure_future(self._ask())
        self._wanted.append(reference)
        # Others wait for the same answer.
        if reference not in await asyncio.shield(self._answer):
            raise BlockNotFound(reference)
        return await self._store.get(reference, block_size)

    async def _ask(self) -> frozenset[Reference]:
        """Which of those are stored that are wanted at the end of this turn of the loop."""
        await asyncio.sleep(0)
        wanted, self._wanted, self._answer = self._wanted, [], None
        stored: set[Reference] = set()
        failure: StoreUnavailable | None = None
        for one in self._store.stores:
            try:
                stored |= await _stored_in(one, wanted)
            except StoreUnavailable as error:
                failure = error
        if failure is not None and not stored:
            raise failure
        return frozenset(stored)


async def _stored_in(store: RemoteStore | HttpStore, wanted: Sequence[Reference]) -> set[Reference]:
    """Which of these one store has. Raises: StoreUnavailable."""
    if not store.url.allows("get"):
        return set()
    if isinstance(store.url.endpoint, HttpEndpoint):
        # What such a server gives, it has: there is nothing else to ask.
        return set(wanted)
    try:
        found = await store.find(wanted)
    except StoreRefused:
        return set(wanted)
    return {name for name, is_there in zip(wanted, found, strict=True) if is_there}
