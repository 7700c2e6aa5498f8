"""Files to the references of their blocks: what an index holds of them.

Blocks are made as any encoder makes them of trees, with the null convergence secret, and let go.

Plain synchronous code, for a worker thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from eris.crypto import encrypt_leaves, encrypt_node
from eris.encode import encode
from eris.model import (
    NULL_CONVERGENCE_SECRET,
    PAIR_SIZE,
    REFERENCE_SIZE,
    BlockSize,
    Reference,
    choose_block_size,
)
from eris.node import pad
from eris_fs import Entry, FileChanged, OpenFile, Path, TreeError, format_manifest, settled_status
from guix_glue.seed.errors import NotSeeded
from guix_glue.seed.files import open_below
from guix_glue.seed.listing import stamp_of
from guix_glue.seed.parts import LARGE_FILE, Listed

__all__ = ["LARGEST_FILE", "EncodedFile", "EncodedFiles", "encode_files", "encode_index"]

LARGEST_FILE: Final = 64 * 1024**3
"""Bytes of a file: the pairs of one take 128 MiB of memory while it is read."""

_SECRET: Final = bytes(NULL_CONVERGENCE_SECRET)
_PIECE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """The references of a file's blocks, level by level, and its root's pair.

    `pairs` are those in its nodes, level by level, if the file is a large one.
    """

    references: list[bytes]
    root: bytes = field(repr=False)
    pairs: bytes = field(repr=False)


@dataclass(slots=True)
class EncodedFiles:
    """The same of several files, one after the other."""

    references: list[bytes] = field(default_factory=list)
    roots: bytearray = field(default_factory=bytearray, repr=False)
    pairs: bytearray = field(default_factory=bytearray, repr=False)


def encode_files(
    root: str, entries: Iterable[Listed], stopped: Callable[[], bool]
) -> EncodedFiles | None:
    """Read and encode the files among these entries of a tree; None if it is `stopped` meanwhile.

    Raises: FileChanged, if one is not as it was listed; NotSeeded; TreeError; OSError.
    """
    done = EncodedFiles()
    for entry in entries:
        if entry.is_file:
            one = _encode_file(root, entry, stopped)
            if one is None:
                return None
            done.references += one.references
            done.roots += one.root
            done.pairs += one.pairs
    return done


def _encode_file(root: str, entry: Listed, stopped: Callable[[], bool]) -> EncodedFile | None:
    where = f"{root}/{entry.path}" if entry.path else root
    if entry.size > LARGEST_FILE:
        raise NotSeeded(f"{where} has more than {LARGEST_FILE >> 30} GiB")
    descriptor = open_below(root, entry.path)
    try:
        file = OpenFile(descriptor, where, settled_status(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    with file:
        if file.size != entry.size or (entry.stamp and stamp_of(file.stamp) != entry.stamp):
            raise FileChanged(where, "it is not as it was a moment ago")
        return _encode(file, choose_block_size(file.size), stopped)


def _encode(
    file: OpenFile, block_size: BlockSize, stopped: Callable[[], bool]
) -> EncodedFile | None:
    pairs, tail = bytearray(), b""
    while piece := file.read(_PIECE):
        if stopped():
            return None
        data = memoryview(tail + piece if tail else piece)
        whole = len(data) - len(data) % block_size
        if whole:
            encrypt_leaves(data[:whole], block_size, _SECRET, pairs)
        tail = bytes(data[whole:])
    encrypt_leaves(memoryview(pad(tail, block_size)), block_size, _SECRET, pairs)
    levels = [bytes(pairs)]
    while len(levels[-1]) > PAIR_SIZE:
        levels.append(_nodes(levels[-1], block_size, len(levels)))
    return EncodedFile(
        _references(levels),
        levels[-1],
        b"".join(levels[:-1]) if file.size > LARGE_FILE else b"",
    )


def _nodes(pairs: bytes, block_size: BlockSize, level: int) -> bytes:
    """The pairs of the nodes of a level, by those of the level below."""
    above = bytearray()
    for start in range(0, len(pairs), block_size):
        plain = pairs[start : start + block_size].ljust(block_size, b"\0")
        reference, key, _ = encrypt_node(plain, level)
        above += reference + key
    return bytes(above)


def _references(levels: Iterable[bytes]) -> list[bytes]:
    """Those of all blocks; of a row of equal ones, as in a hole, only the first."""
    references: list[bytes] = []
    last = b""
    for pairs in levels:
        for start in range(0, len(pairs), PAIR_SIZE):
            reference = pairs[start : start + REFERENCE_SIZE]
            references.append(b"" if reference == last else reference)
            last = reference
    return references


def encode_index(tree: Mapping[Path, Entry]) -> dict[Reference, bytes]:
    """The blocks of a tree's index, in an order that is always the same.

    Raises: NotSeeded, if it cannot be a tree.
    """
    try:
        return encode(b"".join(format_manifest(tree)))[1]
    except TreeError as error:
        raise NotSeeded(str(error)) from error
