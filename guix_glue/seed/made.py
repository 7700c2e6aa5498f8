"""Blocks that were made together with one that was asked for, held for a moment.

Those of a small file stay in memory, as long as there is room, and for a minute at most: what the
file was before it changed is not given away for long. The index of a tree may have some hundred
megabytes: one that is large lies in a file without a name; the last few stay, for some minutes.

For several threads at once.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from eris.model import Reference
from eris_fs.reader.lru import LeastRecent

__all__ = ["MadeBlocks"]

_IN_MEMORY: Final = 32 * 1024 * 1024
_LARGE: Final = 4 * 1024 * 1024
_MOST_FILES: Final = 4
_SHORT_S: Final = 30.0
_LONG_S: Final = 300.0


class _OnDisk:
    """Blocks in a file; closed when nobody has it any more."""

    def __init__(self, directory: Path, blocks: Mapping[Reference, bytes]) -> None:
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115
        self._places: dict[bytes, tuple[int, int]] = {}
        at = 0
        for reference, block in blocks.items():
            self._file.write(block)
            self._places[reference] = at, len(block)
            at += len(block)
        self._file.flush()

    def get(self, reference: bytes) -> bytes | None:
        place = self._places.get(reference)
        if place is None:
            return None
        at, size = place
        block = os.pread(self._file.fileno(), size, at)
        return block if len(block) == size else None


class MadeBlocks:
    """What is held; `directory` is for what is large."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._lock = threading.Lock()
        self.clear()

    def get(self, reference: Reference) -> bytes | None:
        """The block, if it is held."""
        with self._lock:
            block = self._memory.get(reference) or self._older.get(reference)
            files = tuple(file for file, _ in self._files)
        if block is not None:
            return block
        try:
            found = (file.get(reference) for file in reversed(files))
            return next((one for one in found if one is not None), None)
        except OSError:
            return None

    def clear(self) -> None:
        """Hold nothing any more."""
        with self._lock:
            self._memory: LeastRecent[bytes] = LeastRecent(_IN_MEMORY // 2)
            self._older: LeastRecent[bytes] = LeastRecent(0)
            self._since = self._clock()
            self._files: list[tuple[_OnDisk, float]] = []

    def tidy(self) -> None:
        """Let go of what is held for long; to be called from time to time."""
        now = self._clock()
        with self._lock:
            if now >= self._since + _SHORT_S:
                self._older, self._memory = self._memory, LeastRecent(_IN_MEMORY // 2)
                self._since = now
            self._files = [one for one in self._files if now < one[1] + _LONG_S]

    def hold(self, blocks: Mapping[Reference, bytes]) -> None:
        """Hold these, whose references were computed."""
        if sum(map(len, blocks.values())) >= _LARGE:
            # Where the disk is full there is room for some of them in memory.
            with suppress(OSError):
                file = _OnDisk(self._directory, blocks)
                with self._lock:
                    self._files = [*self._files, (file, self._clock())][-_MOST_FILES:]
                return
        with self._lock:
            for reference, block in blocks.items():
                self._memory.put(reference, block, len(block))
