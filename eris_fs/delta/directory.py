"""A directory, or one file, whose files are read in ranges.

Nothing is ever named to the kernel but a single component below a directory that is open, and no
symlink is followed: so nothing outside is read, whatever is moved meanwhile. What is not there any
more, or not as long as it was, shows as an error; that the content is what it was, does not.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from threading import Lock
from types import TracebackType
from typing import Final, Self

from eris.threads import in_thread
from eris_fs.delta.model import BaseRange
from eris_fs.errors import FileChanged
from eris_fs.model import DEFAULT_LIMITS, Limits, Path, show_path
from eris_fs.open_file import explain
from eris_fs.outline import Outline, OutlineEntry, OutlineFile
from eris_fs.paths import common_length, raw_text
from eris_fs.scan import FileFacts, look_through_tree

__all__ = ["DirectoryFiles"]

_BELOW: Final = os.O_NOFOLLOW | os.O_CLOEXEC
_ENTER: Final = os.O_PATH | os.O_DIRECTORY | _BELOW
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | _BELOW


class DirectoryFiles:
    """The files at `root`; use it as a context, or close it.

    What is there is looked at when it is made, in a worker thread: `await in_thread(DirectoryFiles,
    root)`.
    Raises: UnsupportedEntry, FileChanged, TreeTooLarge; OSError.
    """

    def __init__(self, root: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> None:
        self._root = os.fspath(root)
        self.outline = Outline(_look(root, limits), limits)
        """What is there."""
        self._lock = Lock()
        self._open: list[int] = []
        self._way: Path = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close whatever is open; again is harmless. No read may be under way."""
        while self._open:
            os.close(self._open.pop())

    async def read(self, ranges: Sequence[BaseRange]) -> bytes:
        """As `TreeFiles.read`."""
        return await in_thread(self.read_now, ranges)

    def read_now(self, ranges: Sequence[BaseRange]) -> bytes:
        """The same at once, for a worker thread."""
        parts: list[bytes] = []
        current, descriptor = -1, -1
        with self._lock:
            try:
                for one in ranges:
                    if one.file != current:
                        if descriptor >= 0:
                            os.close(descriptor)
                            descriptor = -1
                        descriptor = self._open_file(one.file)
                        current = one.file
                    parts += self._pread(descriptor, one)
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
        return b"".join(parts)

    def _pread(self, descriptor: int, one: BaseRange) -> list[bytes]:
        parts: list[bytes] = []
        offset, end = one.offset, one.offset + one.length
        where = self._shown(self.outline.files[one.file])
        while offset < end:
            try:
                parts.append(os.pread(descriptor, end - offset, offset))
            except OSError as error:
                explain(error, where)
            if not parts[-1]:
                raise FileChanged(where, "it is shorter than it was")
            offset += len(parts[-1])
        return parts

    def _open_file(self, file: int) -> int:
        path = self.outline.files[file]
        where = self._shown(path)
        try:
            if path:
                descriptor = os.open(raw_text(path[-1]), _READ, dir_fd=self._enter(path[:-1]))
            else:
                descriptor = os.open(self._root, _READ)
        except OSError as error:
            explain(error, where)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise FileChanged(where, "it became another kind of file")
        if found.st_size != self.outline.sizes[file]:
            os.close(descriptor)
            raise FileChanged(where, "it is not as long as it was")
        return descriptor

    def _enter(self, way: Path) -> int:
        """Open a directory, from the last one on: neighbours are read one after the other."""
        if not self._open:
            self._open.append(os.open(self._root, _ENTER))
            self._way = ()
        common = common_length(self._way, way)
        while len(self._way) > common:
            os.close(self._open.pop())
            self._way = self._way[:-1]
        for name in way[common:]:
            self._open.append(os.open(raw_text(name), _ENTER, dir_fd=self._open[-1]))
            self._way = (*self._way, name)
        return self._open[-1]

    def _shown(self, path: Path) -> str:
        return f"{self._root}/{show_path(path)}" if path else self._root


def _look(root: str | os.PathLike[str], limits: Limits) -> dict[Path, OutlineEntry]:
    entries: dict[Path, OutlineEntry] = {}
    for path, found in look_through_tree(root, limits):
        entries[path] = OutlineFile(*found) if isinstance(found, FileFacts) else found
    return entries
