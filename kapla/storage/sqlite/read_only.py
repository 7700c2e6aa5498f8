"""How SQLite is to open a store that is only read, beside whoever writes to it.

A store is in WAL mode: who reads it, too, needs its two files beside it, `-wal` and `-shm`. Where
these can be made, SQLite makes them, and removes them with the last connection. Where they are
there already, a writer has it open, and to read them is enough. On a file system where nobody can
write nothing changes, and they are not needed. In all other places it cannot be read.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from kapla.errors import StorageError

__all__ = ["uri_to_read"]


def uri_to_read(path: Path) -> str:
    """The name under which SQLite opens a file to read it.

    Raises: StorageError, with what is to be done, where it cannot.
    """
    real = os.path.realpath(path)
    name = f"file:{quote(os.fsencode(real))}"
    if not os.path.exists(real):
        raise StorageError("there is no such file")
    if not os.access(real, os.R_OK):
        raise StorageError("you may not read it")
    if os.access(real, os.W_OK) and os.access(os.path.dirname(real), os.W_OK | os.X_OK):
        # Not mode=ro, which would leave the files beside it behind.
        return f"{name}?mode=rw"
    if os.access(f"{real}-shm", os.R_OK) and os.access(f"{real}-wal", os.R_OK):
        return f"{name}?mode=ro"
    if _is_for_nobody_to_write(real) and not _has_wal(real):
        return f"{name}?mode=ro&immutable=1"
    raise StorageError(
        "while no daemon has it open, only who may write to it and to its directory can read it:"
        " run this as that user, start the daemon, or read a copy of the file"
    )


def _is_for_nobody_to_write(real: str) -> bool:
    return bool(os.statvfs(real).f_flag & os.ST_RDONLY)


def _has_wal(real: str) -> bool:
    """Whether something of the store is beside the file only."""
    try:
        return os.path.getsize(f"{real}-wal") > 0
    except FileNotFoundError:
        return False
