"""Parts as they are used, read once for many blocks.

For several threads at once.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Self

from eris_fs.reader.lru import LeastRecent
from guix_glue.seed.index import Held
from guix_glue.seed.parts import Part, Places, pairs_size

__all__ = ["LoadedPart", "LoadedParts"]

_ROOM: Final = 64 * 1024 * 1024
_ENTRY_SIZE: Final = 300
"""About what an entry takes."""


@dataclass(frozen=True, slots=True)
class LoadedPart:
    """The paths and sizes of the files of a part, and where their blocks are."""

    part: Part
    paths: tuple[str, ...]
    sizes: tuple[int, ...]
    places: Places
    pairs_at: tuple[int, ...]
    """Where the pairs of each file begin."""

    @classmethod
    def of(cls, part: Part) -> Self:
        """Work them out."""
        files = [one for one in part.entries if one.is_file]
        sizes = tuple(one.size for one in files)
        pairs_at = (0, *accumulate(map(pairs_size, sizes)))
        return cls(part, tuple(one.path for one in files), sizes, Places(sizes), pairs_at)


class LoadedParts:
    """Those used last, as long as there is room."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: LeastRecent[LoadedPart] = LeastRecent(_ROOM)

    def get(self, held: Held) -> LoadedPart:
        """Read a part, if it is not there. Raises: DamagedIndex."""
        key = held.row.number
        with self._lock:
            loaded = self._parts.get(key)
        if loaded is None:
            loaded = LoadedPart.of(held.read())
            with self._lock:
                self._parts.put(key, loaded, len(loaded.part.entries) * _ENTRY_SIZE)
        return loaded
