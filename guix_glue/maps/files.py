"""Maps on this machine: a file, a folder of files, a list of lines.

A file is looked up in place. A folder has a file for each item, whose name is the hash part, or
`HASH-NAME`, and whose content is the URN; in a list each line is an item (a path, `HASH-NAME` or
the hash part alone), a blank and the URN, as `kapla map get` writes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Final

from eris.threads import in_thread
from guix_glue.formats.item_map import (
    PAGE_SIZE,
    Contents,
    Entry,
    InvalidMap,
    MapFacts,
    Search,
    given_entry,
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
_LONGEST_LINE: Final = 64 * 1024
# Lines in one call of a thread, which nothing can interrupt: some tenths of a second.
_STEP: Final = 4096


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
        return urn_of(given_entry(hash_part, text).value)

    def _entries(self) -> Iterator[Entry]:
        for name in os.listdir(self._path):
            if names_item(name):
                yield given_entry(hash_part_of(name), _read_urn(self._path / name))


class ListMap:
    """A list of lines, read once."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents

    @classmethod
    async def read(cls, path: Path) -> ListMap:
        """Read a file, in steps: whoever does not want it any more need not wait for its end.

        Raises: InvalidMap, with the number of the line; OSError.
        """
        file = BytesIO(await in_thread(_read, path))
        lines = iter(lambda: file.readline(_LONGEST_LINE), b"")
        entries: dict[bytes, Entry] = {}
        count = 0
        while more := await in_thread(_add_lines, entries, islice(lines, _STEP), count):
            count += more
        return cls(await in_thread(Contents.of, MapFacts(), entries.values()))

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
    _add_lines(entries, lines, 0)
    return Contents.of(MapFacts(), entries.values())


def _add_lines(entries: dict[bytes, Entry], lines: Iterable[bytes], before: int) -> int:
    """Add what lines say; how many there are. So many came before them."""
    number = before
    for line in lines:
        number += 1
        if (entry := _entry_in(line, number)) is not None:
            entries[entry.key] = entry
    return number - before


def _entry_in(line: bytes, number: int) -> Entry | None:
    """What a line says; nothing, if it is empty."""
    words = line.decode("utf-8", "replace").split()
    if not words:
        return None
    if len(words) != 2:
        raise InvalidMap(f"line {number} is not an item and a URN")
    try:
        return given_entry(hash_part_of(words[0]), words[1])
    except InvalidMap as error:
        raise InvalidMap(f"line {number}: {error.reason}") from None


def names_item(name: str) -> bool:
    """Whether a file of this name stands for an item in a folder; `HASH.narinfo` does not."""
    return is_hash_part(hash_part_of(name)) and name[HASH_PART_LENGTH:][:1] in ("", "-")


def _read_urn(path: Path) -> str:
    with open(open_regular(str(path)), "rb") as file:
        return file.read(_LARGEST_URN).decode("utf-8", "replace").strip()


def _read(path: Path) -> bytes:
    return read_file(path, _LARGEST_LIST)
