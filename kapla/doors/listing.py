"""What is in a directory of a tree, with symlinks to files as what they lead to."""

from __future__ import annotations

from typing import NamedTuple

from eris_fs.errors import PathError
from eris_fs.model import Path
from eris_fs.reader import EntryInfo, Kind, TreeReader
from kapla.doors.links import follow

__all__ = ["Listed", "list_directory"]


class Listed(NamedTuple):
    """An entry, or the file that it leads to, and then where it leads."""

    info: EntryInfo
    name: str = ""
    target: str | None = None


async def list_directory(reader: TreeReader, path: Path, *, sizes: bool) -> list[Listed] | None:
    """Tell what is in a directory; None for a file. With `sizes` also how large files are.

    Symlinks to directories, and to what is not there, stay symlinks: so a walk has an end.
    Raises: PathError; BlockNotFound, ContentError, StoreError.
    """
    directory = follow(reader.info, path)
    if directory.kind is Kind.FILE:
        return None
    if sizes:
        await reader.sizes(directory.path)
    listed = []
    for entry in reader.entries(directory.path):
        found = entry
        if entry.kind is Kind.SYMLINK:
            found = _led_to(reader, entry)
            if sizes and found.kind is Kind.FILE and found.size is None:
                await reader.size(found.path)
                found = reader.info(found.path)
        listed.append(Listed(found, entry.name, entry.target))
    return listed


def _led_to(reader: TreeReader, link: EntryInfo) -> EntryInfo:
    try:
        found = follow(reader.info, link.path)
    except PathError:
        return link
    return found if found.kind is Kind.FILE else link
