"""What a tree is like but for its contents, and its canonical listing; pure.

An *outline* tells which entries there are, and how large the files: enough to make a tree, when its
contents come from elsewhere, and all that a delta depends on of its base before it is applied. A
*listing* is an outline and the hashes of the files: whoever has neither a signature nor a NarHash
compares with it.

Source: `docs/formats.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from eris_fs.errors import UnsafePath
from eris_fs.model import (
    DEFAULT_LIMITS,
    EmptyDirectory,
    Limits,
    Path,
    Symlink,
)
from eris_fs.paths import check_path, check_target, order_paths, raw_text
from eris_fs.sections import EMPTY_DIRECTORY, SYMLINK, format_column, format_sections

__all__ = [
    "HASH_SIZE",
    "ListingHash",
    "Outline",
    "OutlineEntry",
    "OutlineFile",
    "canonical_order",
    "join_texts",
]

HASH_SIZE: Final = 32
"""Bytes of a Blake2b-256."""


@dataclass(frozen=True, slots=True)
class OutlineFile:
    """A file: its size in bytes, and whether its owner may execute it."""

    size: int
    executable: bool = False


OutlineEntry = OutlineFile | Symlink | EmptyDirectory


class Outline(dict[Path, OutlineEntry]):
    """A tree in canonical order; its files are counted in that order from 0, `sizes` in bytes."""

    __slots__ = ("files", "sizes")

    def __init__(
        self, entries: Mapping[Path, OutlineEntry], limits: Limits = DEFAULT_LIMITS
    ) -> None:
        """Bring the entries in order, and check them.

        Raises: UnsafePath, TreeTooLarge.
        """
        super().__init__((path, entries[path]) for path in canonical_order(entries, limits))
        for path, entry in self.items():
            check_path(path, limits, any_bytes=True)
            if isinstance(entry, Symlink):
                check_target(path, entry.target, limits, any_bytes=True)
        found = [(path, one.size) for path, one in self.items() if isinstance(one, OutlineFile)]
        self.files: Sequence[Path] = [path for path, _ in found]
        self.sizes: Sequence[int] = [size for _, size in found]

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(self.sizes)

    def to_bytes(self) -> bytes:
        """Write it as `docs/formats.md` has it: kinds, sizes, paths and targets."""
        kinds = bytes(map(_kind, self.values()))
        targets = (raw_text(one.target) for one in self.values() if isinstance(one, Symlink))
        return format_sections(
            (
                kinds,
                format_column(self.sizes),
                join_texts(raw_text("/".join(path)) for path in self),
                join_texts(targets),
            )
        )

    def digest(self) -> bytes:
        """The Blake2b-256 of that, by which a delta knows its base. For a worker thread."""
        return blake2b(self.to_bytes(), digest_size=HASH_SIZE).digest()


def join_texts(texts: Iterable[bytes]) -> bytes:
    """Write texts, each ended by a byte 00."""
    return b"".join(text + b"\0" for text in texts)


def _kind(entry: OutlineEntry) -> int:
    if isinstance(entry, OutlineFile):
        return int(entry.executable)
    return SYMLINK if isinstance(entry, Symlink) else EMPTY_DIRECTORY


def canonical_order(paths: Iterable[Path], limits: Limits = DEFAULT_LIMITS) -> list[Path]:
    """Sort paths by the bytes of their components, as a nar has them; checks them as a whole.

    Raises: UnsafePath, TreeTooLarge.
    """
    ordered = order_paths(paths, limits)
    try:
        ordered.sort(key=_raw)
    except UnicodeEncodeError:
        raise UnsafePath((), "a component that is not Unicode") from None
    return ordered


def _raw(path: Path) -> tuple[bytes, ...]:
    return tuple(map(raw_text, path))


class ListingHash:
    """The hash of a canonical listing, made while the files go by in canonical order."""

    def __init__(self, outline: Outline) -> None:
        self._state = blake2b(outline.to_bytes(), digest_size=HASH_SIZE)

    def add(self, digest: bytes) -> None:
        """Take the Blake2b-256 of the next file."""
        self._state.update(digest)

    def digest(self) -> bytes:
        """The hash (32 bytes), once all files are added."""
        return self._state.digest()
