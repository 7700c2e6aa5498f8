"""The argument URN: where it is read from, and what is said of one that is not right.

A URN has no checksum, so only its form can be judged. What is said names places and single letters
that no URN has, never the URN: whoever reads it can read the content.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

import click

from eris.capability import URN_PREFIX, ReadCapability
from eris.errors import InvalidCapability
from eris.link import LINK_MAGIC, MAX_LINK_SIZE, parse_link
from eris_fs.model import printable
from kapla.cli.named import urn_named, with_at
from kapla.cli.outcome import CommandError, ExitCode
from kapla.cli.streams import standard_input

__all__ = ["read_capability", "urn_argument"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_LETTERS: Final = 106
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
# What stands in a hand-written URN for a letter that looks like it.
_MEANT: Final = {"0": "the letter O", "1": "the letter I or L", "8": "the letter B"}
# The last of 106 letters has three bits of the content's key, and two that are zero.
_LAST: Final = frozenset("AEIMQUY4")

# A URN has 115 characters; whatever is longer than this is no file with a URN.
_LONGEST_FILE: Final = 4096


def urn_argument(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """Add the argument `URN` to a command."""
    return click.argument("urn", metavar="URN")(command)


def read_capability(urn: str) -> ReadCapability:
    """Read a URN argument: the URN itself, `@FILE` or `-` for a file or standard input holding it.

    FILE may also be a link.

    Or `@NAME`, `@NAME~N` for what the catalogue has under this name: see `kapla.cli.named`.
    Arguments can be read by other users in /proc; files need not be.
    Raises: InvalidCapability, CommandError, OSError.
    """
    text, where = _text_of(urn)
    if where is not None:
        _check_lines(text, where)
    text = text.strip()
    try:
        return ReadCapability.from_urn(text)
    except InvalidCapability as error:
        raise InvalidCapability(_reason(text) or error.reason) from None


def _text_of(urn: str) -> tuple[str, str | None]:
    """What is given, and where it was read from; None if it is the argument itself."""
    if urn == "-":
        text = standard_input().read(_LONGEST_FILE).decode("utf-8", "replace")
        return text, "standard input"
    if urn.startswith("@"):
        if urn == "@":
            raise CommandError(
                "@ wants a name behind it, of a file or in the catalogue: @FILE, @NAME",
                ExitCode.USAGE,
            )
        if (found := urn_named(urn[1:])) is not None:
            return found, None
        with open(urn[1:], "rb") as file:
            head = file.read(_LONGEST_FILE)
            if head.startswith(LINK_MAGIC):
                link = parse_link(head + file.read(MAX_LINK_SIZE))
                return link.capability.to_urn(), None
        return head.decode("utf-8", "replace"), urn[1:]
    if not urn.lower().startswith("urn:") and os.path.isfile(urn):
        raise CommandError(
            f"this is a file, not a URN; to read one from it: @{urn}", ExitCode.USAGE
        )
    if not urn.lower().startswith("urn:") and (named := with_at(urn)):
        raise CommandError(
            f"this is a name in the catalogue; what it stands for: {named}", ExitCode.USAGE
        )
    return urn, None


def _check_lines(text: str, where: str) -> None:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise CommandError(f"{where} is empty: no URN is in it", ExitCode.USAGE)
    if len(lines) > 1 and len(text) < _LONGEST_FILE:
        raise CommandError(
            f"{where} holds {len(lines)} lines, and should hold one URN alone", ExitCode.USAGE
        )


def _reason(text: str) -> str | None:
    """What is wrong with a URN, and how it is written; None where the codec says it well enough."""
    if text[: len(URN_PREFIX)].lower() == URN_PREFIX:
        return _letters_reason(text[len(URN_PREFIX) :])
    if text.lower().startswith("urn:blake2b:"):
        return "it names one block, which is no content: a URN of content begins with urn:eris:"
    if len(text) == _LETTERS and _is_capability(text.upper()):
        capitals = "" if text.isupper() else ", and write these in capitals"
        return f"put {URN_PREFIX} in front of its letters{capitals}"
    return None


def _letters_reason(letters: str) -> str | None:
    """What is wrong with the letters after the prefix."""
    for number, letter in enumerate(letters[: 2 * _LETTERS], 1):
        if letter.upper() not in _ALPHABET:
            shown = "a space" if letter.isspace() else f"“{printable(letter)}”"
            meant = _MEANT.get(letter)
            hint = f"; is {meant} meant?" if meant else ""
            return f"character {number} after {URN_PREFIX} is {shown}, which no URN has{hint}"
    if len(letters) != _LETTERS:
        apart = len(letters) - _LETTERS
        amount = f"{apart} too many" if apart > 0 else f"{-apart} missing"
        return f"{len(letters)} letters after {URN_PREFIX} instead of {_LETTERS}: {amount}"
    if not letters.isupper():
        return f"write the {_LETTERS} letters after {URN_PREFIX} in capitals"
    if letters[-1] not in _LAST:
        return "its last letter is none of A E I M Q U Y 4: it is mistyped"
    if not _is_capability(letters):
        return "its block-size letters are neither BI (1 KiB) nor B4 (32 KiB): it is mistyped"
    return None


def _is_capability(letters: str) -> bool:
    try:
        ReadCapability.from_urn(URN_PREFIX + letters)
    except InvalidCapability:
        return False
    return True
