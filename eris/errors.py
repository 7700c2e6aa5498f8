"""Every way in which content can fail to be reassembled, or a store can fail.

The class says whose move it is: the caller's (`InvalidCapability`), another store's
(`BlockNotFound`), nobody's (`ContentError`: retrying is vain), or time's (`StoreUnavailable`).
Errors carry the facts as attributes and make their own message. A message names a block by the
first letters of its reference; keys and capabilities never appear.
"""

from __future__ import annotations

from eris.base32 import short

__all__ = [
    "BlockNotFound",
    "ContentError",
    "CorruptBlock",
    "ErisError",
    "InvalidBundle",
    "InvalidCapability",
    "InvalidKey",
    "InvalidLink",
    "InvalidNode",
    "InvalidPadding",
    "StoreError",
    "StoreFull",
    "StoreRefused",
    "StoreUnavailable",
]


class ErisError(Exception):
    """Base of all errors raised by `eris`."""


class InvalidCapability(ErisError, ValueError):
    """The text or bytes are not a read capability: fix the input."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not an ERIS read capability: {reason}")
        self.reason = reason


class InvalidBundle(ErisError):
    """Bytes are no bundle of blocks, or damaged: what was read before `position` may be good."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(f"the bundle is not sound at byte {position:,}: {reason}")
        self.reason = reason
        self.position = position


class InvalidLink(ErisError, ValueError):
    """Bytes are no link file."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this is no link to a content: {reason}")
        self.reason = reason


class BlockNotFound(ErisError):
    """This store lacks the block: ask another.

    `position` (from 1, in the order of asking) and `total` count the blocks of the content that was
    being read; None where they are not known.
    """

    def __init__(
        self, reference: bytes, *, position: int | None = None, total: int | None = None
    ) -> None:
        where = ""
        if position is not None:
            where = f" (block {position} of {total or 'an unknown number'} of this content)"
        super().__init__(f"block {short(reference)} is not in the store{where}")
        self.reference = reference
        self.position = position
        self.total = total


class ContentError(ErisError):
    """Blocks and capability disagree: retrying with the same blocks is vain."""


class CorruptBlock(ContentError):
    """The bytes given for a reference are not the block of that reference."""

    def __init__(
        self, reference: bytes, *, size: int | None = None, expected_size: int | None = None
    ) -> None:
        name = short(reference)
        if size is None:
            message = f"block {name} does not hash to its reference"
        else:
            message = f"block {name} has {size} bytes instead of {expected_size}"
        super().__init__(message)
        self.reference = reference
        self.size = size
        self.expected_size = expected_size


class InvalidKey(ContentError):
    """A decrypted internal node does not hash to its key."""

    def __init__(self, reference: bytes, level: int) -> None:
        super().__init__(f"the key of the level-{level} node {short(reference)} is wrong")
        self.reference = reference
        self.level = level


class InvalidNode(ContentError):
    """A decrypted internal node has a form that no encoder produces."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"invalid internal node: {reason}")
        self.reason = reason


class InvalidPadding(ContentError):
    """The last leaf does not end in 0x80 and zeroes: wrong key, or not ERIS content."""

    def __init__(self) -> None:
        super().__init__("the last block has no valid padding (wrong key, or not ERIS content)")


class StoreError(ErisError):
    """The store failed; the content may be fine."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or cannot work now: try later, or another."""


class StoreRefused(StoreError):
    """The store will not do this: read-only, or not what it is for."""


class StoreFull(StoreRefused):
    """The store has reached its quota: it takes no new blocks."""
