"""Files below a root, opened so that nothing leads out of it, and held open while they are wanted.

Every directory on the way is opened by its name in the one before, and no symlink is followed. The
blocks of a file are mostly wanted one after the other, so some files are kept open for a moment;
what was removed meanwhile takes room on the disk for no longer than that.

For several threads at once.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

__all__ = ["OpenFiles", "open_below", "read_at"]

_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_MOST: Final = 64
_LONGEST_S: Final = 10.0


def open_below(root: str, path: str) -> int:
    """Open the regular file at `path` in the tree at `root`, which is the file if that is empty.

    Returns the descriptor. Raises: OSError, for anything else.
    """
    descriptor = _open(root, path)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise IsADirectoryError("not a regular file")
        return descriptor
    except BaseException:
        os.close(descriptor)
        raise


def _open(root: str, path: str) -> int:
    if not path:
        return os.open(root, _FILE)
    *directories, name = path.split("/")
    descriptor = os.open(root, _DIRECTORY)
    try:
        for directory in directories:
            inner = os.open(_component(directory), _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        return os.open(_component(name), _FILE, dir_fd=descriptor)
    finally:
        os.close(descriptor)


def _component(name: str) -> str:
    """The rules of trees have these in no path; an index that is damaged may."""
    if name in ("", ".", ".."):
        raise FileNotFoundError("a path that is none")
    return name


def read_at(descriptor: int, offset: int, size: int) -> bytes:
    """Read so many bytes at a place, or what there is. Raises: OSError."""
    data = os.pread(descriptor, size, offset)
    while data and len(data) < size:
        more = os.pread(descriptor, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


@dataclass(slots=True)
class _Open:
    """A descriptor, how many read from it, and since when it is there."""

    descriptor: int
    since: float
    readers: int = 0
    is_dropped: bool = False


class OpenFiles:
    """Files that are open; `clock` gives seconds. `close()` it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._files: OrderedDict[tuple[str, str], _Open] = OrderedDict()

    @contextmanager
    def opened(self, root: str, path: str) -> Iterator[int]:
        """The descriptor of a file, to be read at offsets. Raises: OSError."""
        key = root, path
        with self._lock:
            self._drop_old()
            file = self._files.get(key)
            if file is not None:
                file.readers += 1
                self._files.move_to_end(key)
        if file is None:
            file = self._add(key, open_below(root, path))
        try:
            yield file.descriptor
        finally:
            with self._lock:
                file.readers -= 1
                self._close_if_unused(file)

    def forget(self, root: str, path: str) -> None:
        """Open this file anew the next time."""
        with self._lock:
            self._drop((root, path))

    def tidy(self) -> None:
        """Let go of what was opened long ago."""
        with self._lock:
            self._drop_old()

    def close(self) -> None:
        """Let go of all."""
        with self._lock:
            for key in list(self._files):
                self._drop(key)

    def _add(self, key: tuple[str, str], descriptor: int) -> _Open:
        file = _Open(descriptor, self._clock(), 1)
        with self._lock:
            # Another thread may have opened it too: the newer one stays.
            self._drop(key)
            self._files[key] = file
            while len(self._files) > _MOST:
                self._drop(next(iter(self._files)))
        return file

    def _drop_old(self) -> None:
        limit = self._clock() - _LONGEST_S
        for key in [key for key, file in self._files.items() if file.since < limit]:
            self._drop(key)

    def _drop(self, key: tuple[str, str]) -> None:
        file = self._files.pop(key, None)
        if file is not None:
            file.is_dropped = True
            self._close_if_unused(file)

    def _close_if_unused(self, file: _Open) -> None:
        if file.is_dropped and not file.readers and file.descriptor >= 0:
            descriptor, file.descriptor = file.descriptor, -1
            with suppress(OSError):
                os.close(descriptor)
