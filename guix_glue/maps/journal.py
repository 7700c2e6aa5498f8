"""What an interrupted build of a map leaves behind, so that the next one goes on: a list beside it.

The first line says what the URNs are; of another kind nothing counts. The last line may be cut. One
program writes at a time.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from guix_glue.errors import GuixError
from guix_glue.formats.item_map import InvalidMap
from guix_glue.maps.files import parse_lines

__all__ = ["Journal", "JournalInUse"]

_BEGIN: Final = b"kapla-map-partial "


class JournalInUse(GuixError):
    """Another program builds the same map."""

    exit_code = 7

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: another kapla map build works on this map")


class Journal:
    """The items that are done, by hash part, with their URNs. Plain synchronous code."""

    def __init__(self, file: BinaryIO, path: Path, known: dict[str, str]) -> None:
        self._file = file
        self._path = path
        self.known = known
        """What was done before."""

    @classmethod
    @contextmanager
    def opened(cls, path: Path, kind: str) -> Iterator[Journal]:
        """Open it, or begin it. `kind`: what the URNs are, in one line.

        Raises: JournalInUse, OSError.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JournalInUse(path) from None
            head = _BEGIN + kind.encode() + b"\n"
            data = file.read()
            known, size = _parse(data, head)
            # What is behind it was cut, or is of another kind.
            file.truncate(size)
            file.seek(size)
            if not size:
                file.write(head)
            yield cls(file, path, known)

    def note(self, hash_part: str, urn: str) -> None:
        """An item is done. Raises: OSError."""
        self._file.write(f"{hash_part} {urn}\n".encode())

    def remove(self) -> None:
        """The map is whole: nothing is to be gone on with. Raises: OSError."""
        self._path.unlink(missing_ok=True)


def _parse(data: bytes, head: bytes) -> tuple[dict[str, str], int]:
    """What is known, and how many bytes of the file say so."""
    if not data.startswith(head):
        return {}, 0
    known: dict[str, str] = {}
    size = len(head)
    for line in data[size:].split(b"\n")[:-1]:
        try:
            parse_lines([line])
        except InvalidMap:
            break
        words = line.decode("ascii").split()
        if words:
            known[words[0]] = words[1]
        size += len(line) + 1
    return known, size
