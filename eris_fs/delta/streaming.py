"""The bytes of a delta as they come out of a store: the head, the index, the patches.

They are read once, from the first to the last, and no more is held of them than is asked for; what
is asked for was checked against its limit before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from eris_fs.delta.framing import DeltaHead, HeadReader
from eris_fs.errors import InvalidManifest
from eris_fs.model import Limits

__all__ = ["Incoming"]


class Incoming:
    """A content that is read in order.

    Raises, all of it: InvalidManifest; whatever the iteration raises.
    """

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._waiting = b""
        # Bytes that were given out.
        self._offset = 0

    async def read_head(self, limits: Limits) -> tuple[DeltaHead, int]:
        """Read the head; returns it, and how many bytes follow it."""
        reader = HeadReader(limits)
        found = None
        while found is None:
            found = reader.feed(await self._next_piece())
        head, left, self._waiting = found
        self._offset -= len(self._waiting)
        return head, left

    async def read(self, size: int) -> bytes:
        """Read the next `size` bytes, of which there must be so many."""
        parts: list[bytes] = []
        while size:
            piece = await self._next_piece()
            if len(piece) > size:
                piece, self._waiting = piece[:size], piece[size:]
                self._offset -= len(self._waiting)
            parts.append(piece)
            size -= len(piece)
        return b"".join(parts)

    async def finish(self) -> None:
        """See to it that nothing is left."""
        if self._waiting or await anext(self._pieces, b""):
            raise InvalidManifest("the content goes on after its end", self._offset)

    async def _next_piece(self) -> bytes:
        piece, self._waiting = self._waiting, b""
        if not piece:
            piece = await anext(self._pieces, b"")
        if not piece:
            raise InvalidManifest("the content ends early", self._offset)
        self._offset += len(piece)
        return piece
