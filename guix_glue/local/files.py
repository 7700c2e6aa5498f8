"""Files of this machine: opened if they are files, written at once or not at all.

A file that is written gets its name when its content is on disk, so that nobody ever reads half of
it; an error leaves what was there before, and nothing else.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final

__all__ = ["create_file", "open_regular", "read_file", "replace_file", "take_room"]

_NO_SUCH_CALL: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})


def read_file(path: str | Path, limit: int) -> bytes:
    """Read a small file, of at most `limit` bytes.

    Raises: OSError, with EFBIG for a larger one.
    """
    with open(path, "rb") as file:
        # Room is taken for as much as is asked for: the limit may be far beyond the file.
        content = file.read(min(limit, os.fstat(file.fileno()).st_size) + 1)
        content += file.read(limit + 1 - len(content)) if _is_more(file) else b""
    if len(content) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content


def _is_more(file: BufferedReader) -> bool:
    """Whether there is more: of a pipe, or of a file that has grown."""
    return bool(file.peek(1))


def open_regular(path: str) -> int:
    """Open a file to read, if it is a regular one; returns the descriptor.

    Anybody may name a directory as substitute server, and root reads it: merely to open a device
    or a named pipe can do something, so they are not even opened.
    Raises: OSError.
    """
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise IsADirectoryError(f"not a regular file: {path}")
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(handle)


def create_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file where nothing may be.

    Raises: FileExistsError; OSError.
    """
    with _written(path.parent, path.name, content, mode) as temporary:
        # Renaming would replace what somebody else has made meanwhile.
        os.link(temporary, path)


def replace_file(path: Path, content: bytes, mode: int, *, through: Path | None = None) -> None:
    """Write a file, in the place of what is there.

    `through` is a directory of the same file system to write it in; the file's own, if None.
    Raises: OSError.
    """
    with _written(through or path.parent, path.name, content, mode) as temporary:
        os.replace(temporary, path)


def take_room(file: BinaryIO, size: int) -> None:
    """Take the room that a file needs, where the file system can.

    Raises: OSError, if there is none.
    """
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in _NO_SUCH_CALL:
            raise


@contextmanager
def _written(directory: Path, name: str, content: bytes, mode: int) -> Iterator[Path]:
    """The content on disk under another name, which is gone afterwards."""
    temporary = directory / f".{name}.{os.urandom(8).hex()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
