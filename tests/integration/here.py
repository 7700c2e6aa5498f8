"""Running commands in this process: what they say and how they end, without a program's start."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click

from eris import ErisError
from kapla import log
from kapla.cli import commands
from kapla.cli.main import _failed
from kapla.cli.outcome import CommandError
from kapla.errors import ConfigError
from tests.integration.commands import Kapla, without_notices

__all__ = ["User"]

Done = subprocess.CompletedProcess[bytes]


@dataclass(frozen=True)
class User:
    """Somebody with a home and a store, as `Kapla` is, for whom no program is started."""

    home: Path
    url: str

    @property
    def as_program(self) -> Kapla:
        """The same user, with the installed command."""
        return Kapla(self.home, self.url)

    def __call__(
        self, name: str, *arguments: str | Path, code: int = 0, stdin: bytes = b""
    ) -> Done:
        """Run a command, which must end with this exit code."""
        command = commands.load(name)
        assert isinstance(command, click.Command)
        given = [*map(str, arguments)]
        with (
            tempfile.TemporaryFile() as source,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            source.write(stdin)
            source.seek(0)
            with _streams(source, out, err), _place(self.home, self.as_program.environment()):
                ended = _run(command, given)
            out.seek(0)
            err.seek(0)
            done = Done([name, *given], ended, out.read(), err.read())
        assert done.returncode == code, done
        Kapla.check_errors(done.stderr, code, [*given, stdin.decode("utf-8", "replace")])
        return done

    def out(self, name: str, *arguments: str | Path, stdin: bytes = b"") -> str:
        """What a command that succeeds says, without the end of the line."""
        return self(name, *arguments, stdin=stdin).stdout.decode().rstrip("\n")

    def error(self, name: str, *arguments: str | Path, code: int, stdin: bytes = b"") -> str:
        """The one line that a command says when it fails, after its name."""
        done = self(name, *arguments, code=code, stdin=stdin)
        text = without_notices(done.stderr.decode())
        assert text.startswith("kapla: "), text
        return text.removeprefix("kapla: ").rstrip("\n")


def _run(command: click.Command, given: list[str]) -> int:
    try:
        code = command.main(given, standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        click.echo(log.redacted_usage(error), nl=False, err=True)
        return error.exit_code
    except (CommandError, ErisError, ConfigError, OSError) as error:
        return _failed(error)
    return int(code or 0)


@contextlib.contextmanager
def _streams(source: BinaryIO, out: BinaryIO, err: BinaryIO) -> Iterator[None]:
    before = sys.stdin, sys.stdout, sys.stderr
    files = [io.TextIOWrapper(file, "utf-8", write_through=True) for file in (source, out, err)]
    sys.stdin, sys.stdout, sys.stderr = files
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
        for file in files:
            file.detach()


@contextlib.contextmanager
def _place(home: Path, environment: Mapping[str, str]) -> Iterator[None]:
    kept = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        with contextlib.chdir(home):
            yield
    finally:
        os.environ.clear()
        os.environ.update(kept)
