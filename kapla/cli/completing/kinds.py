"""What a parameter takes, by its metavar: the one place that knows these words.

`FILE|-` takes a file or `-`, `NAME|URN…` names or URNs, and so on. So what help shows and what a
shell completes are the same; a test sees to it that every word is known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from copy import copy
from enum import Enum
from typing import TYPE_CHECKING, Final

import click

from kapla.cli.completing.files import files_at
from kapla.cli.completing.stores import stores_like
from kapla.cli.completing.urns import names_like, urns_like

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["KINDS", "Kind", "choices_of", "kinds_of", "prepare"]

_Complete = Callable[[click.Context, str], "list[CompletionItem[str]]"]


class Kind(Enum):
    """What may be given."""

    FILE = "the path of a file"
    DIRECTORY = "the path of a directory"
    URN = "a URN of a content, or @NAME, @NAME~N, @FILE or -"
    NAME = "a name in the catalogue, or of a pin"
    PAGE = "the name of a manual page"
    TREE_PATH = "the path of a file or directory in the tree"
    STORE = "a store URL"
    WORD = "a word, number or pattern that only the user knows"


KINDS: Final[dict[str, Kind]] = {
    "FILE": Kind.FILE,
    "PATH": Kind.FILE,
    "OUT": Kind.FILE,
    "NEW": Kind.FILE,
    "FROM": Kind.FILE,
    "TO": Kind.FILE,
    "PROGRAM": Kind.FILE,
    "LIST": Kind.FILE,
    "MAP": Kind.FILE,
    "OLD-MAP": Kind.FILE,
    "NEW-MAP": Kind.FILE,
    "ITEM": Kind.FILE,
    "DIR": Kind.DIRECTORY,
    "DIRECTORY": Kind.DIRECTORY,
    "OUTDIR": Kind.DIRECTORY,
    "URN": Kind.URN,
    "OLD-URN": Kind.URN,
    "NEW-URN": Kind.URN,
    "NAME": Kind.NAME,
    "PAGE": Kind.PAGE,
    "PATH-IN-TREE": Kind.TREE_PATH,
    "STORE": Kind.STORE,
    "STORE-URL": Kind.STORE,
    "URL": Kind.STORE,
    **dict.fromkeys(
        (
            *(
                "BYTES",
                "FLOAT",
                "FLOAT RANGE",
                "GLOB",
                "HOST",
                "HOST:PORT",
                "INTEGER",
                "INTEGER RANGE",
            ),
            *(
                "KEY",
                "KEYS",
                "LEVEL",
                "METHOD",
                "N",
                "PATTERN",
                "PLACE",
                "PORT",
                "RATE",
                "SECONDS",
                "SIZE",
                "T",
            ),
            *("TEXT", "URLS", "USER", "GUIX-DAEMON-OPTIONS", "-"),
        ),
        Kind.WORD,
    ),
}
"""What the words of metavars stand for. Files in a tree, at a store and here are told apart."""


def kinds_of(parameter: click.Parameter, context: click.Context) -> list[Kind]:
    """What a parameter takes; empty if its metavar has a word that is not known.

    The name of an argument stands for its metavar, as it does in the usage line.
    """
    metavar = parameter.metavar or (
        (parameter.name or "").upper()
        if isinstance(parameter, click.Argument)
        else parameter.make_metavar(context)
    )
    found: list[Kind] = []
    for word in _words(metavar):
        kind = KINDS.get(word)
        if kind is None:
            return []
        found += [kind] if kind not in found else []
    return found


def choices_of(parameter: click.Parameter) -> list[str]:
    """The words to choose from, where the metavar is nothing but these, as in `text|json`."""
    if isinstance(parameter.type, click.Choice):
        return [str(choice) for choice in parameter.type.choices]
    metavar = parameter.metavar or ""
    return metavar.split("|") if re.fullmatch(r"[a-z]+(\|[a-z]+)+", metavar) else []


def _words(metavar: str) -> list[str]:
    """The words of a metavar: of `[FILE|-]` FILE and -, of `METHOD[:LEVEL]` METHOD and LEVEL."""
    text = metavar.replace("HOST:PORT", "HOST")
    for end in ("...", "…"):
        text = text.replace(end, "")
    return [word for word in re.split(r"[|\[\]]+:?", text) if word]


def prepare(command: click.Command) -> click.Command:
    """The command, as it is asked to complete: its parameters complete what they take."""
    command = copy(command)
    command.params = list(map(copy, command.params))
    for parameter in command.params:
        # Whatever completes by itself is left as it is.
        if choices := choices_of(parameter):
            parameter.type = _Chosen(choices)
        elif type(parameter.type) in _PLAIN:
            parameter.type = _Completed(command)
    if isinstance(command, click.Group):
        command.commands = {name: prepare(inner) for name, inner in command.commands.items()}
    return command


_PLAIN: Final = (
    type(click.STRING),
    type(click.UNPROCESSED),
    click.Path,
)


class _Completed(click.ParamType[str]):
    """A text that is completed by what its metavar says. Nothing is converted meanwhile."""

    name = "text"

    def __init__(self, command: click.Command) -> None:
        self._command = command

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """What may stand here, of every kind."""
        kinds = kinds_of(param, ctx)
        if Kind.URN in kinds and param.nargs == -1:
            kinds += _behind(self._command, param, ctx)
        if param.name == "pins" and not incomplete.startswith("@"):
            from kapla.cli.completing.at_stores import pins_like

            return pins_like(ctx.params.get("store_url"), incomplete)
        if Kind.STORE in kinds and Kind.FILE in kinds and not stores_like(incomplete or "-"):
            kinds = [Kind.FILE]
        if Kind.NAME in kinds and not incomplete:
            # The same names with an @ would only be repeated.
            kinds = [Kind.NAME]
        found: list[CompletionItem[str]] = []
        for kind in kinds:
            if not (found and kind in (Kind.FILE, Kind.DIRECTORY)):
                found += _COMPLETE[kind](ctx, incomplete)
        return found


class _Chosen(click.ParamType[str]):
    """One of some words, however they are typed, as they are written."""

    name = "choice"

    def __init__(self, choices: Sequence[str]) -> None:
        self._choices = choices

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """Those that begin so."""
        from click.shell_completion import CompletionItem

        begin = incomplete.lower()
        return [CompletionItem(one) for one in self._choices if one.lower().startswith(begin)]


def _behind(command: click.Command, param: click.Parameter, ctx: click.Context) -> list[Kind]:
    """What the last of several arguments takes: `kapla export URN... FILE` has URNs and a file."""
    later = command.params[command.params.index(param) + 1 :]
    return [kind for one in later if isinstance(one, click.Argument) for kind in kinds_of(one, ctx)]


def _in_tree(ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    # Loaded where a store is to be asked.
    from kapla.cli.completing.at_stores import paths_like

    for one in ctx.command.params:
        if isinstance(one, click.Argument) and Kind.URN in kinds_of(one, ctx):
            urn = ctx.params.get(one.name or "")
            return paths_like(urn, ctx.params.get("store_url"), incomplete)
    return []


def _pages(text: str) -> list[CompletionItem[str]]:
    from click.shell_completion import CompletionItem

    from kapla.cli.commands import OWN

    names = sorted(["kapla", "kaplad", "kapla.toml", *OWN])
    return [CompletionItem(name) for name in names if name.startswith(text)]


_COMPLETE: Final[dict[Kind, _Complete]] = {
    Kind.FILE: lambda _, text: files_at(text, "file"),
    Kind.DIRECTORY: lambda _, text: files_at(text, "dir"),
    Kind.URN: lambda _, text: urns_like(text),
    Kind.NAME: lambda _, text: names_like(text),
    Kind.TREE_PATH: _in_tree,
    Kind.STORE: lambda _, text: stores_like(text),
    Kind.PAGE: lambda _, text: _pages(text),
    Kind.WORD: lambda _, text: [],
}
