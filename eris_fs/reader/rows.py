"""What bytes are read from: a row of units, each fetched and checked by itself.

A content is a row of leaves. What is stored of a pack that is not compressed is a row of pieces;
one that is compressed is one unit, as nothing of it can be had without the whole. Some units
together are a *span*, about 1 MiB, which is fetched at once for those who read in order.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, Protocol

from eris_fs.reader.shared import Start

__all__ = ["SPAN_SIZE", "AtHand", "Row"]

SPAN_SIZE: Final = 1024 * 1024
"""Bytes of a span, about. Far more than a round trip is worth, far less than a cache holds."""


AtHand = Callable[[int], bytes | None]
"""Gives a unit that was fetched before, by its number, if it is still there."""


class Row(Protocol):
    """Units of bytes, one after the other."""

    @property
    def key(self) -> Hashable:
        """Its name among all rows of a reader."""

    @property
    def unit(self) -> int:
        """Bytes of each unit but the last."""

    @property
    def span(self) -> int:
        """Units of a span."""

    @property
    def limit(self) -> int:
        """Bytes that it has at most, as far as is known."""

    def start(self, first: int, count: int, at_hand: AtHand) -> Start[bytes]:
        """Begin to fetch `count` units from number `first`, as one; fewer where the row ends.

        Of several those that are at hand are not fetched again.
        What is awaited, or what makes bytes of it, raises: BlockNotFound, ContentError, StoreError.
        """
