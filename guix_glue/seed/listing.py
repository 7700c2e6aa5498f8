"""What is in a tree, without its contents; and what of it has to be read, as it was read before.

A tree of a person's changes: each of its files has a stamp, a hash of what the system says of it,
which is another when the file was written to. An item of a store does not, as long as the store
says that it is the same; there a file's times do change, when an equal one is linked to it.

Plain synchronous code, for a worker thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from struct import Struct
from typing import Final

from blake3 import blake3

from eris_fs import EmptyDirectory, OpenFile, Path, Stamp, Symlink, scan_tree
from guix_glue.seed.parts import Kind, Listed

__all__ = ["Fresh", "Known", "Step", "list_tree", "plan", "stamp_of"]

_STAMP: Final = Struct(">QQQqq")
_STAMP_SIZE: Final = 8
# Entries in one part, and bytes of files: what is done again after a crash, and read for a block.
_MOST_ENTRIES: Final = 4096
_MOST_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Known:
    """A part that is as it was: its number, and its entries."""

    number: int
    entries: tuple[Listed, ...]


@dataclass(frozen=True, slots=True)
class Fresh:
    """Entries that are to be read, and become a part."""

    entries: tuple[Listed, ...]


Step = Known | Fresh


def list_tree(root: str, *, stamped: bool, stopped: Callable[[], bool]) -> list[Listed] | None:
    """List the tree at `root`; None if it is `stopped` meanwhile.

    Raises: as `scan_tree`.
    """
    found: list[Listed] = []
    with closing(scan_tree(root)) as scan:
        for path, entry in scan:
            if isinstance(entry, OpenFile):
                entry.close()
            if stopped():
                return None
            found.append(_listed(path, entry, stamped=stamped))
    return found


def _listed(path: Path, entry: OpenFile | Symlink | EmptyDirectory, *, stamped: bool) -> Listed:
    name = "/".join(path)
    match entry:
        case Symlink(target):
            return Listed(name, Kind.SYMLINK, target=target)
        case EmptyDirectory():
            return Listed(name, Kind.EMPTY_DIRECTORY)
    kind = Kind.EXECUTABLE if entry.executable else Kind.FILE
    return Listed(name, kind, entry.size, stamp_of(entry.stamp) if stamped else b"")


def stamp_of(stamp: Stamp) -> bytes:
    """Eight bytes that are others when a file was written to."""
    packed = _STAMP.pack(
        stamp.device & (1 << 64) - 1, stamp.inode, stamp.size, stamp.mtime_ns, stamp.ctime_ns
    )
    return blake3(packed).digest(_STAMP_SIZE)


def plan(listing: Sequence[Listed], known: Sequence[Known]) -> list[Step]:
    """Cut a listing into parts: those that are known, as they are, and between them new ones.

    The last one is always new, and may be empty: it closes the tree.
    """
    begins = {one.entries[0]: one for one in known if one.entries}
    steps: list[Step] = []
    fresh: list[Listed] = []
    size = at = 0
    while at < len(listing):
        one = begins.get(listing[at])
        if one is not None and tuple(listing[at : at + len(one.entries)]) == one.entries:
            steps += _fresh(fresh)
            steps.append(one)
            fresh, size = [], 0
            at += len(one.entries)
            continue
        fresh.append(listing[at])
        size += listing[at].size
        at += 1
        if size >= _MOST_BYTES or len(fresh) >= _MOST_ENTRIES:
            steps += _fresh(fresh)
            fresh, size = [], 0
    return [*steps, Fresh(tuple(fresh))]


def _fresh(entries: list[Listed]) -> Iterator[Fresh]:
    if entries:
        yield Fresh(tuple(entries))
