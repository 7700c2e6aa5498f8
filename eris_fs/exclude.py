"""What is to be left out of a tree: patterns as of `.gitignore`, read and matched; pure.

A pattern is matched component by component, so that nothing in it can make matching slow: within a
component each `*` is settled as soon as what follows it is found, and `**` costs a row of flags.
Names that are no UTF-8 are matched too, each stray byte as a letter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from eris_fs.model import Path, printable

__all__ = [
    "Exclude",
    "InvalidPattern",
    "Pattern",
    "Patterns",
    "parse_pattern",
    "parse_patterns",
]

Exclude = Callable[[Path, bool], bool]
"""Tells of a path in a tree, and whether it is a directory, whether it is left out. Where names are
no UTF-8 they come as `surrogateescape` has them."""

_MOST_PATTERNS: Final = 10_000
"""Each is tried on each entry."""
_LONGEST: Final = 4096
_ANY: Final = re.compile("", re.DOTALL)
"""Stands for `**`."""
_STAR: Final = ""
"""What a `*` is taken apart into: the place between two pieces."""


class InvalidPattern(ValueError):
    """A pattern that would not do what was meant; `line` counts from 1, where there are lines."""

    def __init__(self, pattern: str, reason: str, line: int | None = None) -> None:
        where = "" if line is None else f"line {line}: "
        super().__init__(f"{where}the pattern {printable(pattern[:100])!r} {reason}")
        self.pattern = pattern
        self.reason = reason
        self.line = line


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern: its components, text where nothing in it is special."""

    parts: tuple[str | re.Pattern[str], ...]
    takes_back: bool
    directories_only: bool

    def matches(self, path: Path, is_directory: bool) -> bool:
        """Whether it is about this path."""
        if self.directories_only and not is_directory:
            return False
        if len(self.parts) == 2 and self.parts[0] is _ANY is not self.parts[1]:
            # The most common kind: a name, wherever it is.
            return _is_part(self.parts[1], path[-1])
        return _match(self.parts, path)


class Patterns:
    """Several patterns, of which the last that matches decides; an `Exclude`."""

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self._patterns = tuple(patterns)[::-1]
        if len(self._patterns) > _MOST_PATTERNS:
            raise ValueError(f"more than {_MOST_PATTERNS:,} patterns")

    def __call__(self, path: Path, is_directory: bool) -> bool:
        """Whether this is left out."""
        for pattern in self._patterns:
            if pattern.matches(path, is_directory):
                return not pattern.takes_back
        return False


def parse_patterns(text: str) -> Iterator[Pattern]:
    r"""Read the lines of a file: a pattern each, but for empty ones and comments, `# …`.

    A pattern that begins so is written `\#…`. Blanks at the end do not count, unless after `\`.
    Raises: InvalidPattern.
    """
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        pattern = _without_blanks(line.removesuffix("\r"))
        if pattern and not pattern.startswith("#"):
            try:
                yield parse_pattern(pattern)
            except InvalidPattern as error:
                raise InvalidPattern(error.pattern, error.reason, number) from None


def parse_pattern(text: str) -> Pattern:
    """Read one pattern.

    Raises: InvalidPattern.
    """
    if len(text) > _LONGEST or "\0" in text:
        raise InvalidPattern(text, f"has more than {_LONGEST} letters, or a NUL")
    body = text.removeprefix("!")
    names = body.split("/")
    directories_only = names[-1] == "" and len(names) > 1
    if directories_only:
        names.pop()
    # A slash anywhere but at the end: from the top of the tree.
    anchored = len(names) > 1
    if names[0] == "" and anchored:
        names.pop(0)
    if "" in names:
        raise InvalidPattern(text, "has nothing before, after or between slashes")
    if not {".", ".."}.isdisjoint(names):
        raise InvalidPattern(text, "has a component . or .., which no entry has")
    try:
        parts = [_part(name) for name in names]
    except ValueError as error:
        raise InvalidPattern(text, str(error)) from None
    if not anchored:
        parts.insert(0, _ANY)
    return Pattern(tuple(parts), text.startswith("!"), directories_only)


def _without_blanks(line: str) -> str:
    kept = line.rstrip(" \t")
    backslashes = len(kept) - len(kept.rstrip("\\"))
    return line[: len(kept) + 1] if backslashes % 2 else kept


def _match(parts: Sequence[str | re.Pattern[str]], path: Path) -> bool:
    """Whether all components are matched, `**` standing for any number of them.

    At the end it stands for one at least: what is in a directory, not the directory itself.
    """
    # Which numbers of components the parts so far can stand for.
    ends = [True] + [False] * len(path)
    for place, part in enumerate(parts):
        if part is _ANY:
            first = ends.index(True) if True in ends else len(ends)
            last = place == len(parts) - 1 and place > 0
            ends = [at >= first + last for at in range(len(ends))]
        else:
            ends = [False, *(ends[at] and _is_part(part, path[at]) for at in range(len(path)))]
    return ends[-1]


def _is_part(part: str | re.Pattern[str], name: str) -> bool:
    return part == name if isinstance(part, str) else part.fullmatch(name) is not None


def _part(name: str) -> str | re.Pattern[str]:
    """Translate one component."""
    if name == "**":
        return _ANY
    tokens = list(_tokens(name))
    if not any(special for special, _ in tokens):
        return "".join(letter for _, letter in tokens)
    pieces = [""]
    for special, text in tokens:
        if text == _STAR:
            pieces.append("")
        else:
            pieces[-1] += text if special else re.escape(text)
    return re.compile(_joined(pieces), re.DOTALL)


def _tokens(name: str) -> Iterator[tuple[bool, str]]:
    """Take a component apart: what is special, as a regular expression, and single letters."""
    at = 0
    while at < len(name):
        letter = name[at]
        at += 1
        if letter == "*":
            yield True, _STAR
        elif letter == "?":
            yield True, "."
        elif letter == "[":
            found, at = _set(name, at)
            yield True, found
        elif letter == "\\":
            if at == len(name):
                raise ValueError("ends with a backslash, which nothing follows")
            yield False, name[at]
            at += 1
        else:
            yield False, letter


def _joined(pieces: list[str]) -> str:
    """Put stars between, each the shortest that lets what follows match: none is tried again."""
    first, *others = pieces
    if not others:
        return first
    *middle, last = others
    return first + "".join(f"(?>.*?{piece})" for piece in middle if piece) + f".*{last}"


def _set(name: str, at: int) -> tuple[str, int]:
    """Translate `[…]`, from behind the bracket; returns where it goes on, too."""
    negated = name[at : at + 1] in ("!", "^")
    start = at = at + negated
    letters: list[tuple[str, bool]] = []
    while at < len(name) and (name[at] != "]" or at == start):
        if name.startswith("[:", at):
            raise ValueError("has a class of letters like [:alpha:], which is not supported")
        escaped = name[at] == "\\"
        at += escaped
        letters.append((name[at : at + 1], escaped))
        at += 1
    if at >= len(name):
        raise ValueError("has a [ without its ]: write \\[ for the letter")
    return f"[{'^' * negated}{_ranges(letters)}]", at + 1


def _ranges(letters: list[tuple[str, bool]]) -> str:
    found = []
    at = 0
    while at < len(letters):
        first, last = letters[at][0], letters[at][0]
        if letters[at + 1 : at + 2] == [("-", False)] and at + 2 < len(letters):
            last = letters[at + 2][0]
            at += 2
        if first > last:
            raise ValueError(f"has a range that is empty: {first}-{last}")
        found.append(f"{re.escape(first)}-{re.escape(last)}")
        at += 1
    return "".join(found)
