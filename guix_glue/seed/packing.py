"""Packs that are made again: one at a time, in a part of the time, for whoever is near.

A pack takes a thousand times as much work as a leaf: at level 19 a processor compresses 1 to 4 MB
in a second. So only one is made at a time, and before the next there is a pause for as long as the
last one took. What would have to wait for longer than the daemon does is not here. All blocks of a
pack are handed on when it is made, so that it is made once.

For several threads at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from eris.encode import Encoder
from eris.model import Reference
from eris_fs.packed.cost import PIECE_SIZE, choose_by_cost
from eris_fs.packed.frame import compress
from guix_glue.seed.files import OpenFiles, read_at
from guix_glue.seed.packs import Packs

__all__ = ["Packing"]

# The daemon waits for one block for ten seconds.
_LONGEST_WAIT_S: Final = 8.0
_SHARE: Final = 0.5
"""Of one processor's time, at most."""
# What takes less needs no pause.
_SHORT_S: Final = 0.05


class Packing:
    """Makes packs out of `files`; `on_made` is given the blocks of each, by the thread."""

    def __init__(
        self,
        files: OpenFiles,
        on_made: Callable[[Mapping[Reference, bytes]], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sleep = sleep
        self._files = files
        self._on_made = on_made
        self._clock = clock
        self._one = threading.Lock()
        self._not_before = 0.0

    def make(
        self, root: str, packs: Packs, pack: int, is_made: Callable[[], bool]
    ) -> Mapping[Reference, bytes] | None:
        """The blocks of a pack; None if they cannot be made, or not now.

        `is_made`: whether somebody else has made it meanwhile; then None, too.
        """
        if not self._one.acquire(timeout=_LONGEST_WAIT_S):
            return None
        try:
            pause_s = self._not_before - self._clock()
            if is_made() or pause_s > _LONGEST_WAIT_S:
                return None
            if pause_s > 0:
                self._sleep(pause_s)
            began = self._clock()
            blocks = self._make(root, packs, pack)
            took_s = self._clock() - began
            if took_s > _SHORT_S:
                self._not_before = self._clock() + took_s * (1 / _SHARE - 1)
        finally:
            self._one.release()
        if blocks:
            self._on_made(blocks)
        return blocks

    def _make(self, root: str, packs: Packs, pack: int) -> dict[Reference, bytes] | None:
        pieces = []
        for path, offset, size in packs.ranges(pack):
            try:
                with self._files.opened(root, path) as descriptor:
                    pieces.append(read_at(descriptor, offset, size))
            except OSError:
                return None
            if len(pieces[-1]) != size:
                return None
        content = b"".join(pieces)
        stored = compress(content, packs.level)
        if len(stored) >= len(content):
            stored = content
        if len(stored) != packs.stored_size(pack):
            return None
        blocks: dict[Reference, bytes] = {}
        for start in range(0, len(stored), PIECE_SIZE):
            piece = memoryview(stored)[start : start + PIECE_SIZE]
            encoder = Encoder(choose_by_cost(len(piece)))
            blocks.update([*encoder.feed(piece), *encoder.finish()])
        return blocks
