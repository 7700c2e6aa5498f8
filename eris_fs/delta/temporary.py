"""Errors of temporary files, which have no names: they tell of the directory that is full.

It is seldom on the disk that the user thinks of, and `TMPDIR` names another.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["temporary_file_named"]


@contextmanager
def temporary_file_named() -> Iterator[None]:
    """Have an OSError that names no file name the directory of temporary files."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = tempfile.gettempdir()
        raise
