"""Names for the bytes of files: the entity tags of HTTP."""

from __future__ import annotations

import hashlib
import os
from typing import BinaryIO

__all__ = ["file_tag"]


def file_tag(file: BinaryIO, *identity: bytes | str) -> str:
    """The tag of an open file: another whenever the bytes may be others.

    `identity` says what the bytes are of, as the hash of a nar and its compression. That alone
    would not do: the same nar compressed again, by another version of a library, may be other
    bytes. What is written to or replaced has another time, or is another file.
    """
    found = os.fstat(file.fileno())
    facts = (*identity, found.st_size, found.st_mtime_ns, found.st_ino)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
