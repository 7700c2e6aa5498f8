"""An item's files read as its nar, and compared with what the store says of it.

Plain synchronous code, in steps, for a worker thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import closing
from typing import Final

from guix_glue.errors import AlteredItem
from guix_glue.formats.export import item_end
from guix_glue.formats.nar import NarWriter
from guix_glue.local.archive import read_item
from guix_glue.local.tree_stamp import stamp_steps
from guix_glue.model import StoreItem

__all__ = ["CheckedItem"]

# Done in one call of a thread, which nothing can interrupt: some ten milliseconds.
_CALL: Final = 16 * 1024 * 1024


class CheckedItem:
    """An item that is read where it lies, `location`; and once more, if need be, at the end.

    Call `step` until it returns False; then `archive_digest` is there. `close` it.
    """

    def __init__(self, item: StoreItem, location: str) -> None:
        self.archive_digest = b""
        """The SHA-256 that a signature of the item in an archive is of: 32 bytes."""
        self._item = item
        self._location = location
        self._before = b""
        self._steps = self._check()

    def step(self) -> bool:
        """Read on for a while; whether there is more to do.

        Raises: AlteredItem; UnsupportedItem; OSError.
        """
        return next(self._steps, False)

    def close(self) -> None:
        """Let go of what is open."""
        self._steps.close()

    def begin_again(self) -> None:
        """See whether anything has changed since, for whoever has read the files in between.

        `step` says how that ends: what may have changed is read once more.
        Raises: UnsupportedItem; OSError.
        """
        now = self._stamp()
        if not now or now != self._before:
            # A time of change may be another though the content is the same.
            self._steps = self._check()

    def _check(self) -> Generator[bool, None, None]:
        self._before = self._stamp()
        state, writer, size = hashlib.sha256(), NarWriter(), 0
        with closing(read_item(self._location)) as events:
            for event in events:
                piece = writer.write(event)
                state.update(piece)
                size += len(piece)
                if size >= _CALL:
                    yield True
                    size = 0
        state.update(writer.finish())
        if state.digest() != self._item.nar_hash:
            raise AlteredItem(self._item.base_name)
        state.update(item_end(self._item))
        self.archive_digest = state.digest()

    def _stamp(self) -> bytes:
        """What is another when the files are; nothing, while that cannot be told."""
        steps = stamp_steps(self._location)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value.digest if end.value.settled else b""
