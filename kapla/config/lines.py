"""On which line of a TOML file each key stands: `tomllib` does not tell. Pure.

Only for text that `tomllib` accepts: what it refuses it names by line itself. Statements are found
one after the other; of a value it matters only where it ends, and for that strings, comments and
brackets are told apart. Keys inside of inline tables have no line of their own.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from typing import Final

__all__ = ["KeyPath", "key_lines", "line_of"]

KeyPath = tuple[str | int, ...]
"""Keys from the outside in; behind that of an array of tables the place of the table, from 0."""

_PART: Final = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEY: Final = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_PARTS: Final = re.compile(_PART)
_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_HEADER: Final = re.compile(rf"(\[\[?)[ \t]*({_KEY})[ \t]*\]\]?")
_BEGIN: Final = re.compile(rf"({_KEY})[ \t]*=")
_TOKEN: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"""+'
    r"|'''.*?'''+"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"""|[^"'\#\[\]{}\n]+"""
    r"|.",
    re.DOTALL,
)


def key_lines(text: str) -> Mapping[KeyPath, int]:
    """The line of each key and of the header of each table, from 1."""
    lines: dict[KeyPath, int] = {}
    tables: Counter[KeyPath] = Counter()
    table: KeyPath = ()
    at, line = 0, 1
    while (begin := _skip(text, at)) < len(text):
        line += text.count("\n", at, begin)
        at = begin
        if header := _HEADER.match(text, at):
            table = _placed(_parts(header[2]), tables)
            if header[1] == "[[":
                tables[table] += 1
                table = (*table, tables[table] - 1)
            lines.setdefault(table, line)
            at = header.end()
        elif key := _BEGIN.match(text, at):
            path = (*table, *_parts(key[1]))
            for length in range(len(table) + 1, len(path) + 1):
                lines.setdefault(path[:length], line)
            end = _end_of_value(text, key.end())
            line += text.count("\n", at, end)
            at = end
        else:
            break  # no TOML
    return lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """The line of a key, else that of what it is in; None, if that has none either."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path)


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return at if found is None else found.end()


def _parts(key: str) -> KeyPath:
    return tuple(_part(part) for part in _PARTS.findall(key))


def _part(part: str) -> str:
    if part[0] not in "\"'":
        return part
    (value,) = tomllib.loads(f"x = {part}").values()
    return str(value)


def _placed(path: KeyPath, tables: Mapping[KeyPath, int]) -> KeyPath:
    """A header's path, with the places of those that are in an array: its last one so far."""
    found: KeyPath = ()
    for part in path[:-1]:
        found = (*found, part)
        if found in tables:
            found = (*found, tables[found] - 1)
    return (*found, *path[-1:])


def _end_of_value(text: str, at: int) -> int:
    depth = 0
    while found := _TOKEN.match(text, at):
        token = found[0]
        if token == "\n" and not depth:
            break
        depth += (token in ("[", "{")) - (token in ("]", "}"))
        at = found.end()
    return at
