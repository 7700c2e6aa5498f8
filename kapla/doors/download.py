"""A file out of a store into one on this machine, which is there when it is whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, Final, Protocol

from eris.capability import ReadCapability
from eris.threads import in_thread
from eris_fs.reader import EntryInfo
from kapla.doors.session import Session

__all__ = ["Progress", "download"]

_STEP: Final = 4 * 1024 * 1024
"""Bytes that are read, and then written, at a time."""


class Progress(Protocol):
    """Who is told how far it is: fsspec's callbacks are."""

    def set_size(self, size: int | None) -> Any:
        """So many bytes it will be."""

    def relative_update(self, inc: int = 1) -> Any:
        """So many more are written."""


class _Writable(Protocol):
    def write(self, data: bytes, /) -> Any: ...


async def download(
    session: Session,
    capability: ReadCapability,
    file: EntryInfo,
    target: str | os.PathLike[str] | _Writable,
    progress: Progress,
) -> None:
    """Write a file to a path, or into a binary file that is open.

    What was at the path is replaced when all is there; after an error it is as it was.
    Raises: OSError; BlockNotFound, ContentError, StoreError.
    """
    progress.set_size(file.size)
    if not isinstance(target, str | os.PathLike):
        await _write(session, capability, file, target.write, progress)
        return
    path = os.fspath(target)
    output, beside = await in_thread(_open_beside, path, file.executable)
    try:
        with output:
            await _write(session, capability, file, output.write, progress)
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def _open_beside(path: str, executable: bool) -> tuple[BinaryIO, str]:
    descriptor, beside = tempfile.mkstemp(prefix=".kapla-", dir=os.path.dirname(path) or ".")
    # As any new file, not only for its owner.
    os.fchmod(descriptor, (0o777 if executable else 0o666) & ~_umask())
    return os.fdopen(descriptor, "wb"), beside


async def _write(
    session: Session,
    capability: ReadCapability,
    file: EntryInfo,
    write: Callable[[bytes], Any],
    progress: Progress,
) -> None:
    at = 0
    while piece := await session.read(capability, file.path, at, _STEP):
        await in_thread(_write_all, write, piece)
        at += len(piece)
        progress.relative_update(len(piece))


def _write_all(write: Callable[[bytes], Any], piece: bytes) -> None:
    """A raw file may take less than it is given, and says how much."""
    rest = memoryview(piece)
    while rest:
        written = write(rest)  # type: ignore[arg-type]
        rest = rest[len(rest) if written is None else written :]


def _umask() -> int:
    """The umask, without setting it for a moment, which other threads would see."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o077
