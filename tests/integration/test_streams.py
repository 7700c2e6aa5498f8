"""Standard streams that are closed, full or read by nobody: one rule for every command.

A result that cannot be written is an error with a word for it, but for a reader that has gone;
messages that cannot be written change nothing. And never a traceback.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.commands import Kapla
from tests.integration.daemon import GUARD_S, running_daemon

CLOSED = "kapla: standard output is closed\n"
FULL = "kapla: standard output: the disk is full\n"

COMMANDS = (
    "--help",
    "--version",
    "cat @tree.urn file",
    "decode @file.urn -",
    "encode file",
    "info @file.urn",
    "ls @tree.urn",
    "stat",
    "store-path file",
    "verify @tree.urn",
)
every_command = pytest.mark.parametrize("command", COMMANDS)


@dataclass(frozen=True)
class Shell:
    """`kapla`, as a shell starts it."""

    kapla: Kapla

    def __call__(self, command: str, redirected: str) -> tuple[int, str, str]:
        """Exit code, output and messages."""
        done = subprocess.run(
            ["sh", "-c", f'exec "$0" {command} {redirected}', self.kapla.command()[0]],
            env=self.kapla.environment(),
            cwd=self.kapla.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=GUARD_S,
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    home: Path = tmp_path_factory.mktemp("home")
    (home / "tree").mkdir()
    for path in (home / "file", home / "tree" / "file"):
        path.write_text("content\n")
    with running_daemon() as daemon:
        kapla = Kapla(home, daemon.url)
        (home / "file.urn").write_text(kapla.out("encode", "file"))
        (home / "tree.urn").write_text(kapla.out("encode", "tree"))
        yield Shell(kapla)


@every_command
def test_output_that_is_closed(shell: Shell, command: str) -> None:
    assert shell(command, ">&-") == (7, "", CLOSED)


@pytest.mark.parametrize("command", COMMANDS[::2])
def test_output_that_is_full(shell: Shell, command: str) -> None:
    assert shell(command, ">/dev/full") == (7, "", FULL)


@every_command
def test_output_that_nobody_reads(shell: Shell, command: str) -> None:
    """The reader is gone before anything is written."""
    pipe = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    pipe.wait()
    with subprocess.Popen(
        shell.kapla.command(*command.split()),
        env=shell.kapla.environment(),
        cwd=shell.kapla.home,
        stdout=pipe.stdin,
        stderr=subprocess.PIPE,
    ) as process:
        _, messages = process.communicate(timeout=GUARD_S)
    assert pipe.stdin is not None
    pipe.stdin.close()
    assert (process.returncode, messages) == (1, b"")


@pytest.mark.parametrize("command", ["encode file", "ls @tree.urn"])
@pytest.mark.parametrize("messages", ["2>&-", "2>/dev/full", "2</dev/null", "2>&- <&-"])
def test_messages_that_nobody_hears(shell: Shell, command: str, messages: str) -> None:
    code, output, _ = shell(command, messages)
    assert (code, bool(output)) == (0, True)


@pytest.mark.parametrize("messages", ["2>/dev/full", "2>&- >&-"])
@pytest.mark.parametrize(("command", "code"), [("decode @nothing -", 7), ("nonsense", 2)])
def test_errors_that_nobody_hears(shell: Shell, messages: str, command: str, code: int) -> None:
    assert shell(command, messages)[0] == code


def test_a_file_does_not_take_the_place_of_a_closed_stream(shell: Shell) -> None:
    """Else messages would be written into it, or into the connection to the store."""
    home = shell.kapla.home
    assert shell("-d decode @file.urn copy", "2>&- >&- <&-")[0] == 0
    assert (home / "copy").read_text() == "content\n"


def test_output_that_does_not_wait(shell: Shell) -> None:
    """A pipe that was made non-blocking by whoever reads it, and is full now and then."""
    content = b"x" * 1_000_000
    urn = shell.kapla.out("encode", "-", stdin=content)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with subprocess.Popen(
        shell.kapla.command("decode", urn, "-"), env=shell.kapla.environment(), stdout=writing
    ) as process:
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            assert pipe.read() == content
        assert process.wait(GUARD_S) == 0
