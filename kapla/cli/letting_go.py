"""Letting go of entries of the catalogue: the store is told first, so that nothing is kept in vain.

Blocks may belong to several entries. A root that another entry of the same store stands for stays
pinned; it is released with the last one.
"""

from __future__ import annotations

import os

from eris.model import Reference
from kapla.catalogue.catalogue import Catalogue
from kapla.catalogue.entries import Entry
from kapla.cli.releasing import release
from kapla.cli.turns import wait_for_turn

__all__ = ["let_go"]


async def let_go(catalogue: Catalogue, entry: Entry, *, local: bool = False) -> bool:
    """Remove an entry, its pin first; `local`: without asking its store.

    Returns whether another entry keeps the same blocks pinned.
    Raises: ErisError, CommandError: then the entry is still there.
    """
    turn = await wait_for_turn(alone=True)
    try:
        if catalogue.remove_if_shared(entry):
            return True
        # Of a damaged entry nobody knows which blocks it stood for.
        if entry.is_sound and not local:
            await release(Reference(entry.root), entry.store)
        catalogue.remove(entry)
        return False
    finally:
        if turn is not None:
            os.close(turn)
