"""Nars of other servers that a mirror keeps: one file each, whole and with the signed hash.

    nars/HASH-PART.NAR-HASH.METHOD    as it came, compressed or not

The hash in the name (its first half, in hex) is that of the nar: when an item is built anew and
another, the old file is not taken for it. The time of access is that of the last use; it is set, so
no option of the mount matters. That of modification stays: it is in the tag that the file is served
with. When there is no more room the files that were not used for longest go.

Synchronous, for worker threads, but for `size`, which is one question to the system.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from guix_glue.formats.compression import Compression
from guix_glue.kept.directory import CacheDirectory
from guix_glue.model import StoreItem

__all__ = ["KeptNars", "NarKey"]

_DIGITS: Final = 32


@dataclass(frozen=True, slots=True)
class NarKey:
    """A nar of an item, in one compression."""

    hash_part: str
    nar_hash: bytes
    method: Compression

    @classmethod
    def of(cls, item: StoreItem, method: Compression) -> NarKey:
        """The key of an item's nar."""
        return cls(item.hash_part, item.nar_hash, method)

    @property
    def file_name(self) -> str:
        """What its file is called."""
        return f"{self.hash_part}.{self.nar_hash.hex()[:_DIGITS]}.{self.method.value}"


class KeptNars:
    """Files of `max_bytes` together, at most."""

    def __init__(self, directory: CacheDirectory, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._directory = directory
        # Made where something will be kept; what an earlier server has kept is served in any case.
        self._path = directory.subdirectory("nars") if max_bytes else directory.path / "nars"
        self._guard = threading.Lock()
        # None: not counted yet.
        self._total: int | None = None

    def size(self, key: NarKey) -> int | None:
        """The size of a file in bytes; None if it is not there."""
        try:
            found = os.lstat(self._path / key.file_name)
        except OSError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def open(self, key: NarKey) -> BinaryIO | None:
        """Open a file; None if it is not there. That is a use of it."""
        try:
            descriptor = os.open(
                self._path / key.file_name,
                os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
            )
        except OSError:
            return None
        file = os.fdopen(descriptor, "rb")
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            file.close()
            return None
        with contextlib.suppress(OSError):
            os.utime(descriptor, ns=(time.time_ns(), found.st_mtime_ns))
        return file

    def keep(self, made: Path, key: NarKey) -> None:
        """Take in a file that is whole and was checked; others may have to go.

        Raises: OSError.
        """
        size = made.stat().st_size
        with self._guard:
            self._make_room(size)
            self._directory.take(made, self._path / key.file_name)
            self._total = (self._total or 0) + size

    def expire(self, before: float) -> None:
        """Remove what was not used since a time (seconds of the epoch)."""
        with self._guard:
            for path, found in self._files():
                if found.st_atime < before:
                    path.unlink(missing_ok=True)
            self._total = None

    def _make_room(self, size: int) -> None:
        if self._total is not None and self._total + size <= self.max_bytes:
            return
        # Counted anew: others may have removed something, too.
        files = sorted(self._files(), key=lambda one: one[1].st_atime, reverse=True)
        total = sum(found.st_size for _, found in files)
        while files and total + size > self.max_bytes:
            path, found = files.pop()
            path.unlink(missing_ok=True)
            total -= found.st_size
        self._total = total

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        with contextlib.suppress(FileNotFoundError), os.scandir(self._path) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    yield Path(entry.path), entry.stat(follow_symlinks=False)
