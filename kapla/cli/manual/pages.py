"""The pages there are: of `kapla`, of each command, of `kaplad` and of its settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Final

import click

from kapla import __version__
from kapla.cli import commands
from kapla.cli.completing.kinds import Kind, kinds_of
from kapla.cli.manual import surroundings
from kapla.cli.manual.roff import Item, Page, Section, bold, emphasized, escape
from kapla.cli.told import told_of

__all__ = ["page_named", "page_names"]

_DAEMON: Final = "kaplad"
_SETTINGS: Final = "kapla.toml"
# What arguments are, by what they take; several may be given where the usage line has dots.
_WHAT: Final = {
    Kind.FILE: "The path of a file or directory.",
    Kind.DIRECTORY: "The path of a directory.",
    Kind.URN: "A URN of a content; or @NAME or @NAME~N, what the catalogue has under this name, the"
    " newest or the Nth before it; or @FILE, to read it from a file; or - for standard input.",
    Kind.NAME: "A name: in the catalogue, or of a pin.",
    Kind.TREE_PATH: "The path of something in the tree, with / between its parts.",
    Kind.STORE: "A store URL.",
    Kind.PAGE: "The name of a page.",
    Kind.WORD: "As is told above.",
}


def page_names() -> list[str]:
    """The names of all pages."""
    own = [f"kapla-{name}" for name in sorted(commands.OWN)]
    return ["kapla", *own, _DAEMON, _SETTINGS]


def page_named(name: str) -> Page | None:
    """The page of this name; `encode` is the same as `kapla-encode`."""
    special: dict[str, Callable[[], Page]] = {
        "kapla": _main_page,
        _DAEMON: _daemon_page,
        _SETTINGS: _settings_page,
    }
    if name in special:
        return special[name]()
    command = commands.load(short := name.removeprefix("kapla-")) if name else None
    return _command_page(short, command) if isinstance(command, click.Command) else None


def _main_page() -> Page:
    from kapla.cli.main import command_line

    command = command_line()
    rows = sorted(commands.OWN.items())
    return Page(
        "kapla",
        1,
        "keep files and trees as encrypted blocks, and bring them back",
        __version__,
        (
            _synopsis("kapla", command),
            _description(command),
            *_options(command),
            Section(
                "COMMANDS",
                items=tuple(
                    Item(f"{bold(f'kapla-{name}')}(1)", escape(own.short_help))
                    for name, own in rows
                ),
            ),
            *_examples(command),
            _exits(command),
            Section("ENVIRONMENT", items=_items(surroundings.GENERAL_VARIABLES)),
            _see_also((_DAEMON, 8), (_SETTINGS, 5)),
        ),
    )


def _command_page(name: str, command: click.Command) -> Page:
    inner = command.commands if isinstance(command, click.Group) else {}
    variables = surroundings.variables_of(name, command)
    files = surroundings.files_of(name, command)
    parts = [_synopsis(f"kapla {name}", command), _description(command)]
    parts += [*_arguments(command), *_options(command)]
    for inner_name, one in inner.items():
        parts.append(_inner(f"kapla {name} {inner_name}", one))
    parts += [*_examples(command), _exits(command)]
    parts += [Section("ENVIRONMENT", items=_items(variables))] if variables else []
    parts += [Section("FILES", items=_items(files))] if files else []
    parts.append(_see_also(("kapla", 1), (_DAEMON, 8)))
    short = commands.OWN[name].short_help if name in commands.OWN else command.get_short_help_str()
    return Page(f"kapla-{name}", 1, _lower(short), __version__, tuple(parts))


def _daemon_page() -> Page:
    from kapla.__main__ import EXAMPLES, EXIT_CODES, command

    return Page(
        _DAEMON,
        8,
        "keep ERIS blocks and serve them",
        __version__,
        (
            _synopsis(_DAEMON, command),
            _description(command),
            *_options(command),
            Section(
                "EXIT STATUS",
                items=tuple(Item(bold(str(code)), escape(text)) for code, text in EXIT_CODES),
            ),
            Section("EXAMPLES", lines=EXAMPLES),
            Section("ENVIRONMENT", items=_items(surroundings.DAEMON_VARIABLES)),
            Section("FILES", items=_items(surroundings.DAEMON_FILES)),
            _see_also((_SETTINGS, 5), ("kapla", 1), ("kapla-doctor", 1)),
        ),
    )


def _settings_page() -> Page:
    from kapla.config.table import SETTINGS

    return Page(
        _SETTINGS,
        5,
        "settings of kaplad",
        __version__,
        (
            Section(
                "DESCRIPTION",
                (
                    f"Settings of {bold(_DAEMON)}(8), in TOML. Options of the command line win over"
                    " variables of the environment, and those over this file. A key that is not"
                    " known, or a value that is impossible, is an error that names the place.",
                    "Sizes are bytes, or texts as in \\(dq10 GiB\\(dq; rates are sizes a second.",
                ),
            ),
            Section(
                "SETTINGS",
                items=tuple(
                    Item(
                        bold(one.key),
                        escape(f"{one.about} Default: {one.default}. Variable: ${one.variable}."),
                    )
                    for one in SETTINGS
                ),
            ),
            Section("FILES", items=_items(surroundings.DAEMON_FILES[:1])),
            _see_also((_DAEMON, 8)),
        ),
    )


def _context(command: click.Command) -> click.Context:
    return click.Context(command, help_option_names=["-h", "--help"])


def _synopsis(program: str, command: click.Command) -> Section:
    pieces = command.collect_usage_pieces(_context(command))
    return Section("SYNOPSIS", (f"{bold(program)} {escape(' '.join(pieces))}",))


def _description(command: click.Command) -> Section:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return Section("DESCRIPTION", tuple(map(escape, paragraphs)))


def _arguments(command: click.Command) -> list[Section]:
    context = _context(command)
    items = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            what = " Or: ".join(_WHAT[kind] for kind in kinds_of(parameter, context)[:2])
            items.append(Item(emphasized(parameter.make_metavar(context)), escape(what)))
    return [Section("ARGUMENTS", items=tuple(items))] if items else []


def _options(command: click.Command) -> list[Section]:
    return [Section("OPTIONS", items=tuple(_option_items(command)))]


def _option_items(command: click.Command) -> Iterable[Item]:
    context = _context(command)
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):
            names, text = record
            yield Item(_option_term(names), escape(text))


def _option_term(names: str) -> str:
    """`-p, --port INTEGER`: what is typed as it stands, and what stands for something."""
    shown = []
    for one in names.split(", "):
        name, _, metavar = one.partition(" ")
        shown.append(f"{bold(name)} {emphasized(metavar)}" if metavar else bold(name))
    return ", ".join(shown)


def _inner(program: str, command: click.Command) -> Section:
    """A command of a command: its usage line stands in the place of a heading."""
    described = _description(command).paragraphs
    return Section(
        program.upper(),
        (*_synopsis(program, command).paragraphs, *described),
        items=tuple(_option_items(command)),
    )


def _examples(command: click.Command) -> list[Section]:
    examples = told_of(command).examples
    return [Section("EXAMPLES", lines=examples)] if examples else []


def _exits(command: click.Command) -> Section:
    exits = told_of(command).exits
    items = tuple(Item(bold(str(code)), escape(text)) for code, text in exits)
    return Section("EXIT STATUS", items=items)


def _items(rows: Iterable[tuple[str, str]]) -> tuple[Item, ...]:
    return tuple(Item(bold(name), escape(text)) for name, text in rows)


def _see_also(*pages: tuple[str, int]) -> Section:
    return Section("SEE ALSO", (", ".join(f"{bold(name)}({number})" for name, number in pages),))


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")
