"""Telling a store that it need not keep blocks for us any longer."""

from __future__ import annotations

from contextlib import suppress

from eris.model import Reference
from kapla.cli.store import connect
from kapla.errors import NotAllowed, PinNotFound, PinsUnsupported

__all__ = ["release"]


async def release(root: Reference, store_url: str) -> None:
    """Release the pin that `kapla encode` made of what has this root: the one without a name.

    A store that has no pin of ours, or no pins at all, has nothing to release.
    Raises: StoreUnavailable; CommandError; InvalidUrl.
    """
    from kapla.pinning import Pins
    from kapla.pins import default_name

    async with connect(store_url) as store:
        with suppress(NotAllowed, PinNotFound, PinsUnsupported):
            await Pins(await store.taker()).release(default_name(root))
