"""Bodies of replies out of what lies there of an item: a file, a log, the names of what is in it.

Synchronous, for worker threads.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Generator
from typing import Final

from guix_glue.errors import UnsupportedItem
from guix_glue.formats.nar_listing import ListingWriter
from guix_glue.local.archive import read_outline
from guix_glue.local.build_logs import BuildLogs
from guix_glue.serving.reply import TEXT_TYPE, FileBody, Reply, StreamBody
from guix_glue.serving.tags import file_tag

__all__ = ["list_item", "open_log", "open_regular"]

_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PIECE: Final = 64 * 1024
_IN_MEMORY: Final = 256 * 1024
"""A listing of so many bytes, of two or three thousand files, is made once; a larger one is made
to learn its size and once more while it is sent."""


def open_regular(path: str) -> FileBody | None:
    """Open what must be a regular file; None if it is something else."""
    try:
        descriptor = os.open(path, _FILE_FLAGS)
    except OSError:
        return None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        return None
    return FileBody(os.fdopen(descriptor, "rb"), found.st_size)


def open_log(logs: BuildLogs, derivation: str) -> Reply | None:
    """The log of a derivation, by its base name; a compressed one as it is, and so told."""
    found = logs.of_derivation(derivation)
    if found is None:
        return None
    body = open_regular(found.path)
    if body is None:
        return None
    encoding = () if found.encoding is None else (("Content-Encoding", found.encoding),)
    return Reply(200, TEXT_TYPE, body, headers=encoding, tag=file_tag(body.file))


def list_item(location: str) -> bytes | StreamBody | None:
    """The listing of an item; None of what is not there, or cannot be listed.

    Raises: OSError.
    """
    kept: list[bytes] = []
    size = 0
    try:
        with contextlib.closing(_pieces(location)) as pieces:
            for piece in pieces:
                size += len(piece)
                if size <= _IN_MEMORY:
                    kept.append(piece)
    except (UnsupportedItem, FileNotFoundError):
        return None
    if size <= _IN_MEMORY:
        return b"".join(kept)
    return StreamBody(lambda: _pieces(location), size)


def _pieces(location: str) -> Generator[bytes, None, None]:
    writer = ListingWriter()
    gathered: list[str] = []
    length = 0
    with contextlib.closing(read_outline(location)) as events:
        for event in events:
            text = writer.write(event)
            gathered.append(text)
            length += len(text)
            if length >= _PIECE:
                yield "".join(gathered).encode()
                gathered, length = [], 0
    gathered.append(writer.finish())
    yield "".join(gathered).encode()
