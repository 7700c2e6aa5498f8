"""The store port, and the store in memory.

A store gets and puts blocks. Its promises:

* `put` is idempotent, and a stored block is never rewritten or altered;
* `get` returns exactly `block_size` bytes or raises; whoever decodes checks the reference, so a
  store need not;
* both return an awaitable and may have begun the work before it is awaited: a store on the network
  sends the request at once. Calling many and awaiting them in order is how requests are kept in
  flight.

Cancelling an awaitable withdraws interest; it neither fails nor disturbs other requests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import Protocol, runtime_checkable

from eris.crypto import reference_of
from eris.errors import BlockNotFound, CorruptBlock
from eris.model import BlockSize, EncodedBlock, Reference

__all__ = [
    "BlockFinder",
    "BlockReader",
    "BlockWriter",
    "ManyWriter",
    "MemoryStore",
    "NullStore",
]


@runtime_checkable
class BlockReader(Protocol):
    """A store that one can read from."""

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        """Fetch the block of a reference.

        Raises (when awaited): BlockNotFound, CorruptBlock if the store has a block of another
        size, StoreError.
        """


@runtime_checkable
class BlockWriter(BlockReader, Protocol):
    """A store that one can also write to."""

    def put(self, reference: Reference, block: bytes) -> Awaitable[None]:
        """Keep a block, 1024 or 32768 bytes; `reference` must be its reference.

        The block is kept, as safely as this store keeps anything, when the awaitable is done.
        Raises (when awaited): CorruptBlock, StoreError.
        """


@runtime_checkable
class ManyWriter(BlockWriter, Protocol):
    """A store that takes many blocks at once, cheaper than one by one."""

    def put_all(self, blocks: Sequence[EncodedBlock]) -> Awaitable[None]:
        """Keep blocks, each as `put` does; whoever asks bounds how many these are.

        All are kept when the awaitable is done. When one of them fails it raises that error, and
        any of the others may be kept or not.
        Raises (when awaited): CorruptBlock, StoreError.
        """


@runtime_checkable
class BlockFinder(Protocol):
    """A store that can say which of many blocks it has, cheaper than by giving them."""

    def find(self, references: Sequence[Reference]) -> Awaitable[list[bool]]:
        """Tell for each reference, however many there are, whether its block is there.

        Raises (when awaited): StoreRefused, if this store cannot tell; StoreError.
        """


class MemoryStore:
    """A complete store in a dict: for tests, and for content that need not outlive the process."""

    def __init__(self, blocks: Iterable[bytes] = ()) -> None:
        self._blocks: dict[Reference, bytes] = {reference_of(block): block for block in blocks}

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        """Fetch a block."""
        block = self._blocks.get(reference)
        if block is None:
            raise BlockNotFound(reference)
        if len(block) != block_size:
            raise CorruptBlock(reference, size=len(block), expected_size=int(block_size))
        return block

    async def put(self, reference: Reference, block: bytes) -> None:
        """Keep a block, having checked that it is one and has this reference."""
        if len(block) not in (BlockSize.SMALL, BlockSize.LARGE) or reference_of(block) != reference:
            raise CorruptBlock(reference)
        self._blocks.setdefault(reference, block)

    async def find(self, references: Sequence[Reference]) -> list[bool]:
        """Tell which blocks are there."""
        return [reference in self._blocks for reference in references]

    def __len__(self) -> int:
        return len(self._blocks)

    def __contains__(self, reference: object) -> bool:
        return reference in self._blocks


class NullStore:
    """Takes every block and keeps none: for computing a capability only."""

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        """Find nothing."""
        raise BlockNotFound(reference)

    async def put(self, reference: Reference, block: bytes) -> None:
        """Forget the block."""
