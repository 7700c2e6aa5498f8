"""What was encoded before: from a content's BLAKE3 to its read capability and its blocks.

BLAKE3 is six times as fast as encoding, and knowing the references is enough to ask the store
whether it still has every block; so content that is known is neither encrypted nor sent again. An
entry is a hint: it counts only while the store confirms all its blocks, and it carries a checksum
under its own key, since a wrong capability would be a wrong URN. The file may be deleted at any
time. It holds capabilities and is therefore for its owner only; keys depend on the convergence
secret and the block size, and nothing is remembered for a unique secret, which never comes again.

Synchronous, for a worker thread; a failing file switches the cache off, never the encoding.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from blake3 import blake3

from eris.model import CAPABILITY_SIZE, REFERENCE_SIZE
from kapla.user_paths import user_path

__all__ = ["CachedContent", "EncodeCache", "default_cache_path"]

_log = logging.getLogger(__name__)

DEFAULT_MAX_BYTES: Final = 256 * 1024 * 1024
"""Entries of some eight million blocks: 250 GB of large files, or some million small ones."""

_CONTEXT: Final = "kapla encode cache, version 1: key of contents"
_CHECK_SIZE: Final = 16
# An entry costs about this much beside its references.
_ENTRY_OVERHEAD: Final = 160
_WAL_LIMIT: Final = 8 * 1024 * 1024
_BATCH: Final = 256
# How often the whole is looked at while as much comes as there may be; how many go at a time.
_CHECKS: Final = 8
_DROPPED: Final = 10_000
_KEPT_UP_S: Final = 24 * 3600
"""How old the time of an entry's last use may be: writing it every time would cost as much as
looking the entry up."""


CachedContent = tuple[bytes, bytes]
"""What a content became: its capability in binary, and its references one after another."""


def default_cache_path() -> Path | None:
    """Where this user's cache is; None without a home."""
    directory = user_path("cache", "kapla")
    return None if directory is None else directory / "encode.sqlite"


