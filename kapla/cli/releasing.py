"""Telling a store that blocks need not be kept for us any longer."""

from __future__ import annotations

from eris.model import Reference
from kapla.cli.store import connect

__all__ = ["release"]


async def release(root: Reference, store_url: str) -> None:
    """Release the pin of the blocks below this root; a store that has none of ours is done.

    Raises: StoreUnavailable; CommandError; InvalidUrl.
    """
    async with connect(store_url) as store:
        await store.connect()
