"""Writing a file whose zeros take no room: whole pages of them become holes.

A page is skipped where it lies as the file system has it, so that nothing is written twice; the
file ends where its content does.

Plain synchronous code, meant for a worker thread; for new regular files alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

__all__ = ["SparseFile", "data_in"]

_PAGE: Final = 4096
"""What most file systems give room by."""
_ZEROS: Final = bytes(_PAGE)


class SparseFile:
    """A new, empty file, open for writing, whose content comes in order. The caller closes it."""

    __slots__ = ("_descriptor", "_length", "_written")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._length = 0
        # Where the last byte that was written ends.
        self._written = 0

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def write(self, content: bytes) -> None:
        """Write what comes next, but for pages of zeros.

        Raises: OSError.
        """
        for start, stop in data_in(content, self._length):
            whole = stop - start == len(content)
            self._write(content if whole else memoryview(content)[start:stop], self._length + start)
        self._length += len(content)

    def finish(self) -> None:
        """Make it as long as its content, which may end with a hole.

        Raises: OSError.
        """
        if self._written < self._length:
            os.ftruncate(self._descriptor, self._length)
            self._written = self._length

    def _write(self, data: bytes | memoryview, place: int) -> None:
        done = os.pwrite(self._descriptor, data, place)
        while done < len(data):
            done += os.pwrite(self._descriptor, memoryview(data)[done:], place + done)
        self._written = place + done


def data_in(content: bytes, place: int) -> Iterator[tuple[int, int]]:
    """Which ranges of a content that stands at `place` in a file are to be written."""
    begin: int | None = 0
    first = -place % _PAGE
    for at in range(first, len(content) - _PAGE + 1, _PAGE):
        # Most pages are told by one byte.
        if content[at] or content[at : at + _PAGE] != _ZEROS:
            if begin is None:
                begin = at
        elif begin is not None:
            if begin < at:
                yield begin, at
            begin = None
    if begin is None:
        # What is left is no whole page.
        begin = len(content) - (place + len(content)) % _PAGE
    if begin < len(content):
        yield begin, len(content)