class EncodeCache:
    """The cache of one convergence secret and block size rule (`variant`), in a shared file."""

    def __init__(
        self,
        path: Path,
        *,
        secret: bytes,
        variant: str,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        self._key = blake3(secret + variant.encode("utf-8"), derive_key_context=_CONTEXT).digest()
        self._path = path
        self._max_bytes = max_bytes
        # Taken by one worker thread at a time.
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._stamp = int(time.time())
        # What came since it was last looked at how much there is: see `remember`.
        self._added = 0
        try:
            self._connection = _open(path)
        except (OSError, sqlite3.Error) as error:
            _log.info("No encode cache: %s", error)

    def content_key(self, content: bytes) -> bytes:
        """The key of a content in memory, 32 bytes."""
        return blake3(content, key=self._key).digest()

    def start_key(self) -> blake3:
        """Begin the key of a content that comes in pieces: `update()`, then `digest()`."""
        return blake3(key=self._key)

    def recall(self, keys: Sequence[bytes]) -> list[CachedContent | None]:
        """Look contents up; None for each that is not known."""
        with self._lock:
            rows: dict[bytes, tuple[bytes, bytes]] = {}
            try:
                for start in range(0, len(keys), _BATCH):
                    rows.update(self._select(keys[start : start + _BATCH]))
            except sqlite3.Error as error:
                self._give_up(error)
        return [self._checked(key, rows.get(key)) for key in keys]

    def remember(self, contents: Sequence[tuple[bytes, CachedContent]]) -> None:
        """Note what contents became."""
        values = [(key, b"".join(known)) for key, known in contents]
        rows = [(key, value, _check(key, value), self._stamp) for key, value in values]
        with self._lock:
            if self._connection is None:
                return
            try:
                with self._connection:
                    self._connection.executemany(
                        "INSERT OR REPLACE INTO contents (key, value, checksum, used)"
                        " VALUES (?, ?, ?, ?)",
                        rows,
                    )
                    self._added += sum(len(value) + _ENTRY_OVERHEAD for _, value in values)
                    if self._added > self._max_bytes // _CHECKS:
                        # Not only at the end: a server runs for months, and others are killed.
                        self._shrink(self._connection)
                        self._added = 0
            except sqlite3.Error as error:
                self._give_up(error)

    def close(self) -> None:
        """Drop what was not used for longest, if there is too much, and close."""
        with self._lock:
            if self._connection is None:
                return
            try:
                with self._connection:
                    self._shrink(self._connection)
            except sqlite3.Error as error:
                self._give_up(error)
                return
            self._connection.close()
            self._connection = None

    def _select(self, keys: Sequence[bytes]) -> dict[bytes, tuple[bytes, bytes]]:
        if self._connection is None:
            return {}
        places = ",".join("?" * len(keys))
        found = self._connection.execute(
            f"SELECT key, value, checksum, used FROM contents WHERE key IN ({places})", tuple(keys)
        ).fetchall()
        if old := [row[0] for row in found if row[3] < self._stamp - _KEPT_UP_S]:
            with self._connection:
                self._connection.executemany(
                    "UPDATE contents SET used = ? WHERE key = ?",
                    [(self._stamp, key) for key in old],
                )
        return {key: (value, checksum) for key, value, checksum, _ in found}

    def _checked(self, key: bytes, row: tuple[bytes, bytes] | None) -> CachedContent | None:
        if row is None:
            return None
        value, checksum = row
        capability, references = value[:CAPABILITY_SIZE], value[CAPABILITY_SIZE:]
        whole = references and len(references) % REFERENCE_SIZE == 0
        return (capability, references) if whole and checksum == _check(key, value) else None

    def _shrink(self, connection: sqlite3.Connection) -> None:
        size = f"SUM(LENGTH(value) + {_ENTRY_OVERHEAD})"
        (total,) = connection.execute(f"SELECT {size} FROM contents").fetchone()
        if (total or 0) <= self._max_bytes:
            return
        # Down to three quarters, so that not every run has to do it.
        excess = total - self._max_bytes * 3 // 4
        oldest = (
            f"SELECT rowid, LENGTH(value) + {_ENTRY_OVERHEAD} FROM contents"
            f" ORDER BY used, rowid LIMIT {_DROPPED}"
        )
        while excess > 0 and (rows := connection.execute(oldest).fetchall()):
            for row_id, length in rows:
                if excess > 0:
                    connection.execute("DELETE FROM contents WHERE rowid = ?", (row_id,))
                    excess -= length

    def _give_up(self, error: sqlite3.Error) -> None:
        _log.info("The encode cache is off: %s", error)
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(
                error, sqlite3.OperationalError
            ):
                # Damaged, and it would be the next time: nothing in it is worth more than that.
                with contextlib.suppress(OSError):
                    _delete(self._path)


def _check(key: bytes, value: bytes) -> bytes:
    """The checksum of an entry: under its key, so that it fits no other content."""
    return blake3(value, key=key).digest(_CHECK_SIZE)


def _open(path: Path) -> sqlite3.Connection:
    """Open the cache file; one that is damaged, or is something else, is begun anew."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_directory(path.parent)
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise  # busy, or not allowed: not damaged
        _delete(path)
        return _connect(path)


def _check_directory(directory: Path) -> None:
    """See that nobody else can put something in the way of the names that SQLite will open.

    Raises: PermissionError. So root, with the HOME of a user, leaves that user's cache alone.
    """
    found = directory.stat()
    writable = found.st_mode & (stat.S_IWOTH | stat.S_IWGRP)
    if writable or found.st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EPERM, "the directory is not only ours", str(directory))


def _delete(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    connection = sqlite3.connect(path, timeout=5, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # Losing the newest entries in a power cut costs some time, no more.
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS contents (key BLOB NOT NULL UNIQUE, value BLOB NOT NULL,"
            " checksum BLOB NOT NULL, used INTEGER NOT NULL)"
        )
        connection.commit()
    except BaseException:
        connection.close()
        raise
    return connection
