"""Answers a shell that asks what may stand at the cursor, and nothing else.

`_KAPLA_COMPLETE=bash_complete` asks, with the line up to the cursor in `_KAPLA_LINE`;
`bash_source` has the script printed. Scripts that click made before ask by `COMP_WORDS` and
`COMP_CWORD`, and are answered as they were. Whatever fails answers nothing: at a prompt nobody
reads messages.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, Final

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    split_arg_string,
)

from kapla.cli.completing.kinds import prepare
from kapla.cli.completing.scripts import SHELLS, script

if TYPE_CHECKING:
    from kapla.cli.main import Commands

__all__ = ["LINE", "answer"]

LINE: Final = "_KAPLA_LINE"
"""The command line up to the cursor, as it was typed."""
_VARIABLE: Final = "_KAPLA_COMPLETE"
# Longer lines are nobody's typing.
_LONGEST_LINE: Final = 100_000
# Of help the first sentence, as far as a line has room for it.
_LONGEST_HELP: Final = 56
_SENTENCE: Final = re.compile(r"[.:;] ")


def answer(group: Commands, environment: Mapping[str, str]) -> int:
    """Print what the shell asks for; returns the exit code."""
    shell, _, what = environment.get(_VARIABLE, "").partition("_")
    if shell not in SHELLS or what not in ("source", "complete"):
        return 1
    if what == "source":
        sys.stdout.write(script(shell))
        return 0
    with suppress(Exception):
        text = _completions(group, shell, environment)
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.flush()
    return 0


def _completions(group: Commands, shell: str, environment: Mapping[str, str]) -> str:
    group = copy(group)
    group.prepare = prepare
    line = environment.get(LINE)
    if line is None:
        before: ShellComplete = _OLD[shell](group, {}, "kapla", _VARIABLE)
        return before.complete() + "\n"
    args, incomplete = _split(line[:_LONGEST_LINE])
    completing = ShellComplete(group, {}, "kapla", _VARIABLE)
    found = completing.get_completions(args, incomplete)
    return "".join(_line(item) for item in found if str(item.value).isprintable())


_OLD: Final[dict[str, type[ShellComplete]]] = {
    "bash": BashComplete,
    "zsh": ZshComplete,
    "fish": FishComplete,
}


def _split(line: str) -> tuple[list[str], str]:
    """The whole words behind the program's name, and the one that is begun, without quotes.

    A letter at the end tells whether a blank there begins a new word, or is quoted.
    """
    words = split_arg_string(line + "x")
    return words[1:-1], os.fsdecode(words[-1][:-1])


def _line(item: CompletionItem[str]) -> str:
    """Type, value and help of one completion, with tabs between them."""
    told = _SENTENCE.split(" ".join((item.help or "").split()), maxsplit=1)[0]
    if len(told) > _LONGEST_HELP:
        told = told[: _LONGEST_HELP - 1] + "…"
    return f"{item.type}\t{item.value}\t{told}\n"
