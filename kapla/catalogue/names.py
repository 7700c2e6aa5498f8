"""Names of contents, and of their versions: `notes` is the newest, `notes~1` the one before it.

A name has no slash, so that whatever has one is a file; and no `~`, so that a version is always
told from a name. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from kapla.catalogue.errors import NotAName

__all__ = ["NEWEST", "check_name", "format_version", "parse_version"]

NEWEST: Final = 0
"""The version that a name alone stands for."""

# Pins have the same bound.
_MAX_BYTES: Final = 255
_MAX_DIGITS: Final = 9
_VERSION: Final = re.compile(rf"(?P<name>[^~]*)~(?P<number>[0-9]{{1,{_MAX_DIGITS}}})")


def check_name(text: str) -> str:
    """The name that is meant: letters that look the same are the same.

    Raises: NotAName.
    """
    name = unicodedata.normalize("NFC", text)
    if reason := _reason(name):
        raise NotAName(reason)
    return name


def _reason(name: str) -> str | None:
    if not name:
        return "a name has a letter at least"
    if not name.isprintable():
        return "a name has printable letters only"
    if len(name.encode("utf-8")) > _MAX_BYTES:
        return f"a name has {_MAX_BYTES} bytes at most"
    if "/" in name or "~" in name:
        return "a name has no / and no ~: a / tells a file, a ~ a version"
    if name != name.strip() or name[0] in "-@":
        return "a name does not begin with -, @ or a blank, nor end with one"
    if name.lower().startswith("urn:"):
        return "a name does not begin with urn:"
    return None


def parse_version(text: str) -> tuple[str, int] | None:
    """Read `NAME` or `NAME~N`; None if it can be neither."""
    found = _VERSION.fullmatch(text)
    name, number = (text, "0") if found is None else (found["name"], found["number"])
    try:
        return check_name(name), int(number)
    except NotAName:
        return None


def format_version(name: str, number: int) -> str:
    """Write a version as `parse_version` reads it; the newest without a number."""
    return name if number == NEWEST else f"{name}~{number}"
