"""An archive as a stream of bytes, for standard output: what has gone cannot be taken back."""

from __future__ import annotations

from typing import BinaryIO

from guix_glue.errors import FetchFailed
from guix_glue.formats.export import ARCHIVE_END, ITEM_BEGIN
from guix_glue.model import StoreItem

__all__ = ["ArchiveStream"]


class ArchiveStream:
    """An `ItemSink` that writes to a file. The end of an item goes out when its nar is right.

    So whoever reads it takes no item that is not.
    """

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._is_wrong = False

    async def begin(self, item: StoreItem) -> None:
        """See `ItemSink`."""
        if self._is_wrong:
            raise FetchFailed("what has gone to standard output cannot be taken back; use a file")
        self._output.write(ITEM_BEGIN)

    async def write(self, piece: bytes) -> None:
        """See `ItemSink`."""
        self._output.write(piece)

    async def complete(self, end: bytes) -> None:
        """See `ItemSink`."""
        self._output.write(end)

    async def take_back(self) -> None:
        """See `ItemSink`: nothing may follow."""
        self._is_wrong = True

    async def finish(self) -> None:
        """All items are there."""
        self._output.write(ARCHIVE_END)
        self._output.flush()
