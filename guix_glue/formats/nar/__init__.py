"""The nar: a store item as a stream of bytes, always the same one for the same files."""

from guix_glue.formats.nar.model import (
    DEFAULT_NAR_LIMITS,
    Data,
    Directory,
    File,
    NarEvent,
    NarLimits,
    NarPath,
    Symlink,
)
from guix_glue.formats.nar.reader import NarReader
from guix_glue.formats.nar.writer import NarWriter

__all__ = [
    "DEFAULT_NAR_LIMITS",
    "Data",
    "Directory",
    "File",
    "NarEvent",
    "NarLimits",
    "NarPath",
    "NarReader",
    "NarWriter",
    "Symlink",
]
