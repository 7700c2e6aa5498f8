"""Many small files as one piece of work: what a worker thread reads and encodes at a time.

A switch of threads costs as much as encoding a small file, so files are read a batch at a time and
encoded a batch at a time, each in one call. A batch is bounded in bytes and in files. Files too
large to be held whole are handed on open, to be streamed.

Plain synchronous code, meant for a worker thread.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final

from eris.encode import Encoder
from eris.model import BlockSize, ConvergenceSecret, EncodedBlock, Reference, choose_block_size
from eris_fs.model import EmptyDirectory, Entry, Limits, Path, RegularFile, Symlink
from eris_fs.scan import OpenFile, scan_tree

__all__ = ["SMALL_FILE_LIMIT", "Batch", "BatchReader", "EncodedBatch", "encode_batch"]

SMALL_FILE_LIMIT: Final = 256 * 1024
"""Files up to this many bytes are read whole; some milliseconds of encoding each at most."""

_BATCH_SIZE: Final = 1024 * 1024
# A thousand tiny files would take too long between two looks at the event loop.
_BATCH_FILES: Final = 256


@dataclass(slots=True)
class Batch:
    """Some entries of a tree in the order of the scan; `large`, if any, is the last one."""

    others: list[tuple[Path, Symlink | EmptyDirectory]] = field(default_factory=list)
    files: list[tuple[Path, bool, bytes]] = field(default_factory=list)
    """Path, executable, content."""
    large: tuple[Path, OpenFile] | None = None


@dataclass(slots=True)
class EncodedBatch:
    """The finished entries of a batch, its blocks, how many files and bytes it stands for."""

    entries: list[tuple[Path, Entry]]
    blocks: list[EncodedBlock]
    files: int
    size: int


class BatchReader:
    """Scan a tree and read its small files, a batch at a time.

    It owns the large files it hands out, and closes what is left of them.
    """

    def __init__(self, root: str | os.PathLike[str], limits: Limits) -> None:
        self._found = scan_tree(root, limits)
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
                with found:
                    batch.files.append((path, found.executable, found.read_all()))
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
    batch: Batch, block_size: BlockSize | None, secret: ConvergenceSecret
) -> EncodedBatch:
    """Encode the small files of a batch; blocks that occur in several come out once."""
    entries: list[tuple[Path, Entry]] = list(batch.others)
    blocks: dict[Reference, EncodedBlock] = {}
    size = 0
    for path, executable, content in batch.files:
        encoder = Encoder(block_size or choose_block_size(len(content)), secret)
        for block in encoder.feed(content):
            blocks[block[0]] = block
        for block in encoder.finish():
            blocks[block[0]] = block
        entries.append((path, RegularFile(encoder.read_capability, executable)))
        size += len(content)
    return EncodedBatch(entries, list(blocks.values()), len(batch.files), size)
