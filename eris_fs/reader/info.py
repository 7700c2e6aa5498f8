"""What is told of one entry of a tree, whichever kind of tree it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from eris_fs.model import Path

__all__ = ["EntryInfo", "Kind"]


class Kind(Enum):
    """What an entry is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """One entry of a tree.

    `path`: its components, `()` for the tree itself. `executable`: whether a file's owner may
    execute it. `target`: where a symlink leads, else None; it is opaque and never followed. `size`:
    the bytes of a file; None where that is not known yet (`TreeReader.size` finds it), and for what
    is no file.
    """

    path: Path
    kind: Kind
    executable: bool = False
    target: str | None = None
    size: int | None = None

    @property
    def name(self) -> str:
        """The last component; empty for the tree itself."""
        return self.path[-1] if self.path else ""
