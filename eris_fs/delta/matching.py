"""Which file of the base a new or changed file is like, by names and sizes; pure.

The one at the same path. Else one whose path is the same but for version numbers and hashes, as
releases have them in the names of files and directories. Else one of the same name, so read, in the
directory that is most like. A small file that is like none is often written as its neighbours are:
for it there is one of the same directory and suffix. Of several, the one whose size is nearest.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import count
from posixpath import splitext
from typing import Final

from eris_fs.model import Path
from eris_fs.outline import Outline
from eris_fs.paths import common_length

__all__ = ["SMALL_FILE", "match_by_name", "without_versions"]

SMALL_FILE: Final = 64 * 1024
"""Of files from this size on the content says more than the name of a neighbour."""

# Hashes first: hexadecimal ones of 7 digits and more, those of Guix and Nix with 32.
_HASH: Final = re.compile(
    r"(?<![0-9a-zA-Z])(?:[0-9a-z]{32}|(?=[a-f]*\d)[0-9a-f]{7,64})(?![0-9a-z])"
)
_VERSION: Final = re.compile(r"\d+(?:[.]\d+)*")
# What is so many times smaller than another has little of it.
_TIMES: Final = 64
_HARMLESS: Final = 64 * 1024
# So many of one name are looked at for the most similar directory: `__init__.py` may be anywhere.
_MOST_CANDIDATES: Final = 256

_Sized = tuple[int, int]
"""The size of a file, and its number."""


def without_versions(component: str) -> str:
    """A name without what tells releases apart."""
    return _VERSION.sub("0", _HASH.sub("0", component))


def match_by_name(base: Outline, new: Outline, wanted: Iterable[int]) -> dict[int, int]:
    """For files of the new tree, by number, tell that of the base which each is like.

    Some are like none: empty files of the base do not count, nor much larger ones.
    """
    names = _Names(base)
    found = {}
    for file in wanted:
        size = new.sizes[file]
        number = names.find(new.files[file], size)
        if number is not None and base.sizes[number] <= _TIMES * size + _HARMLESS:
            found[file] = number
    return found


class _Names:
    """The files of a base by what their names are like; each with its size, sorted by that."""

    def __init__(self, base: Outline) -> None:
        self._components: dict[str, str] = {}
        self._by_path: dict[Path, int] = {}
        self._by_read: dict[Path, list[_Sized]] = defaultdict(list)
        self._by_name: dict[str, list[tuple[Path, _Sized]]] = defaultdict(list)
        self._by_directory: dict[tuple[Path, str], list[_Sized]] = defaultdict(list)
        for size, number in sorted(zip(base.sizes, count(), strict=False)):
            if size:
                path = base.files[number]
                read = self._reading(path)
                self._by_path[path] = number
                self._by_read[read].append((size, number))
                self._by_directory[_kind(read)].append((size, number))
                if len(self._by_name[_last(read)]) < _MOST_CANDIDATES:
                    self._by_name[_last(read)].append((read, (size, number)))

    def find(self, path: Path, size: int) -> int | None:
        """Tell which file of the base one is like, if any."""
        if (number := self._by_path.get(path)) is not None:
            return number
        read = self._reading(path)
        if candidates := self._by_read.get(read):
            return _nearest(candidates, size)
        if named := self._by_name.get(_last(read)):
            most = max(_likeness(other, read) for other, _ in named)
            return _nearest([one for other, one in named if _likeness(other, read) == most], size)
        if size < SMALL_FILE and (candidates := self._by_directory.get(_kind(read))):
            return _nearest(candidates, size)
        return None

    def _reading(self, path: Path) -> Path:
        known = self._components
        for component in path:
            if component not in known:
                known[component] = without_versions(component)
        return tuple(map(known.__getitem__, path))


def _nearest(candidates: Sequence[_Sized], size: int) -> int:
    """Of files sorted by their sizes, which are not 0, one with the nearest."""
    place = bisect_left(candidates, (size, 0))
    around = candidates[max(0, place - 1) : place + 1]
    return min(around, key=lambda one: (max(size, one[0]) / min(size, one[0]), one))[1]


def _last(path: Path) -> str:
    return path[-1] if path else ""


def _kind(path: Path) -> tuple[Path, str]:
    """The directory of a file, and its suffix."""
    return path[:-1], splitext(_last(path))[1]


def _likeness(one: Path, other: Path) -> int:
    """How many components two paths share from their beginning and from their end."""
    return common_length(one, other) + common_length(one[::-1], other[::-1])
