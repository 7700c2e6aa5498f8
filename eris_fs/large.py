"""A file too large to be held: encoded as it is read, unless it is known.

To find out whether it is known it is hashed first, and so a new one is read twice. Its holes are
neither read nor encrypted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from eris.capability import ReadCapability
from eris.model import (
    NULL_CONVERGENCE_SECRET,
    BlockSize,
    ConvergenceSecret,
    Hole,
    choose_block_size,
)
from eris.store import BlockFinder, BlockWriter
from eris.transfer import DEFAULT_WINDOW, put_content
from eris_fs.errors import FileChanged
from eris_fs.known import Known, KnownContents, update_key
from eris_fs.noting import noting_store
from eris_fs.open_file import OpenFile
from eris_fs.progress import Whole

__all__ = ["PutFile", "put_file"]

_LARGEST_KNOWN: Final = 256 * 1024
"""Blocks of a file that is looked up in a cache: the references of more would be over 8 MiB."""


@dataclass(frozen=True, slots=True)
class PutFile:
    """What a file became, and what a cache is to learn of it when all its blocks are kept."""

    capability: ReadCapability
    encoded: list[tuple[bytes, Known]] = field(default_factory=list, repr=False)


async def put_file(
    store: BlockWriter,
    file: OpenFile,
    *,
    block_size: BlockSize | None = None,
    convergence_secret: ConvergenceSecret = NULL_CONVERGENCE_SECRET,
    window: int = DEFAULT_WINDOW,
    known: KnownContents | None = None,
    finder: BlockFinder | None = None,
    done: Callable[[int], None] = lambda size: None,
) -> PutFile:
    """Encode a file into a store, unless it is `known` and the store has it whole.

    Without anything known a `finder` tells what need not be sent. `done` is told how many more
    bytes the store has. The caller closes the file.
    Raises: FileChanged, Unreadable, StoreError.
    """
    usable = known if known is not None and known.usable else None
    block_size = block_size or choose_block_size(file.size)
    putting = _Putting(store, file, block_size, convergence_secret, window, done)
    if usable is None or file.size // block_size > _LARGEST_KNOWN:
        # Of an upload that broke off a part is there, and no cache knows it yet.
        return PutFile(await putting.put(store, usable or finder))
    key, recalled = await usable.look_up_file(file)
    if recalled is not None:
        done(file.size)
        return PutFile(recalled)
    noted, state = noting_store(store, usable), usable.start_key()
    capability = await putting.put(noted, noted, state)
    # It was read twice; what the cache learns must be of one and the same content.
    if state.digest() != key:
        raise FileChanged(file.path, "its content changed between two readings")
    return PutFile(capability, [(key, (capability.to_bytes(), bytes(noted.references)))])


@dataclass(frozen=True, slots=True)
class _Putting:
    store: BlockWriter
    file: OpenFile
    block_size: BlockSize
    secret: ConvergenceSecret
    window: int
    done: Callable[[int], None]

    async def put(
        self, store: BlockWriter, finder: BlockFinder | None, state: Any = None
    ) -> ReadCapability:
        whole = Whole(self.file.size, self.done)
        capability = await put_content(
            store,
            _Source(self.file, state),
            block_size=self.block_size,
            convergence_secret=self.secret,
            window=self.window,
            finder=finder,
            kept=whole.keep,
        )
        whole.finish(self.file.size)
        return capability


class _Source:
    """What is read of the file, hashed on the way; for a worker thread."""

    def __init__(self, file: OpenFile, state: Any) -> None:
        self._file = file
        self._state = state

    def read(self, size: int, /) -> bytes | Hole:
        """Read the next piece."""
        piece = self._file.read_piece(size)
        if self._state is not None:
            update_key(self._state, piece)
        return piece
