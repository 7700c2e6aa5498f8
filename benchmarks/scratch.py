"""Directories for trees of files, which stay until everything is measured.

ext4 without a journal gives the inode of a deleted file away again only after minutes, and until
then looks at it whenever it creates a file there: one case would pay for what another has deleted.
"""

from __future__ import annotations

import atexit
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

__all__ = ["kept_directory"]

_UNTIL_THE_END: Final = ExitStack()
atexit.register(_UNTIL_THE_END.close)


def kept_directory() -> Path:
    """Make a directory that goes when the process ends, and not before."""
    return Path(_UNTIL_THE_END.enter_context(tempfile.TemporaryDirectory(prefix="kb-")))
