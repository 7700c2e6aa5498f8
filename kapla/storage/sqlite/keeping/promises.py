"""What was promised of blocks of PUTs, once they are kept: held by an open pin, or lent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from eris.model import Reference
from kapla.storage.port import Promise
from kapla.storage.sqlite.keeping.books import PinBooks
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.keeping.state import Hold

__all__ = ["fulfil"]


def fulfil(promise: Promise, places: Mapping[Reference, tuple[int, int]], books: PinBooks) -> None:
    """Hold or lend what is of this PUT among those that are there: (id, size of the block)."""
    mine = [places[name] for name in promise.references if name in places]
    if not mine or promise.error is not None:
        return
    if promise.hold is None:
        books.lent_cache.add(Ids([block_id for block_id, _ in mine]))
    else:
        promise.error = books.quota.hold(cast(Hold, promise.hold), mine)
