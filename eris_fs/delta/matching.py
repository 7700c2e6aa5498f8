"""Which file of the base a new or changed file is like, by names and sizes; pure.

The one at the same path. Else one whose path is the same but for version numbers and hashes, as
releases have them in the names of files and directories. Else one of the same name, so read, in the
directory that is most like. Of several, the one whose size is nearest.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from eris_fs.model import Path
from eris_fs.outline import Outline
from eris_fs.paths import common_length

__all__ = ["match_by_name", "without_versions"]

# Hashes first: hexadecimal ones of 7 digits and more, those of Guix and Nix with 32.
_HASH: Final = re.compile(
    r"(?<![0-9a-zA-Z])(?:[0-9a-z]{32}|(?=[a-f]*\d)[0-9a-f]{7,64})(?![0-9a-z])"
)
_VERSION: Final = re.compile(r"\d+(?:[.]\d+)*")
# So many of one name are looked at for the most similar directory: `__init__.py` may be anywhere.
_MOST_CANDIDATES: Final = 256


def without_versions(component: str) -> str:
    """A name without what tells releases apart."""
    return _VERSION.sub("0", _HASH.sub("0", component))


def match_by_name(base: Outline, new: Outline, wanted: Iterable[int]) -> dict[int, int]:
    """For files of the new tree, by number, tell that of the base which each is like.

    Some are like none. Empty files of the base do not count.
    """
    names = _Names(base)
    found = {}
    for file in wanted:
        number = names.find(new.files[file], new.sizes[file])
        if number is not None:
            found[file] = number
    return found


class _Names:
    def __init__(self, base: Outline) -> None:
        self._sizes = base.sizes
        self._components: dict[str, str] = {}
        self._by_path: dict[Path, int] = {}
        self._by_read: dict[Path, list[int]] = defaultdict(list)
        self._by_name: dict[str, list[int]] = defaultdict(list)
        self._read: list[Path] = []
        for number, path in enumerate(base.files):
            read = self._reading(path)
            self._read.append(read)
            if base.sizes[number]:
                self._by_path[path] = number
                self._by_read[read].append(number)
                self._by_name[_last(read)].append(number)

    def find(self, path: Path, size: int) -> int | None:
        if (number := self._by_path.get(path)) is not None:
            return number
        read = self._reading(path)
        if candidates := self._by_read.get(read):
            return min(candidates, key=lambda number: self._distance(number, size))
        candidates = self._by_name.get(_last(read), [])
        return min(
            candidates[:_MOST_CANDIDATES],
            key=lambda number: (-_likeness(self._read[number], read), self._distance(number, size)),
            default=None,
        )

    def _distance(self, number: int, size: int) -> tuple[float, int]:
        other = self._sizes[number]
        return max(size, other) / min(size, other), number

    def _reading(self, path: Path) -> Path:
        known = self._components
        for component in path:
            if component not in known:
                known[component] = without_versions(component)
        return tuple(map(known.__getitem__, path))


def _last(path: Path) -> str:
    return path[-1] if path else ""


def _likeness(one: Path, other: Path) -> int:
    """How many components two paths share from their beginning and from their end."""
    return common_length(one, other) + common_length(one[::-1], other[::-1])
