"""Many small files as one piece of work: what a worker thread reads and encodes at a time.

A switch of threads costs as much as encoding a small file, so files are read a batch at a time and
encoded a batch at a time, each in one call. A batch is bounded in bytes and in files. Files too
large to be held whole are handed on open, to be streamed.

Contents and capabilities stay out of reprs. Plain synchronous code, meant for a worker thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from eris.capability import ReadCapability
from eris.encode import Encoder
from eris.model import BlockSize, ConvergenceSecret, EncodedBlock, Reference
from eris_fs.errors import TreeError
from eris_fs.model import EmptyDirectory, Entry, Limits, Path, RegularFile, Symlink
from eris_fs.scan import OpenFile, Root, scan_tree
from eris_fs.selection import EVERYTHING, Selection

__all__ = [
    "SMALL_FILE_LIMIT",
    "Batch",
    "BatchReader",
    "EncodedBatch",
    "Known",
    "SizeRule",
    "encode_batch",
]

SizeRule = Callable[[int], BlockSize]
"""Which block size content of so many bytes gets."""

Known = tuple[bytes, bytes]
"""What a content became: its capability in binary, and its references one after another."""

SMALL_FILE_LIMIT: Final = 1024 * 1024
"""Files up to this many bytes are read whole; some milliseconds of encoding each at most."""

_BATCH_SIZE: Final = 1024 * 1024
# A thousand tiny files would take too long between two looks at the event loop.
_BATCH_FILES: Final = 256


@dataclass(slots=True)
class Batch:
    """Some entries of a tree in the order of the scan; `large`, if any, is the last one."""

    others: list[tuple[Path, Symlink | EmptyDirectory]] = field(default_factory=list)
    files: list[tuple[Path, bool, bytes]] = field(default_factory=list, repr=False)
    """Path, executable, content."""
    keys: list[bytes] = field(default_factory=list)
    """What the files' contents are called in a cache; none without one."""
    recalled: list[Known | None] = field(default_factory=list, repr=False)
    """What the cache has of them."""
    large: tuple[Path, OpenFile] | None = None
    encoded: EncodedBatch | None = None
    """What the files became, if that is known already."""


@dataclass(slots=True)
class EncodedBatch:
    """The finished entries of a batch, its blocks, how many files and bytes it stands for."""

    entries: list[tuple[Path, Entry]]
    blocks: list[EncodedBlock] = field(repr=False)
    files: int
    size: int
    encoded: list[tuple[bytes, Known]] = field(default_factory=list, repr=False)
    """For a cache: key, capability and references of each file that was encoded now."""


class BatchReader:
    """Scan a tree and read its small files, a batch at a time.

    It owns the large files it hands out, and closes what is left of them.
    """

    def __init__(self, root: Root, limits: Limits, selection: Selection = EVERYTHING) -> None:
        self._found = scan_tree(root, limits, selection=selection)
        self._selection = selection
        self._large: list[OpenFile] = []

    def next(self) -> Batch | None:
        """Read the next batch; None at the end.

        Raises: as `scan_tree`; FileChanged.
        """
        batch = Batch()
        size = 0
        for path, found in self._found:
            if not isinstance(found, OpenFile):
                batch.others.append((path, found))
            elif found.size > SMALL_FILE_LIMIT:
                self._large = [file for file in self._large if not file.closed]
                self._large.append(found)
                batch.large = (path, found)
                return batch
            else:
                try:
                    with found:
                        batch.files.append((path, found.executable, found.read_all()))
                except TreeError as error:
                    if not self._selection.skips(error):
                        raise
                size += found.size
            if size >= _BATCH_SIZE or len(batch.files) + len(batch.others) >= _BATCH_FILES:
                return batch
        return batch if batch.files or batch.others else None

    def close(self) -> None:
        """Close every directory and file still open."""
        self._found.close()
        for file in self._large:
            file.close()


def encode_batch(
    batch: Batch,
    block_size: SizeRule,
    secret: ConvergenceSecret,
    known: Mapping[int, ReadCapability],
) -> EncodedBatch:
    """Encode the small files of a batch; blocks that occur in several come out once.

    `known`: capabilities, by place in the batch, of files whose blocks are in the store already.
    """
    entries: list[tuple[Path, Entry]] = list(batch.others)
    blocks: dict[Reference, EncodedBlock] = {}
    encoded = []
    size = 0
    for place, (path, executable, content) in enumerate(batch.files):
        size += len(content)
        capability = known.get(place)
        if capability is None:
            encoder = Encoder(block_size(len(content)), secret)
            made = [*encoder.feed(content), *encoder.finish()]
            capability = encoder.read_capability
            blocks.update((block[0], block) for block in made)
            if batch.keys:
                references = b"".join(dict.fromkeys(block[0] for block in made))
                encoded.append((batch.keys[place], (capability.to_bytes(), references)))
        entries.append((path, RegularFile(capability, executable)))
    return EncodedBatch(entries, list(blocks.values()), len(batch.files), size, encoded)
