"""Pins as every backend has them: sizes, which are meant, and what an open one is to become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeVar

from eris.errors import StoreFull
from eris.model import BlockSize, Reference
from kapla.errors import PinNotFound, RequestMalformed
from kapla.pins import default_name
from kapla.sizes import size_text

__all__ = [
    "BEFORE_PINS",
    "SALVAGED",
    "Closing",
    "Hold",
    "PinChoice",
    "Sizes",
    "no_room",
    "quota_of",
    "some",
]

_Pin = TypeVar("_Pin")

BEFORE_PINS: Final = "before-pins"
"""The pin over all that a store held before there were pins. It is root's."""

SALVAGED: Final = "salvaged"
"""The pin over all that there is, where it cannot be read any more what is pinned. It is root's."""


class Hold(Protocol):
    """The blocks of an open pin so far, as its backend has them. `owner` is a uid."""

    owner: int


class Sizes(NamedTuple):
    """How many blocks of each size."""

    small: int = 0
    large: int = 0

    @property
    def bytes(self) -> int:
        """What the blocks have together."""
        return self.small * BlockSize.SMALL + self.large * BlockSize.LARGE


@dataclass(frozen=True, slots=True)
class Closing:
    """What an open pin is to become. Without a name it is called by its root."""

    name: str | None
    root: Reference | None
    lend: bool
    keep: bool
    incomplete: bool

    @property
    def called(self) -> str:
        """The name of the pin. Raises: RequestMalformed, if there is neither that nor a root."""
        if self.name is not None:
            return self.name
        if self.root is None:
            raise RequestMalformed("a pin needs a name or a root")
        return default_name(self.root)


@dataclass(frozen=True, slots=True)
class PinChoice:
    """The pins of an owner that are meant: the one of a name, or all with a root."""

    owner: int
    name: str | None = None
    root: Reference | None = None


def some(found: list[_Pin]) -> list[_Pin]:
    """What was found of pins. Raises: PinNotFound, if that is none."""
    if not found:
        raise PinNotFound("there is no such pin")
    return found


def quota_of(max_pinned: int | None, max_size: int | None) -> int | None:
    """Bytes that the pins of one user may hold: by default half of what the store may."""
    if max_pinned is None and max_size is not None:
        return max_size // 2
    return max_pinned


def no_room(pinned: int, quota: int) -> StoreFull:
    """The error of who pins more than is allowed."""
    return StoreFull(
        f"your pins hold {size_text(pinned)} of the {size_text(quota)} that one user may pin"
        " (max-pinned-bytes): release some of them"
    )
