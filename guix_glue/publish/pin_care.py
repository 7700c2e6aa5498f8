"""Looking after pins: what the cache promises is whole in the store, and nothing else is pinned.

Each URN in the cache is compared with the pin of its item. Where there is none, as of what was
baked by an earlier version, one is made of the blocks that are there. Where blocks are missing the
URN is withdrawn, and the item baked again if it is still to be had. Pins of items that have left
the cache are released, unless they are so young that their record may still be on its way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Set
from contextlib import aclosing
from typing import Final, Protocol

from eris.capability import ReadCapability
from eris.errors import ContentError, InvalidCapability, StoreError, StoreUnavailable
from eris_fs import ReferenceWalk
from guix_glue.publish.item_pins import ItemPins, PinnedItem

__all__ = ["PinCare", "PromisedUrns"]

_log = logging.getLogger(__name__)

_YOUNG_S: Final = 3600.0


class PromisedUrns(Protocol):
    """The URNs that narinfos have, by the keys of their pins."""

    async def urns(self) -> Mapping[str, str]:
        """All of those in the store that is in use."""

    async def withdraw(self, key: str) -> None:
        """Promise this URN no more, and have what it is of baked again if that goes."""


class PinCare:
    """Keeps promises and pins together."""

    def __init__(
        self,
        pins: ItemPins,
        promised: PromisedUrns,
        explain: Callable[[StoreError], str | None] = lambda error: None,
        *,
        besides: Set[str] = frozenset(),
    ) -> None:
        """`explain` says in a few words what a store does that fails, without its URL.

        `besides`: keys of pins that somebody else looks after.
        """
        self._pins = pins
        self._promised = promised
        self._explain = explain
        self._besides = besides

    async def __call__(self) -> None:
        """Look at all of them once. Raises: StoreUnavailable, OSError."""
        try:
            await self._look()
        except StoreError as error:
            # Its message may name the store's URL, which is not for every log.
            reason = self._explain(error) or "cannot be reached or fails"
            raise StoreUnavailable(f"the store {reason}") from error

    async def _look(self) -> None:
        # In this order: what is baked meanwhile has a young pin, and then a record.
        pinned = await self._pins.items()
        if pinned is None:
            return
        by_key = {one.key: one for one in pinned}
        urns = await self._promised.urns()
        lost = 0
        for key, urn in urns.items():
            if not await self._is_whole(key, urn, by_key.get(key)):
                await self._promised.withdraw(key)
                lost += 1
        if lost:
            _log.warning(
                "%d items or deltas are made again, or named no more: blocks are missing", lost
            )
        for one in pinned:
            if one.key in self._besides:
                continue
            if one.key not in urns and one.age_s > _YOUNG_S:
                await self._pins.release(one.key)

    async def _is_whole(self, key: str, urn: str, pin: PinnedItem | None) -> bool:
        try:
            capability = ReadCapability.from_urn(urn)
        except InvalidCapability:
            return False
        if pin is not None and pin.root == capability.root.reference:
            return not pin.missing
        try:
            return await self._pin(key, capability)
        except ContentError:
            return False

    async def _pin(self, key: str, capability: ReadCapability) -> bool:
        """Pin what is in the store already; False, and no pin, if any of it is not."""
        async with self._pins.opened() as pin:
            walk = ReferenceWalk(pin.store)
            async with aclosing(walk.content(capability)) as batches:
                async for batch in batches:
                    if not all(await pin.want(batch.references)):
                        return False
            if walk.unknown:
                return False
            await pin.keep(key, capability.root.reference)
            return True
