"""Where a daemon, of Guix or of Nix, keeps the log of an item's build.

Both file logs under the name of the derivation that was built, in directories by the first
two characters: `drvs/HA/SH…-NAME.drv`, as plain text or, by default, compressed.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Final

from guix_glue.errors import InvalidStorePath
from guix_glue.formats.store_path import check_base_name
from guix_glue.model import StoreItem

__all__ = ["BuildLogs", "LogFile"]

_ENDINGS: Final = ((".gz", "gzip"), (".bz2", "bzip2"), ("", None))


@dataclass(frozen=True, slots=True)
class LogFile:
    """A log that is there; `encoding` is `gzip`, `bzip2`, or None for plain text."""

    path: str
    encoding: str | None


class BuildLogs:
    """The logs below a directory, as `/var/log/guix`. Plain synchronous code."""

    def __init__(self, log_dir: str) -> None:
        self._log_dir = log_dir

    def find(self, item: StoreItem) -> LogFile | None:
        """The log of what made the item, if that is known, and the log kept and a regular file."""
        return None if item.deriver is None else self.of_derivation(item.deriver)

    def of_derivation(self, base_name: str) -> LogFile | None:
        """The log of a derivation, which need not be in the store any more."""
        try:
            deriver = check_base_name(base_name)
        except InvalidStorePath:
            return None
        path = os.path.join(self._log_dir, "drvs", deriver[:2], deriver[2:])
        for ending, encoding in _ENDINGS:
            if _is_regular_file(path + ending):
                return LogFile(path + ending, encoding)
        return None


def _is_regular_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False
