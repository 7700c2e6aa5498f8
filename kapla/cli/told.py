"""What is told of a command beside its options: examples, and how it can end.

Both stand by the command's definition, in `@told`. Help and manual pages draw on them, and a test
tries every example against the options that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

import click

from kapla.cli.exit_codes import all_meanings, meanings

__all__ = ["Told", "epilog_of", "told", "told_of"]

_C = TypeVar("_C", bound=click.Command)

# click leaves a paragraph that begins with this as it is.
_AS_IT_IS: Final = "\b\n"


@dataclass(frozen=True, slots=True)
class Told:
    """What `@told` says of a command."""

    examples: tuple[tuple[str, str], ...]
    """What is done, and the line that does it, as it is typed into a shell."""
    exits: tuple[tuple[int, str], ...]
    """Exit codes, and what each means here."""


_TOLD: Final[dict[click.Command, Told]] = {}


def told(
    *examples: tuple[str, str], exits: Iterable[int] = (), means: dict[int, str] | None = None
) -> Callable[[_C], _C]:
    """Give a command its examples, and the exit codes beside those that every command has.

    `means` says what a code means of this command, where that is more than of others.
    """
    said = means or {}

    def note(command: _C) -> _C:
        codes = tuple(
            (code, said.get(code, text)) for code, text in meanings({*exits, *said.keys()})
        )
        _TOLD[command] = Told(examples, codes)
        command.epilog = _epilog(examples, codes)
        return command

    return note


def told_of(command: click.Command) -> Told:
    """What was told of a command; of one that says nothing, every exit code."""
    return _TOLD.get(command) or Told((), tuple(all_meanings()))


def epilog_of(command: click.Command) -> str:
    """The end of the command's help."""
    if command.epilog:
        return command.epilog
    said = told_of(command)
    return _epilog(said.examples, said.exits)


def _epilog(examples: Iterable[tuple[str, str]], codes: Iterable[tuple[int, str]]) -> str:
    parts = []
    shown = [f"  {what}:\n    {line}" for what, line in examples]
    if shown:
        parts.append("\n".join([f"{_AS_IT_IS}{_title(len(shown))}:", *shown]))
    parts.append(
        "\n".join([f"{_AS_IT_IS}Exit codes:", *(f"  {code:>3}  {text}" for code, text in codes)])
    )
    return "\n\n".join(parts)


def _title(count: int) -> str:
    return "Example" if count == 1 else "Examples"
