"""Blocks of packed trees: of their indexes, and of packs that are made again."""

from __future__ import annotations

import threading
from typing import Final

from eris.encode import encode
from eris.model import Reference
from eris_fs.packed.cost import choose_by_cost
from eris_fs.reader.lru import LeastRecent
from guix_glue.seed.errors import NotSeeded
from guix_glue.seed.index import Held
from guix_glue.seed.later import Later
from guix_glue.seed.made import MadeBlocks
from guix_glue.seed.packing import Packing
from guix_glue.seed.packs import Packs, read_packs

__all__ = ["PackedMaker"]

_PACKS_SIZE: Final = 64 * 1024 * 1024
# What an index takes when it is read, for each of its bytes.
_TIMES: Final = 12


class PackedMaker:
    """For several threads at once; `held` is what was made with others."""

    def __init__(self, packing: Packing, held: MadeBlocks) -> None:
        self._packing = packing
        self._held = held
        self._lock = threading.Lock()
        self._packs: LeastRecent[Packs] = LeastRecent(_PACKS_SIZE)
        self._failed: dict[tuple[int, int], None] = {}

    def make(self, held: Held, number: int, reference: Reference, *, near: bool) -> Later | None:
        """What makes the block of this number; packs are for those who are near.

        Raises: DamagedIndex.
        """
        packs = self._load(held)
        if packs is None:
            return None
        part = held.row.number
        pack = packs.pack_of(number)
        if pack is None:
            return Later(("packed", part), lambda: self._index(held, reference))
        if not near or (part, pack) in self._failed:
            return None
        return Later((part, pack), lambda: self._pack(held, packs, pack, reference))

    def _index(self, held: Held, reference: Reference) -> bytes | None:
        index = held.read_packed().index
        _, blocks = encode(index, block_size=choose_by_cost(len(index)))
        self._held.hold(blocks)
        return blocks.get(reference)

    def _pack(self, held: Held, packs: Packs, pack: int, reference: Reference) -> bytes | None:
        def is_made() -> bool:
            return self._held.get(reference) is not None

        blocks = self._packing.make(held.row.root, packs, pack, is_made)
        if blocks is None:
            return self._held.get(reference)
        self._held.hold(blocks)
        if reference not in blocks:
            # A file changed: its pack need not be tried again.
            with self._lock:
                self._failed[held.row.number, pack] = None
        return blocks.get(reference)

    def _load(self, held: Held) -> Packs | None:
        key = held.row.number
        with self._lock:
            packs = self._packs.get(key)
        if packs is None:
            index = held.read_packed().index
            try:
                packs = read_packs(index)
            except NotSeeded:
                # The library was another when it was read in.
                return None
            with self._lock:
                self._packs.put(key, packs, len(index) * _TIMES)
        return packs
