"""Hashes of a directory's entries, kept over restarts: a file with a line for each.

A line is a checksum and a JSON list: the entry, its stamp (`tree_stamp`), the hash and size of its
nar. A line that is damaged, or was cut off when the machine went down, counts as not there, alone.
The file is only appended to, and written anew when most of it is out of date. It is a cache: when
it cannot be read or written, entries are hashed again at the next start, and that is said once.

Synchronous; for worker threads.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final, NamedTuple

from guix_glue.local.files import open_regular, replace_file

__all__ = ["Hashed", "KnownHashes"]

_log = logging.getLogger(__name__)

_LONGEST_LINE: Final = 1024
_LARGEST: Final = 256 * 1024 * 1024
_CHECK_DIGITS: Final = 16
# So many lines that are out of date are not worth writing the file anew.
_SLACK: Final = 1000


class Hashed(NamedTuple):
    """The SHA-256 of a nar, and its bytes."""

    digest: bytes
    size: int


def _replace(path: Path, content: bytes) -> None:
    replace_file(path, content, 0o600)


class KnownHashes:
    """The file at `path`; with None nothing is kept.

    `replace` writes a file in the place of another, and leaves nothing when it is killed.
    """

    def __init__(
        self, path: Path | None, replace: Callable[[Path, bytes], None] = _replace
    ) -> None:
        self._path = path
        self._replace = replace
        self._guard = threading.Lock()
        self._lines = 0
        self._known: dict[str, tuple[bytes, Hashed]] = {}
        if path is not None:
            self._read(path)

    def recall(self, entry: str, stamp: bytes) -> Hashed | None:
        """The hash of an entry that has this stamp."""
        with self._guard:
            known = self._known.get(entry)
        return known[1] if known is not None and known[0] == stamp else None

    def keep(self, entry: str, stamp: bytes, hashed: Hashed) -> None:
        """Note the hash of an entry as it is at this stamp."""
        with self._guard:
            if self._path is not None:
                self._known[entry] = stamp, hashed
                self._append(self._path, _format_line(entry, stamp, hashed))

    def forget_others(self, entries: AbstractSet[str]) -> None:
        """Forget what is none of these entries, if it has become much."""
        with self._guard:
            # A directory that is empty may only not be mounted.
            if self._path is None or not entries or self._lines <= 2 * len(entries) + _SLACK:
                return
            self._known = {name: known for name, known in self._known.items() if name in entries}
            text = b"".join(_format_line(name, *known) for name, known in self._known.items())
            try:
                self._replace(self._path, text)
            except OSError as error:
                self._give_up(error)
            self._lines = len(self._known)

    def _append(self, path: Path, line: bytes) -> None:
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
            try:
                # What a full disk left of a line must not spoil the next one.
                os.write(descriptor, b"\n" + line)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._give_up(error)
        self._lines += 1

    def _give_up(self, error: OSError) -> None:
        _log.warning("hashes of items cannot be kept: %s: %s", self._path, error.strerror)
        self._path = None

    def _read(self, path: Path) -> None:
        try:
            with open(open_regular(str(path)), "rb") as file:
                text = file.read(_LARGEST)
        except FileNotFoundError:
            return
        except OSError as error:
            self._give_up(error)
            return
        for line in filter(None, text.split(b"\n")):
            self._lines += 1
            found = _parse_line(line)
            if found is not None:
                entry, stamp, hashed = found
                self._known[entry] = stamp, hashed


def _format_line(entry: str, stamp: bytes, hashed: Hashed) -> bytes:
    text = json.dumps([entry, stamp.hex(), hashed.digest.hex(), hashed.size]).encode()
    return _check(text) + b" " + text + b"\n"


def _parse_line(line: bytes) -> tuple[str, bytes, Hashed] | None:
    check, _, text = line.partition(b" ")
    if len(line) > _LONGEST_LINE or _check(text) != check:
        return None
    try:
        entry, stamp, digest, size = json.loads(text)
        return str(entry), bytes.fromhex(stamp), Hashed(bytes.fromhex(digest), int(size))
    except (ValueError, TypeError, ArithmeticError, RecursionError):
        return None


def _check(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_CHECK_DIGITS].encode()
