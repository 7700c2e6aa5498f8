"""Text as man(7) has it: a page is a list of sections, a section of paragraphs and lists. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Item", "Page", "Section", "bold", "emphasized", "escape", "format_page"]

# Minus, so that options can be copied from the page; backslashes; what typographers would change.
_ESCAPES: Final = {"\\": r"\e", "-": r"\-", "^": r"\(ha", "~": r"\(ti", "`": r"\(ga", "'": r"\(aq"}


@dataclass(frozen=True, slots=True)
class Item:
    """One thing of a list, and what it is. Both are roff already."""

    term: str
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, and what is below it: paragraphs as roff, items of a list, lines as they are."""

    title: str
    paragraphs: tuple[str, ...] = ()
    items: tuple[Item, ...] = ()
    lines: tuple[tuple[str, str], ...] = ()
    """What is done, and the line that does it."""


@dataclass(frozen=True, slots=True)
class Page:
    """A manual page."""

    name: str
    section: int
    short: str
    """One line, for `apropos`."""
    version: str
    sections: tuple[Section, ...] = field(default=())

    @property
    def file_name(self) -> str:
        """How its file is called."""
        return f"{self.name}.{self.section}"


def escape(text: str) -> str:
    """Text as roff that shows it as it stands."""
    return "".join(_ESCAPES.get(letter, letter) for letter in " ".join(text.split()))


def bold(text: str) -> str:
    """What is typed as it stands."""
    return f"\\fB{escape(text)}\\fR"


def emphasized(text: str) -> str:
    """What stands for something else."""
    return f"\\fI{escape(text)}\\fR"


def format_page(page: Page) -> str:
    """The page as man(7) source."""
    title = page.name.upper().replace("-", r"\-")
    lines = [
        r".\" Written from what the program says of itself: python -m kapla.cli.manual",
        f'.TH "{title}" "{page.section}" "" "kapla {page.version}" "Kapla"',
        '.SH "NAME"',
        f"{escape(page.name)} \\- {escape(page.short)}",
    ]
    for section in page.sections:
        lines += [f'.SH "{section.title}"', *_body(section)]
    return "\n".join(lines) + "\n"


def _body(section: Section) -> Iterable[str]:
    for number, paragraph in enumerate(section.paragraphs):
        if number:
            yield ".PP"
        yield from _text(paragraph)
    for item in section.items:
        yield ".TP"
        yield from _text(item.term)
        yield from _text(item.text)
    for number, (what, line) in enumerate(section.lines):
        if number:
            yield ".PP"
        yield from _text(f"{escape(what)}:")
        yield from (".PP", ".RS 4", ".nf", _guarded(bold(line)), ".fi", ".RE")


def _text(roff: str) -> list[str]:
    """A sentence a line, as manual pages are kept; none of them a request by accident."""
    return [_guarded(line) for line in re.split(r"(?<=[a-z)][.:]) (?=[A-Z])", roff)]


def _guarded(line: str) -> str:
    return f"\\&{line}" if line[:1] in (".", "'") else line
