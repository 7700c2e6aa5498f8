"""Events to the bytes of a nar, checked to be in the order that a nar has.

A directory's end is not an event: it shows when the next entry is elsewhere, and is written then.
"""

from __future__ import annotations

from typing import assert_never

from guix_glue.formats.nar.layout import (
    CLOSE,
    DIRECTORY,
    ENTRY,
    EXECUTABLE,
    LENGTH,
    MAGIC,
    NODE,
    REGULAR,
    SYMLINK,
    format_string,
    is_name,
)
from guix_glue.formats.nar.model import Data, Directory, File, NarEvent, NarPath, Symlink

__all__ = ["NarWriter"]


class NarWriter:
    """Writes one nar; what is returned, put together, is it."""

    def __init__(self) -> None:
        self._begun = False
        # The directory that entries may come in, and for each open one the last name in it.
        self._directory: NarPath = ()
        self._names: list[bytes] = []
        # Of the last file: what must still come, and what follows that.
        self._left = 0
        self._file_end = b""

    def write(self, event: NarEvent) -> bytes:
        """Write the next event.

        Raises: ValueError, if it may not come here, which is the caller's mistake.
        """
        match event:
            case Data(content):
                return self._write_data(content)
            case File(path, size, executable):
                head = self._begin(path) + (EXECUTABLE if executable else REGULAR)
                self._left = size
                self._file_end = bytes(-size % 8) + self._end()
                return head + LENGTH.pack(size) + (b"" if size else self._file_end)
            case Symlink(path, target):
                return self._begin(path) + SYMLINK + format_string(target) + self._end()
            case Directory(path):
                head = self._begin(path)
                self._directory = path
                self._names.append(b"")
                return head + DIRECTORY
            case _:
                assert_never(event)

    def skip(self) -> int:
        """Pass over what is left of the file that began last; returns how many bytes that is.

        For who wants to know where things are in a nar, and not what is in them.
        """
        size = self._left + len(self._file_end) if self._left else 0
        self._left = 0
        return size

    def finish(self) -> bytes:
        """Write what ends the nar.

        Raises: ValueError, if it is not complete.
        """
        self._check_complete()
        if not self._begun:
            raise ValueError("a nar has at least one entry")
        end = CLOSE * max(0, 2 * len(self._names) - 1)
        self._names.clear()
        return end

    def _write_data(self, content: bytes | memoryview) -> bytes:
        self._left -= len(content)
        if self._left < 0:
            raise ValueError("there is more content than the file was said to have")
        if self._left or not content:
            return bytes(content)
        return b"".join((content, self._file_end))

    def _begin(self, path: NarPath) -> bytes:
        """Close what is complete, and begin an entry."""
        self._check_complete()
        if not path:
            if self._begun:
                raise ValueError("a nar is one item")
            self._begun = True
            return MAGIC
        closed = self._leave_until(path[:-1])
        name = path[-1]
        if not is_name(name) or name <= self._names[-1]:
            raise ValueError(f"{name!r} is no name, or does not come after {self._names[-1]!r}")
        self._names[-1] = name
        return b"".join((closed, ENTRY, format_string(name), NODE))

    def _leave_until(self, directory: NarPath) -> bytes:
        if directory == self._directory and self._names:
            return b""
        depth = len(directory)
        if len(self._names) <= depth or self._directory[:depth] != directory:
            raise ValueError("an entry comes after another, but its directory is not open")
        count = len(self._names) - depth - 1
        del self._names[depth + 1 :]
        self._directory = directory
        return CLOSE * (2 * count)

    def _end(self) -> bytes:
        return CLOSE * (2 if self._names else 1)

    def _check_complete(self) -> None:
        if self._left:
            raise ValueError("there is less content than the file was said to have")
