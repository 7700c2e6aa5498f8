"""`kapla`: finds its commands, runs one, and turns whatever went wrong into one line and a code.

Each command is loaded only when it is used: see `kapla.cli.commands`.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Final

import click

from eris.errors import (
    BlockNotFound,
    ContentError,
    ErisError,
    InvalidBundle,
    InvalidCapability,
    StoreRefused,
    StoreUnavailable,
)
from eris_fs.errors import TreeError
from eris_fs.model import printable
from kapla import __version__, log
from kapla.cli import commands
from kapla.cli.outcome import CommandError, ExitCode, Interrupted
from kapla.cli.quiet import be_quiet
from kapla.cli.streams import OutputFailed, ReaderGone, drop_output, hold_streams
from kapla.errors import CannotConnect, ConfigError
from kapla.uninstalled import explain

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["EXIT_CODES", "exit_code", "main"]

EXIT_CODES: Final[tuple[tuple[int, str, tuple[type[BaseException], ...]], ...]] = (
    (
        ExitCode.USAGE,
        "wrong usage: an option, a URN or a store URL",
        (InvalidCapability, ConfigError),
    ),
    (ExitCode.STORE, "the store cannot be reached or cannot work now", (StoreUnavailable,)),
    (ExitCode.MISSING, "a block is missing", (BlockNotFound,)),
    (
        ExitCode.DAMAGED,
        "blocks or content are damaged, or not what they should be",
        (ContentError, InvalidBundle),
    ),
    (ExitCode.REFUSED, "the store refuses: read-only, or at its size limit", (StoreRefused,)),
    (
        ExitCode.FILE,
        "a file cannot be read, written or expressed, or is in the way",
        (OSError, TreeError),
    ),
    (ExitCode.INTERRUPTED, "interrupted", (Interrupted, KeyboardInterrupt)),
)
"""Exit codes, what they mean, and the errors behind them. 0 is success, 1 any other failure."""

_SECTIONS: Final = {"kapla": "Commands", "guix_glue": "With Guix and Nix"}


def exit_code(error: BaseException) -> int:
    """The exit code for an error: of a class that names one, as other packages' may, that."""
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        return code
    for code, _, kinds in EXIT_CODES:
        if isinstance(error, kinds):
            return code
    return ExitCode.FAILED


def exit_code_help() -> str:
    """One paragraph for the end of every help text."""
    known = [
        (0, "success"),
        (ExitCode.FAILED, "another failure"),
        *((code, text) for code, text, _ in EXIT_CODES),
    ]
    return "Exit codes: " + "; ".join(f"{int(code)} {text}" for code, text in known) + "."


class _Commands(click.Group):
    """A group whose commands are loaded one at a time."""

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
        command.epilog = command.epilog or exit_code_help()
        return command


def _broken(name: str, reason: str) -> click.Command:
    """Stands in for another package's command, so that its faults do not spread to the others."""

    def fail() -> None:
        raise CommandError(f"the command {name} {reason}")

    return click.Command(name, callback=fail, help=f"(broken: {reason})")


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=exit_code_help(),
)
@click.version_option(__version__, prog_name="kapla")
@click.option("-d", "--debug", is_flag=True, help="Log what happens inside, and show tracebacks.")
@click.option("-q", "--quiet", is_flag=True, help="Show neither progress nor a summary.")
@click.pass_context
def _kapla(context: click.Context, debug: bool, quiet: bool) -> None:
    """Turn files and trees into encrypted blocks in a store, and back, by one URN."""
    if quiet:
        be_quiet(context)
    log.configure("debug" if debug else "warning")


def main() -> None:
    """Run the command line; ends the process."""
    hold_streams()
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
