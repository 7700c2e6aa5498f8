"""What a delta is, as a value: entries of the new tree, and the patches that make its stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eris_fs.model import EmptyDirectory, PackedFile, Path, Symlink

__all__ = ["BaseFile", "BaseRange", "DeltaEntry", "DeltaTree", "Patch"]


@dataclass(frozen=True, slots=True)
class BaseFile:
    """A file with the content of one of the base: `number` counts these from 0."""

    number: int
    size: int
    executable: bool = False


DeltaEntry = PackedFile | BaseFile | Symlink | EmptyDirectory
"""A `PackedFile` is a range of the stream."""


@dataclass(frozen=True, slots=True)
class BaseRange:
    """Bytes of a file; `file` counts those of a tree from 0, in canonical order."""

    file: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Patch:
    """A piece of the stream of a delta: `size` bytes out of `stored_size`.

    If these are fewer they are compressed, with `ranges` of the base, joined, as what came before.
    """

    size: int
    stored_size: int
    ranges: tuple[BaseRange, ...] = ()


class DeltaTree(dict[Path, DeltaEntry]):
    """The tree that a delta leads to, in canonical order.

    `writer` tells what compressed the delta, for people.
    """

    __slots__ = ("patches", "writer")

    def __init__(
        self, entries: Mapping[Path, DeltaEntry], patches: Sequence[Patch], writer: str = ""
    ) -> None:
        super().__init__(entries)
        self.patches = tuple(patches)
        self.writer = writer
