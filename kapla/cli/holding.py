"""Pins over what is copied or imported: it stays, as what is encoded does.

What comes is held from before its first block. A content gets a pin of its own at the end, over
all its blocks, those that were there before too. In a store that has no pins, or none for us,
blocks are put as ever, and one line says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import eris_fs
from eris.capability import ReadCapability
from eris.errors import ContentError
from eris.model import Reference
from kapla.cli.pinned import Pinning, say_not_lent
from kapla.cli.store import Store, say, times
from kapla.errors import PinsUnsupported

if TYPE_CHECKING:
    from kapla.pinning import OpenPin
    from kapla.remote_store import RemoteStore

__all__ = ["Holder", "pin_contents"]


class Holder:
    """Opens pins in a store, one after another, for as long as it has any."""

    def __init__(self, store: Store, pinning: Pinning) -> None:
        self._store = store
        self._pinning = pinning
        self._is_wanted = pinning.holds
        self._is_lent = True

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Store, OpenPin | None]]:
        """Hold what is put, until the end of the context; gives where to put it, and the pin.

        Raises: StoreError.
        """
        pin = None
        if self._is_wanted:
            taker = await self._store.taker()
            pin = await self._opened(taker)
        if pin is None:
            yield self._store, None
            return
        async with pin:
            # What counts is what is put on its own connection.
            yield taker, pin

    async def settle(self, pin: OpenPin, root: Reference) -> None:
        """Pin what is held, or lend it, as it is wanted. Raises: StoreError."""
        if not await self._pinning.settle(pin, root) and self._is_lent:
            self._is_lent = False
            say_not_lent(await self._store.taker())

    async def _opened(self, taker: RemoteStore) -> OpenPin | None:
        from kapla.pinning import Pins

        try:
            return await Pins(taker).open()
        except PinsUnsupported as error:
            say(self._pinning.instead(error, taker.url))
            self._is_wanted = False
            return None


async def pin_contents(
    store: RemoteStore, contents: Iterable[ReadCapability], pinning: Pinning
) -> None:
    """Pin contents as far as they are there; what they lack belongs to them when it comes.

    Or lend what is there of them without a pin.

    On a connection of its own, so that meanwhile they are held on the other.
    Raises: StoreError.
    """
    from kapla.client import open_store

    is_lent = True
    async with open_store([store.url], **times()) as other:
        # As the first one is.
        second = await other.taker()
        for content in contents:
            try:
                is_lent &= await _pin(second, content, pinning)
            except (ContentError, eris_fs.TreeError) as error:
                # Anybody can write any URN into a file.
                what = "pinned" if pinning.pin else "lent"
                say(f"not {what}: a content that is named cannot be read: {error}")
    if not is_lent:
        say_not_lent(store)


async def _pin(store: RemoteStore, content: ReadCapability, pinning: Pinning) -> bool:
    """Returns False if it should be lent and is not."""
    from kapla.pinning import Pins

    async with await Pins(store).open() as pin:
        there, lacking = await _fill(store, pin, content)
        if lacking:
            noun = "block is" if lacking == 1 else "blocks are"
            say(f"not whole: of a content {lacking:,} {noun} not there yet")
        root = content.root.reference
        return await pinning.settle(pin, root, incomplete=bool(lacking)) or not there


async def _fill(store: RemoteStore, pin: OpenPin, content: ReadCapability) -> tuple[int, int]:
    """Have a pin hold all blocks of a content that are there; how many these are, and are not."""
    walk = eris_fs.ReferenceWalk(store)
    there = lacking = 0
    async with aclosing(walk.content(content)) as batches:
        async for batch in batches:
            found = await pin.want(batch.references)
            there += found.count(True)
            lacking += found.count(False)
    return there, lacking
