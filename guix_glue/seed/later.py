"""A block that takes long to make, as whoever answers sees it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

__all__ = ["Later"]


@dataclass(frozen=True, slots=True)
class Later:
    """Makes one; None if it cannot be made after all. What has one `key` is made together."""

    key: Hashable
    make: Callable[[], bytes | None]
