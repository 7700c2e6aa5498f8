"""Writing a whole map, in the form that is wanted; all at once or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from guix_glue.formats.item_map import Contents, hash_part_at, urn_of
from guix_glue.maps.files import names_item

__all__ = ["Form", "form_of", "lines_of", "write_folder", "write_map"]


class Form(Enum):
    """What a map is written as."""

    MAP = "map"
    FOLDER = "folder"
    SQLITE = "sqlite"
    LIST = "list"


def form_of(out: str) -> Form:
    """What the name of a file suggests."""
    if out == "-":
        return Form.LIST
    if out.endswith("/") or os.path.isdir(out):
        return Form.FOLDER
    if out.endswith((".sqlite", ".sqlite3", ".db")):
        return Form.SQLITE
    return Form.LIST if out.endswith((".txt", ".list")) else Form.MAP


def write_map(file: BinaryIO, contents: Contents) -> None:
    """Write the format of maps. Raises: InvalidMap, OSError."""
    for piece in contents.format():
        file.write(piece)


def lines_of(contents: Contents) -> Iterator[str]:
    """A list: a line for each item."""
    for entry in contents:
        yield f"{hash_part_at(entry.key)} {urn_of(entry.value)}\n"


def write_folder(path: Path, contents: Contents) -> None:
    """Make a folder of files be this map: each file whole, and what is no item left alone.

    What is the same is not written again, so that one that was interrupted goes on.
    Raises: OSError.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    left = {name for name in os.listdir(path) if names_item(name)}
    for entry in contents:
        name = hash_part_at(entry.key)
        left.discard(name)
        text = f"{urn_of(entry.value)}\n".encode()
        if not _has(path / name, text):
            _write(path, name, text)
    for name in left:
        (path / name).unlink()


def _write(path: Path, name: str, text: bytes) -> None:
    """Replace a file at once, but not waiting for the disk: there may be a million of them.

    One that a power cut leaves empty is written again the next time.
    """
    temporary = path / f".{name}.new"
    with suppress(FileNotFoundError):
        # Left by somebody who was killed.
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(text)
    os.replace(temporary, path / name)


def _has(path: Path, text: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(text) + 1) == text
    except FileNotFoundError:
        return False
