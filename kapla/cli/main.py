"""`kapla`: finds its commands, runs one, and turns whatever went wrong into one line and a code.

Each command is loaded only when it is used: see `kapla.cli.commands`.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import click

from eris.errors import ErisError
from eris_fs.model import printable
from kapla import __version__, log
from kapla.cli import commands
from kapla.cli.exit_codes import EXIT_CODES, exit_code
from kapla.cli.outcome import CommandError, ExitCode, Interrupted
from kapla.cli.quiet import talk_options
from kapla.cli.streams import OutputFailed, ReaderGone, drop_output, hold_streams
from kapla.cli.told import epilog_of, told
from kapla.errors import CannotConnect, ConfigError
from kapla.uninstalled import explain

if TYPE_CHECKING:
    from pathlib import Path

    from click.shell_completion import CompletionItem

__all__ = ["COMPLETE", "EXIT_CODES", "Commands", "command_line", "exit_code", "main"]

COMPLETE: Final = "_KAPLA_COMPLETE"
"""By this variable a shell asks how to complete: see `kapla.cli.completing`."""

_SECTIONS: Final = {"kapla": "Commands", "guix_glue": "With Guix and Nix"}


class Commands(click.Group):
    """A group whose commands are loaded one at a time."""

    prepare: Callable[[click.Command], click.Command] | None = None
    """Makes of each command that is loaded the one that is used."""

    def list_commands(self, context: click.Context) -> list[str]:
        """All names, in alphabetical order."""
        return sorted([*commands.OWN, *commands.others()])

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List our own commands first, then those that other packages add."""
        rows: dict[str, list[tuple[str, str]]] = {package: [] for package in _SECTIONS}
        for name, own in sorted(commands.OWN.items()):
            rows[own.module.partition(".")[0]].append((name, own.short_help))
        for name, entry in sorted(commands.others().items()):
            command = self.get_command(context, name)
            if command is not None:
                package = entry.module.partition(".")[0]
                rows.setdefault(package, []).append((name, command.get_short_help_str(60)))
        for package, entries in rows.items():
            with formatter.section(_SECTIONS.get(package, f"Commands of {package}")):
                formatter.write_dl(entries)

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Complete options and the names of commands, without loading any of these."""
        from click.shell_completion import CompletionItem

        told = {name: own.short_help for name, own in commands.OWN.items()}
        told |= dict.fromkeys(commands.others(), "")
        return [
            CompletionItem(name, help=told[name] or None)
            for name in sorted(told)
            if name.startswith(incomplete)
        ] + click.Command.shell_complete(self, context, incomplete)

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named, or say what may have been meant."""
        try:
            return super().resolve_command(context, args)
        except click.UsageError:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.list_commands(context), 1)
            if not near:
                raise
            raise click.UsageError(
                f"No such command {args[0]!r}. Did you mean {near[0]!r}?", context
            ) from None

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Load one command."""
        try:
            command = commands.load(name)
        except Exception as error:
            return _broken(name, f"cannot be loaded: {explain(error) or error}")
        if command is None:
            return None
        if not isinstance(command, click.Command):
            return _broken(name, f"is not a click command, but {type(command).__name__}")
        command.epilog = epilog_of(command)
        return command if self.prepare is None else self.prepare(command)


def _broken(name: str, reason: str) -> click.Command:
    """Stands in for another package's command, so that its faults do not spread to the others."""

    def fail() -> None:
        raise CommandError(f"the command {name} {reason}")

    return click.Command(name, callback=fail, help=f"(broken: {reason})")


@told(
    ("Store a directory, and call it notes", "kapla encode --name notes notes"),
    ("Bring it back", "kapla decode @notes copy"),
    ("All about one command", "kapla encode --help"),
    exits=ExitCode,
)
@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
@click.version_option(__version__, prog_name="kapla")
@click.option("-d", "--debug", is_flag=True, help="Log what happens inside, and show tracebacks.")
@talk_options
@click.pass_context
def _kapla(context: click.Context, debug: bool) -> None:
    """Turn files and trees into encrypted blocks in a store, and back, by one URN.

    Where a URN is wanted, @NAME is what your catalogue has under a name, @NAME~1 what it had
    before, @FILE a URN in a file, and - one on standard input.
    """
    log.configure("debug" if debug else "warning")
    if context.invoked_subcommand is None:
        from kapla.cli.home import show_home

        show_home()


def command_line() -> Commands:
    """All of `kapla`, as a group whose commands are loaded when they are asked for."""
    return _kapla


def main() -> None:
    """Run the command line; ends the process."""
    hold_streams()
    if COMPLETE in os.environ:
        from kapla.cli.completing.answering import answer

        sys.exit(answer(_kapla, os.environ))
    try:
        code = _kapla.main(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        click.echo(log.redacted_usage(error), nl=False, err=True)
        code = error.exit_code
    except (
        CommandError,
        ErisError,
        ConfigError,
        OSError,
        Interrupted,
        KeyboardInterrupt,
        click.Abort,
    ) as error:
        code = _failed(error)
    except ModuleNotFoundError as error:
        if (text := explain(error)) is None:
            raise
        code = _failed(CommandError(text))
    sys.exit(code)


def _failed(error: BaseException) -> int:
    """Say what went wrong, in one line; returns the exit code."""
    log.debug_exception(__name__)
    ended_by = Interrupted() if isinstance(error, click.Abort) else error
    _finish_output(ended_by)
    if not isinstance(ended_by, ReaderGone):
        click.echo(f"kapla: {log.redact(printable(_line(ended_by)))}", err=True)
    return exit_code(ended_by)


def _finish_output(error: BaseException) -> None:
    """Write what is left of the result; nowhere, if it may be that which cannot be written."""
    if not isinstance(error, OutputFailed | ReaderGone | Interrupted | KeyboardInterrupt):
        try:
            sys.stdout.flush()
            return
        except CommandError:
            pass
    drop_output()


def _line(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError) and error.strerror:
        # A number is a file descriptor, which says nothing to the user.
        named = isinstance(error.filename, str | bytes)
        name = f"{os.fsdecode(error.filename)}: " if named else ""
        text = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
        return f"{name}{text}"
    text = str(error) or type(error).__name__
    if isinstance(error, CannotConnect) and error.socket is not None:
        text += "; " + _advice(error.socket, error.number)
    return text


def _advice(path: Path, number: int | None) -> str:
    """What to do about a Unix socket that cannot be connected to."""
    from kapla.local_socket import SYSTEM_SOCKET, default_socket

    if number == errno.EACCES:
        return _advice_on_rights(path)
    if os.path.isdir(path):
        return f"it is a directory. A store URL names a socket: coap+unix://{path}/eris.sock?"
    if os.path.isfile(path):
        return f"it is a file, no socket. If it is a store, serve it with: kaplad --store {path}"
    if number == errno.ENOTDIR:
        return "a store path behind a socket wants the socket's own slashes as %2F"
    if number == errno.ENOENT and path == default_socket(os.environ) != SYSTEM_SOCKET:
        return f"nor is there {SYSTEM_SOCKET}. Start a daemon with: kaplad"
    return "is one running? Start a daemon with: kaplad"


def _advice_on_rights(path: Path) -> str:
    import grp

    try:
        group = grp.getgrgid(path.stat().st_gid).gr_name
    except (OSError, KeyError):
        return "its socket is for its owner and group only"
    return f"its socket is for its owner and the group {group}"
