"""The fixed parts of a nar.

A nar is a row of strings: a length (64 bits, little-endian), the bytes, and zeroes up to a multiple
of 8. Everything but names, targets, sizes and contents is the same in each, so that whole rows of
strings can be compared, or written, as one.
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = [
    "CLOSE",
    "DIRECTORY",
    "ENTRY",
    "EXECUTABLE",
    "LENGTH",
    "MAGIC",
    "NODE",
    "REGULAR",
    "SYMLINK",
    "format_string",
    "is_name",
]

LENGTH: Final = struct.Struct("<Q")

_PADDING: Final = tuple(bytes(count) for count in (0, 7, 6, 5, 4, 3, 2, 1))


def format_string(content: bytes) -> bytes:
    """Write one string: length, bytes, padding."""
    return LENGTH.pack(len(content)) + content + _PADDING[len(content) % 8]


def _row(*strings: bytes) -> bytes:
    return b"".join(map(format_string, strings))


MAGIC: Final = _row(b"nix-archive-1")
ENTRY: Final = _row(b"entry", b"(", b"name")
"""What precedes a name in a directory."""
NODE: Final = _row(b"node")
"""What follows the name."""
# Up to what is variable: the size of a file, the target, or the first entry.
REGULAR: Final = _row(b"(", b"type", b"regular", b"contents")
EXECUTABLE: Final = _row(b"(", b"type", b"regular", b"executable", b"", b"contents")
SYMLINK: Final = _row(b"(", b"type", b"symlink", b"target")
DIRECTORY: Final = _row(b"(", b"type", b"directory")
CLOSE: Final = _row(b")")
"""Ends a node; twice, if that was in a directory, as the entry ends, too."""


def is_name(name: bytes) -> bool:
    """Whether an entry of a directory can be named so."""
    return name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name
