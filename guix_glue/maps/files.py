"""Maps on this machine: a file, a folder of files, a list of lines.

A file is looked up in place. A folder has a file for each item, whose name is the hash part, or
`HASH-NAME`, and whose content is the URN; in a list each line is an item (a path, `HASH-NAME` or
the hash part alone), a blank and the URN, as `kapla map get` writes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from eris.errors import InvalidCapability
from eris.threads import in_thread
from guix_glue.errors import InvalidStorePath
from guix_glue.formats.item_map import (
    PAGE_SIZE,
    Contents,
    Entry,
    InvalidMap,
    MapFacts,
    Search,
    entry_of,
    key_of,
    parse_head,
    parse_page,
    urn_of,
)
from guix_glue.formats.store_path import (
    HASH_PART_LENGTH,
    check_hash_part,
    hash_part_of,
    is_hash_part,
)
from guix_glue.local.files import open_regular, read_file

__all__ = ["FileMap", "FolderMap", "ListMap", "names_item", "parse_lines"]

_LARGEST_URN: Final = 1024
_LARGEST_LIST: Final = 1024**3


class FileMap:
    """A file in the format of maps, opened anew for each look-up: it may be replaced meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def find(self, hash_part: str) -> str | None:
        """See `Map`."""
        return await in_thread(self._find, hash_part)

    async def load(self) -> Contents:
        """See `Map`."""
        return Contents.parse(await in_thread(_read, self._path))

    async def close(self) -> None:
        """Nothing is held."""

    def _find(self, hash_part: str) -> str | None:
        file = open_regular(str(self._path))
        try:
            data = os.pread(file, PAGE_SIZE, 0)
            head = parse_head(data)
            if not head.pages:
                return Contents.parse(data).find(hash_part)
            search = Search(key_of(hash_part), head.pages)
            while (page := search.page) is not None:
                search.look(parse_page(os.pread(file, PAGE_SIZE, page * PAGE_SIZE)))
        finally:
            os.close(file)
        return None if search.found is None else urn_of(search.found)


class FolderMap:
    """A folder with a file for each item."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def find(self, hash_part: str) -> str | None:
        """See `Map`. Only a file that is named by the hash part alone is found."""
        return await in_thread(self._find, hash_part)

    async def load(self) -> Contents:
        """See `Map`. What has no name of an item is passed over."""
        return await in_thread(lambda: Contents.of(MapFacts(), self._entries()))

    async def close(self) -> None:
        """Nothing is held."""

    def _find(self, hash_part: str) -> str | None:
        try:
            text = _read_urn(self._path / check_hash_part(hash_part))
        except FileNotFoundError:
            return None
        return urn_of(_entry(hash_part, text).value)

    def _entries(self) -> Iterator[Entry]:
        for name in os.listdir(self._path):
            if names_item(name):
                yield _entry(hash_part_of(name), _read_urn(self._path / name))


class ListMap:
    """A list of lines, read once."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents

    @classmethod
    async def read(cls, path: Path) -> ListMap:
        """Read a file. Raises: InvalidMap, with the number of the line; OSError."""
        return cls(await in_thread(lambda: parse_lines(_read(path).splitlines())))

    async def find(self, hash_part: str) -> str | None:
        """See `Map`."""
        return self._contents.find(hash_part)

    async def load(self) -> Contents:
        """See `Map`."""
        return self._contents

    async def close(self) -> None:
        """Nothing is held."""


def parse_lines(lines: Iterable[bytes]) -> Contents:
    """Read a list; of an item that is there twice the last line counts.

    Raises: InvalidMap, with the number of the line.
    """
    entries: dict[bytes, Entry] = {}
    for number, line in enumerate(lines, 1):
        words = line.decode("utf-8", "replace").split()
        if not words:
            continue
        if len(words) != 2:
            raise InvalidMap(f"line {number} is not an item and a URN")
        try:
            entry = _entry(hash_part_of(words[0]), words[1])
        except InvalidMap as error:
            raise InvalidMap(f"line {number}: {error.reason}") from None
        entries[entry.key] = entry
    return Contents.of(MapFacts(), entries.values())


def names_item(name: str) -> bool:
    """Whether a file of this name stands for an item in a folder; `HASH.narinfo` does not."""
    return is_hash_part(hash_part_of(name)) and name[HASH_PART_LENGTH:][:1] in ("", "-")


def _entry(hash_part: str, urn: str) -> Entry:
    try:
        return entry_of(hash_part, urn)
    except InvalidStorePath as error:
        raise InvalidMap(error.reason) from None
    except InvalidCapability as error:
        raise InvalidMap(f"the URN of {hash_part}: {error.reason}") from None


def _read_urn(path: Path) -> str:
    with open(open_regular(str(path)), "rb") as file:
        return file.read(_LARGEST_URN).decode("utf-8", "replace").strip()


def _read(path: Path) -> bytes:
    return read_file(path, _LARGEST_LIST)
