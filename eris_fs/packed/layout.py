"""Which files share a pack; pure functions of paths, sizes and contents.

Many files in one pack compress better; few make an upgrade cheaper, since a pack with one changed
file is moved whole. So packs of small files are of medium size, and they end where the hash of a
path says so: contents may change and other files come and go without moving the ends of packs far
from them. Large files stand alone, unless they are much alike.

The numbers are those that `docs/formats.md` gives; `docs/decisions/0007-packed-trees.md` tells
how they were found.
"""

from __future__ import annotations

import hashlib
from itertools import chain
from struct import Struct
from typing import Final

__all__ = [
    "CUT_SIZE",
    "SMALL_FILE_LIMIT",
    "Sample",
    "ends_pack",
    "exceeds_pack",
    "sample",
    "similar",
]

SMALL_FILE_LIMIT: Final = 64 * 1024
"""Files below this are gathered."""

CUT_SIZE: Final = 8 * 1024 * 1024
"""Larger files are cut at every so many bytes, and no pack of ours is larger."""

_TARGET: Final = 128 * 1024
_LEAST: Final = 96 * 1024
_MOST: Final = 1024 * 1024
# A size rounded down to a power of two is on average this many times smaller.
_ROUNDED: Final = 1.39
# Likeness is looked for in strings of 32 bytes: of one file those at every multiple of 128, of the
# other those at every byte of a row of 128, so that what both have is met wherever it stands.
_STRING: Final = 32
_STRIDE: Final = 128
_PROBES: Final = 32
_HITS: Final = 10
_AT_STRIDES: Final = Struct(f"{_STRING}s{_STRIDE - _STRING}x")

_IN_ROW: Final = tuple(slice(at, at + _STRING) for at in range(_STRIDE))

Sample = frozenset[bytes]
"""Strings of a large file, by which another one may be found to be like it."""


def exceeds_pack(gathered: int, size: int) -> bool:
    """Whether a pack with so many bytes must end before a small file of this size."""
    return gathered > 0 and gathered + size > _MOST


def ends_pack(path: bytes, size: int, gathered: int) -> bool:
    """Whether a pack with so many bytes, this file's included, ends behind this small file."""
    if gathered < _LEAST:
        return False
    hashed = int.from_bytes(hashlib.blake2b(path, digest_size=32).digest()[:4], "big")
    rounded = 1 << (size.bit_length() - 1)
    return hashed < (1 << 32) * (rounded * _ROUNDED / _TARGET)


def sample(content: bytes) -> Sample:
    """Take the strings of a large file, for `similar`."""
    whole = len(content) - len(content) % _STRIDE
    return frozenset(chain.from_iterable(_AT_STRIDES.iter_unpack(memoryview(content)[:whole])))


def similar(first: Sample, second: bytes) -> bool:
    """Whether two large files have so much in common that they belong in one pack."""
    step = (len(second) - _STRIDE - _STRING) // _PROBES
    hits = 0
    for probe in range(_PROBES):
        start = probe * step + step // 2
        row = second[start : start + _STRIDE + _STRING]
        hits += not first.isdisjoint(map(row.__getitem__, _IN_ROW))
        # As soon as it is settled.
        if hits == _HITS or hits + _PROBES - probe <= _HITS:
            break
    return hits >= _HITS
