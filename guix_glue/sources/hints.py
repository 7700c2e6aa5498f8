"""A port: who may know under which URN an item is, by nobody's word.

Whatever is got by such a URN is compared with the signed hash of the nar. A wrong one costs time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["Hints"]


class Hints(Protocol):
    """Tells URNs of items: a map, several of them, or nothing at all."""

    async def urns(self, hash_part: str) -> Sequence[str]:
        """URNs under which the item with this hash part may be, the likeliest first.

        Never raises but for a cancellation: who cannot tell knows nothing. Bounded in time.
        """

    async def forget(self, hash_part: str, urn: str) -> None:
        """What was got by this URN is another item: do not tell it again for now."""
