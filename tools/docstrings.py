"""Docstrings, which are Markdown here, as the reStructuredText that Sphinx reads.

Of Markdown that is what our docstrings use: code in backticks, fenced code, lists, emphasis.
Paragraphs that begin with `Raises:`, `Source:` or the like are fields, and get a paragraph of
their own even where the docstring does not leave a line before them. Errors that `Raises:` names
are links.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

FENCE = re.compile(r"^(\s*)```(\w*)\s*$")
FIELD = re.compile(r"^(\s*)(Raises|Source|Yields|Returns|Memory)( \([^)]*\))?:\s")
LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")
CODE = re.compile(r"(`+)([^`]+)\1")
LIST = re.compile(r"^\s*([*-]|\d+\.)\s")
# An error's name in running text: two words at least, written as one.
ERROR = re.compile(r"(?<![\w`.])((?:[A-Z][a-z0-9]+){2,})(?![\w`])")
# What means something to reStructuredText and nothing to us.
SPECIAL = re.compile(r"[\\|]|(?<![\w*])\*(?!\s)(?!\S[^*]*\*)|(?<=\w)_(?!\w)|(?<=urn):")


def to_restructured_text(lines: Sequence[str]) -> list[str]:
    """Convert the lines of one docstring, without the indentation of its code."""
    return list(_converted(lines))


def _converted(lines: Sequence[str]) -> Iterator[str]:
    fenced = None
    before, raises = "", False
    for line in lines:
        fence = FENCE.match(line)
        if fenced is not None:
            if fence:
                fenced = None
                yield ""
            else:
                yield f"    {line}" if line.strip() else ""
            before = ""
            continue
        if fence:
            fenced = fence[1]
            yield from ("", f"{fenced}.. code-block:: {fence[2] or 'text'}", "")
            continue
        if before.strip() and (FIELD.match(line) or _begins_list(line, before)):
            yield ""
        field = FIELD.match(line)
        if field or not line.strip():
            raises = field is not None and field[2] == "Raises"
        converted = _marked(_inline(line))
        yield ERROR.sub(r":py:exc:`\1`", converted) if raises else converted
        before = line


def _begins_list(line: str, before: str) -> bool:
    return bool(LIST.match(line)) and not LIST.match(before) and not before.startswith("  ")


def _marked(line: str) -> str:
    """Make the word that opens a field stand out."""
    return FIELD.sub(lambda found: f"{found[1]}**{found[2]}**{found[3] or ''}: ", line)


def _inline(line: str) -> str:
    """Convert what is within a line, and leave alone what only looks like mark-up."""
    bullet = LIST.match(line)
    head, rest = (line[: bullet.end()], line[bullet.end() :]) if bullet else ("", line)
    out, end = [head], 0
    for code in CODE.finditer(rest):
        out.append(_plain(rest[end : code.start()]))
        out.append(_literal(code[2].strip(), rest[code.end() :]))
        end = code.end()
    out.append(_plain(rest[end:]))
    return "".join(out)


def _literal(code: str, after: str) -> str:
    # Mark-up ends at a blank or punctuation only; "`Reference`s" needs to be told.
    return f"``{code}``" + ("\\ " if after[:1].isalnum() else "")


def _plain(text: str) -> str:
    text = LINK.sub(r"\1", text)
    return SPECIAL.sub(lambda found: f"\\{found[0]}", text)
