"""Jobs that use the cache directory, while that may be full, gone, or not be written to.

What is wrong with the directory is not the fault of the item that meets it: it is said once, the
jobs come back by themselves, and all is well again when somebody has mended it. That there is no
room is told of each item, and stops none: a smaller one may have it.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

from guix_glue.publish.queue import TryLater
from guix_glue.servers.outage import Outage

__all__ = ["CacheGuard"]

_log = logging.getLogger(__name__)

_Job = TypeVar("_Job")

_PAUSE_S: Final = 2.0
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# Whoever reads never gets these: they are of what is written to.
_OF_WRITING: Final = frozenset({errno.EROFS, errno.EXDEV})


class CacheGuard(Generic[_Job]):
    """Does jobs that use a cache directory."""

    def __init__(self, do: Callable[[_Job], Awaitable[None]], directory: Path) -> None:
        self._do = do
        self._directory = directory
        self._outage = Outage(_PAUSE_S)

    async def __call__(self, job: _Job) -> None:
        """Do a job.

        Raises: TryLater, if the cache directory cannot be used; what the job raises.
        """
        if self._outage.left_s:
            raise TryLater(self._outage.left_s)
        try:
            await self._do(job)
        except OSError as error:
            if error.errno in _NO_ROOM:
                what = "cannot hold it" if error.errno == errno.EFBIG else "is full"
                reason = f"the cache {self._directory} {what} ({error.strerror})"
                raise TryLater(reason=reason) from error
            if not self._is_concerned(error):
                raise
            if self._outage.begin(error.strerror):
                _log.warning(
                    "Nothing is baked: the cache %s cannot be used: %s; tried again every %.0f s",
                    self._directory,
                    error.strerror or error,
                    _PAUSE_S,
                )
            raise TryLater(_PAUSE_S) from error
        if self._outage.end():
            _log.info("The cache %s can be used again", self._directory)

    def _is_concerned(self, error: OSError) -> bool:
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if _is_path(name)]
        return error.errno in _OF_WRITING or any(
            Path(name).is_relative_to(self._directory) for name in names
        )


def _is_path(name: object) -> bool:
    return isinstance(name, str | bytes)
