"""Hashes of a directory's entries, kept over restarts: a file with a line for each.

A line is a checksum and a JSON list: the entry, its stamp (`tree_stamp`), the hash and size of its
nar. A line that is damaged, or was cut off when the machine went down, counts as not there, alone.
The file is only appended to, and written anew when most of it is out of date or it was removed. It
is a cache: when it cannot be read or written, that is said once, what is known stays in memory, and
after a pause the whole file is written anew, with the next hash that is to be kept.

Synchronous; for worker threads.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import threading
import time
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
_PAUSE_S: Final = 60.0


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
        self,
        path: Path | None,
        replace: Callable[[Path, bytes], None] = _replace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._replace = replace
        self._clock = clock
        self._failing = False
        self._again_at = 0.0
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
            if self._path is None:
                return
            self._known[entry] = stamp, hashed
            self._lines += 1
            if not self._failing:
                self._append(self._path, _format_line(entry, stamp, hashed))
            elif self._clock() >= self._again_at:
                self._write_anew(self._path)

    def forget_others(self, entries: AbstractSet[str]) -> None:
        """Forget what is none of these entries, if it has become much."""
        with self._guard:
            # A directory that is empty may only not be mounted.
            if self._path is None or not entries or self._lines <= 2 * len(entries) + _SLACK:
                return
            self._known = {name: known for name, known in self._known.items() if name in entries}
            self._lines = len(self._known)
            if not self._failing or self._clock() >= self._again_at:
                self._write_anew(self._path)

    def _append(self, path: Path, line: bytes) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                # What a full disk left of a line must not spoil the next one.
                if os.write(descriptor, b"\n" + line) <= len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            # Somebody has removed it, and the lines of the others with it.
            self._write_anew(path)
        except OSError as error:
            self._fail(error)

    def _write_anew(self, path: Path) -> None:
        text = b"".join(_format_line(name, *known) for name, known in self._known.items())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._replace(path, text)
        except OSError as error:
            self._fail(error)
            return
        self._lines = len(self._known)
        if self._failing:
            _log.info("hashes of items can be kept again: %s", path)
            self._failing = False

    def _fail(self, error: OSError) -> None:
        """Leave the file alone for a while, and say so once."""
        if not self._failing:
            reason = error.strerror or error
            _log.warning("hashes of items cannot be kept: %s: %s", self._path, reason)
        self._failing = True
        self._again_at = self._clock() + _PAUSE_S

    def _read(self, path: Path) -> None:
        try:
            with open(open_regular(str(path)), "rb") as file:
                text = file.read(_LARGEST)
        except FileNotFoundError:
            return
        except OSError as error:
            self._fail(error)
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
