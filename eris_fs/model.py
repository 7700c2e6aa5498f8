"""What a file tree is, as a value: a flat map from paths to entries.

ERIS-FS lists files, not directories: a directory is there because something is in it, and only an
empty one has an entry of its own. So a tree is one mapping, in any order, and holds capabilities
rather than contents. A tree that is itself a file or a symlink has one entry, at the empty path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eris.capability import ReadCapability

__all__ = [
    "DEFAULT_LIMITS",
    "EmptyDirectory",
    "Entry",
    "Limits",
    "Path",
    "RegularFile",
    "Symlink",
    "Tree",
    "printable",
    "show_path",
]

Path = tuple[str, ...]
"""The components of a path, from the top of the tree; `()` is the tree itself."""


@dataclass(frozen=True, slots=True)
class RegularFile:
    """A file: how to read its content, and whether its owner may execute it."""

    capability: ReadCapability
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link. The target is opaque, may lead nowhere or anywhere, is never followed."""

    target: str


@dataclass(frozen=True, slots=True)
class EmptyDirectory:
    """A directory with nothing in it."""


Entry = RegularFile | Symlink | EmptyDirectory
Tree = Mapping[Path, Entry]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a tree is believed, whoever wrote it. Sizes in bytes of UTF-8.

    The same limits hold for encoding, so that nothing is published that others would refuse.
    """

    entries: int = 1_000_000
    """Files, symlinks and directories, the implied ones included. One costs about 600 bytes of
    memory; the largest trees that are handed out (browsers, TeX) have less than half of this."""

    index_size: int = 256 * 1024 * 1024
    """Bytes of index: a million entries of twice the usual length."""

    depth: int = 256
    """Components of a path. Scanning and restoring hold one open directory for each."""

    name_size: int = 255
    """One component: NAME_MAX of Linux and of nearly all its file systems."""

    path_size: int = 4095
    """A whole path, separators included: PATH_MAX of Linux without the final NUL."""

    target_size: int = 4095
    """A symlink's target: PATH_MAX again; Linux makes no longer ones."""


DEFAULT_LIMITS = Limits()


def printable(text: str) -> str:
    """Make any name fit for a message: control characters and stray bytes become escapes.

    A name may hold terminal sequences, or bytes that are no UTF-8 (as surrogates).
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in text)


def _escape(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")


def show_path(path: Sequence[str]) -> str:
    """Write a path for a message; the empty path is `.`."""
    return printable("/".join(path)) or "."
