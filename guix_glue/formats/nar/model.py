"""What a nar says, as flat events, and how much of it is believed.

Events come in the order of the nar: a directory before what is in it, entries by the bytes of their
names. That is the order of paths as tuples of bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "DEFAULT_NAR_LIMITS",
    "Data",
    "Directory",
    "File",
    "NarEvent",
    "NarLimits",
    "NarPath",
    "Symlink",
]

NarPath = tuple[bytes, ...]
"""The components of a path below the item, raw bytes; `()` is the item itself."""


class Directory(NamedTuple):
    """A directory begins; its entries follow, if it has any."""

    path: NarPath


class File(NamedTuple):
    """A file begins; `Data` events follow, together of `size` bytes (none if that is 0)."""

    path: NarPath
    size: int
    executable: bool


class Symlink(NamedTuple):
    """A symbolic link. The target is opaque."""

    path: NarPath
    target: bytes


class Data(NamedTuple):
    """The next bytes of the file that began last; at least one."""

    content: bytes | memoryview


NarEvent = Directory | File | Symlink | Data


@dataclass(frozen=True, slots=True)
class NarLimits:
    """How much of a nar is believed, whoever sent it. Sizes in bytes."""

    size: int = 1 << 44
    """The whole nar: more than stores have room for. Where a size is signed, that is the limit."""

    entries: int = 1_000_000
    """Files, symlinks and directories: what is let through of trees, too."""

    depth: int = 256
    """Components of a path. Whoever restores an item holds one open directory for each."""

    name_size: int = 255
    """One component: NAME_MAX of Linux."""

    target_size: int = 4095
    """A symlink's target: PATH_MAX of Linux without the final NUL."""


DEFAULT_NAR_LIMITS = NarLimits()
