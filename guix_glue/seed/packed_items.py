"""How items were packed: their trees' indexes, which the daemon has or finds, are kept.

Of an item that is given away, and whose narinfo signs a URN, the index of that tree is fetched, and
nothing else of it: the packs are made again out of the item's files. What was packed by another
version of the library cannot be made here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final

from eris.capability import ReadCapability
from eris.errors import ErisError, StoreError
from eris.store import BlockReader
from eris.threads import in_thread
from eris.transfer import stream_content
from guix_glue.errors import GuixError
from guix_glue.formats.store_path import hash_part_of
from guix_glue.kept.public_items import item_mark
from guix_glue.seed.errors import IndexNotWritten, NotSeeded
from guix_glue.seed.index import SeedIndex
from guix_glue.seed.packs import MOST_INDEX, PackedPart, Packs, read_packs
from guix_glue.seed.trees import SeedTree

__all__ = ["PackedItems"]

_log = logging.getLogger(__name__)

_LONGEST_S: Final = 60.0
_AGAIN_S: Final = 3600.0
_NEVER: Final = float("inf")


class PackedItems:
    """Keeps `index`; `urns` gives the read capabilities of items, in binary, by their marks."""

    def __init__(
        self,
        index: SeedIndex,
        store: BlockReader,
        urns: Callable[[], Mapping[bytes, bytes]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._index = index
        self._store = store
        self._urns = urns
        self._clock = clock
        # When to try again, by root and URN.
        self._not_before: dict[tuple[str, bytes], float] = {}

    async def update(self, trees: Sequence[SeedTree]) -> None:
        """Fetch what is missing of these; those of a store alone.

        Raises: IndexNotWritten.
        """
        there = self._index.view.packed
        missing = [tree for tree in trees if tree.identity and tree.root not in there]
        if not missing:
            return
        urns = await in_thread(self._urns)
        self._forget(missing)
        for tree in missing:
            urn = urns.get(item_mark(hash_part_of(tree.root), tree.identity))
            if urn is not None and self._clock() >= self._not_before.get((tree.root, urn), 0.0):
                await self._fetch(tree, urn)
        await in_thread(self._index.flush)

    def _forget(self, trees: Sequence[SeedTree]) -> None:
        roots = {tree.root for tree in trees}
        for key in [key for key in self._not_before if key[0] not in roots]:
            del self._not_before[key]

    async def _fetch(self, tree: SeedTree, urn: bytes) -> None:
        again_s = _NEVER
        try:
            async with asyncio.timeout(_LONGEST_S):
                index = await self._read(ReadCapability.from_bytes(urn))
            packs = await in_thread(read_packs, index)
            await in_thread(self._add, tree, index, packs)
            return
        except IndexNotWritten:
            raise
        except TimeoutError:
            again_s = _AGAIN_S
            _log.debug("How %s was packed did not come in time", tree.root)
        except StoreError as error:
            again_s = _AGAIN_S
            _log.debug("How %s was packed cannot be read: %s", tree.root, error)
        except (GuixError, ErisError) as error:
            _log.debug("%s is not seeded as it was packed: %s", tree.root, error)
        self._not_before[tree.root, urn] = self._clock() + again_s

    async def _read(self, capability: ReadCapability) -> bytes:
        """Raises: NotSeeded, if it is too large; ErisError."""
        found = bytearray()
        async with aclosing(stream_content(self._store, capability)) as pieces:
            async for piece in pieces:
                found += piece
                if len(found) > MOST_INDEX:
                    raise NotSeeded(f"its index has more than {MOST_INDEX >> 20} MiB")
        return bytes(found)

    def _add(self, tree: SeedTree, index: bytes, packs: Packs) -> None:
        number = self._index.new_number()
        part = PackedPart(tree.root, tree.identity, index)
        self._index.add_packed(number, part, packs.files, packs.size, packs.references())
