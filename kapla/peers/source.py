"""The port of a session: what it asks of a peer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from eris.model import BlockSize, Reference

__all__ = ["Block", "Source"]


class Block(NamedTuple):
    """A block as a peer gave it."""

    data: bytes
    is_lent: bool
    """Whether it may be given on."""
    source: str = ""
    """Who gave it, for people."""


class Source(Protocol):
    """A peer as a session sees it. Requests go out at once; a future that is cancelled is dropped.

    The block need not be checked: whoever asks does.
    """

    @property
    def name(self) -> str:
        """What people call it: its key as text, or its URL."""
        ...

    def get(self, reference: Reference, block_size: BlockSize | None) -> asyncio.Future[Block]:
        """Ask for a block. Raises: BlockNotFound; CorruptBlock; StoreError."""
        ...

    def find(self, references: Sequence[Reference]) -> asyncio.Future[list[bool]]:
        """Ask which blocks are there. Raises: StoreRefused, if it does not tell; StoreError."""
        ...
