"""Stores that a client names, as a session sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from eris.model import BlockSize, Reference
from eris.store import BlockFinder, BlockReader
from kapla.peers.source import Block

__all__ = ["StoreSource"]


class _Store(BlockReader, BlockFinder, Protocol):
    """One that can be read from, and tells what it has."""


class StoreSource:
    """A source out of a store. Nothing that comes from it may be given on."""

    def __init__(self, name: str, store: _Store) -> None:
        self.name = name
        self._store = store

    def get(self, reference: Reference, block_size: BlockSize | None) -> asyncio.Future[Block]:
        """Ask for a block."""
        return asyncio.ensure_future(self._get(reference, block_size or BlockSize.LARGE))

    def find(self, references: Sequence[Reference]) -> asyncio.Future[list[bool]]:
        """Ask which blocks are there."""
        return asyncio.ensure_future(self._store.find(references))

    async def _get(self, reference: Reference, block_size: BlockSize) -> Block:
        return Block(await self._store.get(reference, block_size), False)
