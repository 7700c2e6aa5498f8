"""Files of `eris://` as fsspec has them: read by ranges, and pickled with where they stand."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from fsspec.asyn import AbstractAsyncStreamedFile
from fsspec.spec import AbstractBufferedFile

from eris_fs.errors import IsADirectory
from kapla.doors.links import path_of, system_error

if TYPE_CHECKING:
    from kapla.doors.filesystem import ErisFileSystem

__all__ = ["ErisFile", "ErisStream", "read_only"]


class ErisFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file that is open for reading.

    By default 256 KiB are fetched at a time: some calls for each MiB of whoever reads in order, and
    a few blocks in vain for whoever jumps about. `block_size`, `cache_type` and `cache_options` are
    those of fsspec.
    """

    DEFAULT_BLOCK_SIZE = 256 * 1024

    def __init__(self, fs: ErisFileSystem, path: str, *args: Any, **kwargs: Any) -> None:
        # For __del__, if this fails.
        self.closed = True
        if kwargs.get("size") is None:
            details = fs.info(path)
            if details["type"] != "file":
                raise system_error(IsADirectory(path_of(path)))
            kwargs["size"] = details["size"]
        super().__init__(fs, path, *args, **kwargs)

    def _fetch_range(self, start: int, end: int) -> bytes:
        content: bytes = self.fs.cat_file(self.path, start, end)
        return content


class ErisStream(AbstractAsyncStreamedFile):  # type: ignore[misc]
    """A file whose `read` is awaited."""

    def __init__(self, fs: ErisFileSystem, path: str, *, size: int) -> None:
        super().__init__(fs, path, "rb", size=size, cache_type="none")

    def __del__(self) -> None:
        # Nothing is to be closed, and nothing could be awaited.
        pass

    async def _fetch_range(self, start: int, end: int) -> bytes:
        content: bytes = await self.fs._cat_file(self.path, start, min(end, self.size))
        return content


def read_only(what: str) -> OSError:
    """The error of whoever would write."""
    return OSError(
        errno.EROFS,
        f"cannot {what}: eris:// can only be read. Put files with kapla.doors.sync or `kapla"
        " encode`, and read them by the URN that this gives",
    )
