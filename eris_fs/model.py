"""What a file tree is, as a value: a flat map from paths to entries.

There are two kinds of trees. In one each file is a content of its own; in the other, a packed tree,
files are ranges of a stream that is cut into compressed packs.

ERIS-FS lists files, not directories: a directory is there because something is in it, and only an
empty one has an entry of its own. So a tree is one mapping, in any order, and holds capabilities
rather than contents. A tree that is itself a file or a symlink has one entry, at the empty path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from eris.capability import ReadCapability
from eris.model import CAPABILITY_SIZE

__all__ = [
    "DEFAULT_LIMITS",
    "EmptyDirectory",
    "Entry",
    "FileEntry",
    "Limits",
    "Pack",
    "PackedFile",
    "PackedTree",
    "Path",
    "RegularFile",
    "Symlink",
    "Tree",
    "printable",
    "show_path",
]

Path = tuple[str, ...]
"""The components of a path, from the top of the tree; `()` is the tree itself.

In a packed tree bytes that are no UTF-8 stand in them as `surrogateescape` has them.
"""


@dataclass(frozen=True, slots=True)
class RegularFile:
    """A file: how to read its content, and whether its owner may execute it."""

    capability: ReadCapability
    executable: bool = False


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file of a packed tree: which bytes of the stream it is; an empty one has offset 0."""

    offset: int
    size: int
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link. The target is opaque, may lead nowhere or anywhere, is never followed."""

    target: str


@dataclass(frozen=True, slots=True)
class EmptyDirectory:
    """A directory with nothing in it."""


FileEntry = RegularFile | PackedFile
Entry = FileEntry | Symlink | EmptyDirectory
Tree = Mapping[Path, Entry]


@dataclass(frozen=True, slots=True, repr=False)
class Pack:
    """A piece of the stream of a packed tree: which bytes it is, and how to read them.

    `capabilities` are those of its pieces in binary, one after the other.
    """

    offset: int
    size: int
    stored_size: int
    capabilities: bytes

    def __repr__(self) -> str:
        return f"<Pack of {self.size} bytes at {self.offset}, redacted>"

    def pieces(self, first: int = 0, last: int | None = None) -> Iterator[ReadCapability]:
        """The contents that together are what is stored of it, or some of them by number."""
        end = len(self.capabilities)
        if last is not None:
            end = min(end, last * CAPABILITY_SIZE)
        for start in range(first * CAPABILITY_SIZE, end, CAPABILITY_SIZE):
            yield ReadCapability.from_bytes(self.capabilities[start : start + CAPABILITY_SIZE])


class PackedTree(dict[Path, Entry]):
    """A tree whose files are in packs; its order is that of the index.

    `writer` tells what compressed it, for people.
    """

    __slots__ = ("packs", "writer")

    def __init__(
        self, entries: Mapping[Path, Entry], packs: Sequence[Pack], writer: str = ""
    ) -> None:
        super().__init__(entries)
        self.packs = tuple(packs)
        self.writer = writer


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

    index_ratio: int = 1024
    """How many times larger than stored the index of a packed tree may be, if it is over 16 MiB:
    file names do not reach a tenth of it, zeroes do."""

    pack_ratio: int = 65_536
    """The same of a pack, which has 16 MiB at most. zstd does not reach this, so that files full of
    zeroes are let through; a caller who expects none can ask for less."""

    packs: int = 262_144
    """Packs of a packed tree: 32 GiB of small files, or 2 TiB of large ones. There is also no more
    than one for each entry and for each 64 KiB in them: more would only cost memory."""

    content_size: int = 1 << 44
    """Bytes of all files of a packed tree, those of equal content counted each time."""


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
