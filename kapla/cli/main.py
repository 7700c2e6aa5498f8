"""`kapla`: finds its commands, runs one, and turns whatever went wrong into one line and a code.

Commands are entry points of the group `kapla.commands`, so that other packages can add theirs; each
is loaded only when it is used.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import io
import logging
import os
import sys
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final

import click

import eris_fs
from eris.errors import (
    BlockNotFound,
    ContentError,
    ErisError,
    InvalidCapability,
    StoreRefused,
    StoreUnavailable,
)
from eris_fs.errors import TreeError
from kapla import __version__, log
from kapla.cli.common import CommandError, ExitCode, Interrupted
from kapla.config import SYSTEM_SOCKET, default_socket
from kapla.errors import CannotConnect, ConfigError
from kapla.log import redact, redacted_usage

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
        (ContentError,),
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

_GROUP: Final = "kapla.commands"
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
    """A group whose commands are entry points."""

    def list_commands(self, context: click.Context) -> list[str]:
        """All names, in alphabetical order."""
        return sorted(entry_points(group=_GROUP).names)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List our own commands first, then those that other packages add."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for entry in sorted(entry_points(group=_GROUP), key=lambda entry: entry.name):
            command = self.get_command(context, entry.name)
            if command is not None:
                package = entry.module.partition(".")[0]
                rows.setdefault(package, []).append((entry.name, command.get_short_help_str(60)))
        for package in sorted(rows, key=lambda package: package != __package__.partition(".")[0]):
            with formatter.section(_SECTIONS.get(package, f"Commands of {package}")):
                formatter.write_dl(rows[package])

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named, or say what may have been meant."""
        try:
            return super().resolve_command(context, args)
        except click.UsageError:
            near = get_close_matches(args[0], self.list_commands(context), 1)
            if not near:
                raise
            raise click.UsageError(
                f"No such command {args[0]!r}. Did you mean {near[0]!r}?", context
            ) from None

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Load one command."""
        found: tuple[EntryPoint, ...] = tuple(entry_points(group=_GROUP, name=name))
        if not found:
            return None
        try:
            command = found[0].load()
        except Exception as error:
            return _broken(name, f"cannot be loaded: {error}")
        if not isinstance(command, click.Command):
            return _broken(name, f"is not a click command: {found[0].value}")
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
@click.pass_context
def _kapla(context: click.Context, debug: bool) -> None:
    """Turn files and trees into encrypted blocks in a store, and back, by one URN."""
    log.configure("debug" if debug else "warning")


def main() -> None:
    """Run the command line; ends the process."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal's encoding lacks is shown as an escape.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _kapla.main(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    except click.ClickException as error:
        click.echo(redacted_usage(error), nl=False, err=True)
        code = error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone.
        _drop_output()
        code = 1
    except (
        CommandError,
        ErisError,
        ConfigError,
        OSError,
        Interrupted,
        KeyboardInterrupt,
        click.Abort,
    ) as error:
        logging.getLogger(__name__).debug("Failed", exc_info=True)
        ended_by = Interrupted() if isinstance(error, click.Abort) else error
        if isinstance(ended_by, OSError | Interrupted | KeyboardInterrupt):
            _drop_output()
        click.echo(f"kapla: {redact(eris_fs.printable(_line(ended_by)))}", err=True)
        code = exit_code(ended_by)
    sys.exit(code)


def _drop_output() -> None:
    """Send what is still in the buffer of standard output nowhere: it may be full, or not read."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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


def _advice(socket: Path, number: int | None) -> str:
    """What to do about a Unix socket that cannot be connected to."""
    if number == errno.EACCES:
        with contextlib.suppress(OSError, KeyError):
            return (
                f"its socket is for its owner and the group {grp.getgrgid(socket.stat().st_gid)[0]}"
            )
        return "its socket is for its owner and group only"
    if number == errno.ENOTDIR:
        return "a store path behind a socket wants the socket's own slashes as %2F"
    if number == errno.ENOENT and socket == default_socket(os.environ) != SYSTEM_SOCKET:
        return f"nor is there {SYSTEM_SOCKET}. Start a daemon with: kaplad"
    return "is one running? Start a daemon with: kaplad"
