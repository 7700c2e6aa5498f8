"""A part of a tree, chosen by paths and patterns; pure.

A pattern is one of `eris_fs.exclude`, and says here what is wanted: a file, or a directory with all
that is in it. What a tree has under exactly the text of a pattern is meant too, whatever that text
would match, so that names with brackets or stars in them need no care.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eris_fs.exclude import InvalidPattern, Pattern, parse_pattern
from eris_fs.listing import is_directory, nearest, path_of
from eris_fs.model import EmptyDirectory, Entry, PackedTree, Path, Tree, show_path

__all__ = ["NothingMatches", "Part", "take_part"]

_MOST: Final = 1000
"""Patterns, each of which is tried on every path."""


class NothingMatches(LookupError):
    """A pattern that matches nothing in the tree: its text, and what may have been meant."""

    def __init__(self, text: str, near: Sequence[Path]) -> None:
        names = [show_path(path) for path in near]
        meant = f"; is {' or '.join(names)} meant?" if near else ""
        super().__init__(f"nothing in the tree is {show_path((text,))}{meant}")
        self.text = text
        self.near = tuple(near)


@dataclass(frozen=True, slots=True)
class Part:
    """What was chosen, as a tree of the same kind."""

    tree: Tree
    named: Path | None
    """The one entry that is chosen, if it is a file or symlink and was named without wildcards."""


def take_part(tree: Tree, texts: Sequence[str]) -> Part:
    """Choose what the patterns want; of several that match an entry the last one decides.

    `!pattern` takes back what those before it chose.
    Raises: NothingMatches; InvalidPattern; ValueError for more than 1,000 patterns.
    """
    if len(texts) > _MOST:
        raise ValueError(f"more than {_MOST:,} paths")
    chooser = _Chooser(tree, [_Wanted(tree, text) for text in texts])
    chosen = {path: entry for path, entry in tree.items() if chooser.wants(path, entry)}
    for wanted in chooser.patterns:
        if not wanted.was_met and not wanted.takes_back:
            raise NothingMatches(wanted.text, _near(tree, wanted.text))
    if not chosen:
        raise NothingMatches(" ".join(texts), ())
    return Part(_same_kind(tree, chosen), _named(chosen, chooser.patterns))


def _named(chosen: dict[Path, Entry], patterns: Sequence[_Wanted]) -> Path | None:
    ((path, entry),) = chosen.items() if len(chosen) == 1 else ((None, None),)
    if path is None or len(patterns) != 1 or isinstance(entry, EmptyDirectory):
        return None
    # What was named may also be the directory that it is in.
    return path if patterns[0].names(path) else None


def _same_kind(tree: Tree, chosen: dict[Path, Entry]) -> Tree:
    if isinstance(tree, PackedTree):
        return PackedTree(chosen, tree.packs, tree.writer)
    return chosen


def _near(tree: Tree, text: str) -> list[Path]:
    return nearest(tree, path_of(text))


class _Wanted:
    """One text: the pattern that it is, and the path."""

    def __init__(self, tree: Tree, text: str) -> None:
        self.text = text
        self.was_met = False
        self._path: Path | None = None
        self._is_plain = not any(letter in text for letter in "*?[\\!")
        path = path_of(text)
        if path and (path in tree or (not self._is_plain and is_directory(tree, path))):
            self._path = path
        self._pattern: Pattern | None = None
        if self._path is not None and text.startswith("!"):
            return
        try:
            # As it is completed, and as other commands take it: from the top.
            self._pattern = parse_pattern(text.removeprefix(".") if text[:2] == "./" else text)
        except InvalidPattern:
            if self._path is None:
                raise

    @property
    def takes_back(self) -> bool:
        """Whether this is what is not wanted."""
        return self._pattern is not None and self._pattern.takes_back

    def matches(self, path: Path, is_a_directory: bool) -> bool:
        """Whether this is about a path, itself or by its name."""
        if path == self._path:
            return is_a_directory or not self.text.endswith("/")
        return self._pattern is not None and self._pattern.matches(path, is_a_directory)

    def names(self, path: Path) -> bool:
        """Whether this names a path as it is, without wildcards."""
        return path == self._path or (self._is_plain and path[-1:] == path_of(self.text)[-1:])


class _Chooser:
    """Decides path by path; what is said of directories is kept, for all that is in them."""

    def __init__(self, tree: Tree, patterns: Sequence[_Wanted]) -> None:
        self.patterns = patterns
        self._directories: dict[Path, int] = {(): -1}

    def wants(self, path: Path, entry: Entry) -> bool:
        """Whether an entry is chosen."""
        place = self._last(path, isinstance(entry, EmptyDirectory))
        return place >= 0 and not self.patterns[place].takes_back

    def _last(self, path: Path, is_a_directory: bool) -> int:
        """The place of the last pattern about this, or about a directory it is in; -1 for none."""
        if not path:
            return -1
        above = self._directories.get(path[:-1])
        if above is None:
            above = self._directories[path[:-1]] = self._last(path[:-1], True)
        found = above
        for place in range(len(self.patterns) - 1, -1, -1):
            wanted = self.patterns[place]
            # One before it is tried too, as long as it has met nothing.
            if (place > found or not wanted.was_met) and wanted.matches(path, is_a_directory):
                wanted.was_met = True
                found = max(found, place)
        return found
