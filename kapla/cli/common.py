"""What commands share: the store, URN arguments, the event loop, progress."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType
from typing import Any, BinaryIO, Final, ParamSpec, Protocol, TypeVar, cast

import click

from eris.capability import ReadCapability
from eris_fs import printable
from kapla.client import RemoteStore, StoreList, default_store_urls, open_store

__all__ = [
    "LARGEST_SHOWN",
    "CommandError",
    "Counted",
    "ExitCode",
    "Interrupted",
    "Progress",
    "Store",
    "connect",
    "progress",
    "read_capability",
    "run",
    "shows_progress",
    "standard_input",
    "standard_output",
    "store_option",
    "urn_argument",
]

_P = ParamSpec("_P")
_T = TypeVar("_T")

Store = RemoteStore | StoreList

# How long the event loop has to notice a signal. What it does in one go takes milliseconds.
_STUCK_S: Final = 1.0

# A URN has 115 characters; whatever is longer than this is no file with a URN.
_LONGEST_URN_FILE: Final = 4096

LARGEST_SHOWN: Final = 2**64
"""A hostile URN can stand for more bytes than a float holds, or a line."""

# Of what is being worked on, as progress displays show it.
_LONGEST_NAME: Final = 20


class ExitCode(IntEnum):
    """How a command ends, 0 being success; `kapla.cli.main` has a sentence for each."""

    FAILED = 1
    USAGE = 2
    STORE = 3
    MISSING = 4
    DAMAGED = 5
    REFUSED = 6
    FILE = 7
    INTERRUPTED = 130


class CommandError(Exception):
    """A command cannot do what it was asked: one line, and its exit code."""

    def __init__(self, message: str, exit_code: int = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Interrupted(BaseException):
    """A signal ended the command after it had cleaned up."""

    def __str__(self) -> str:
        return "interrupted"


def store_option(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """Add `--store-url` to a command, which gets all that are given in one text, or None."""

    def join(_: click.Context, __: click.Parameter, urls: tuple[str, ...]) -> str | None:
        return " ".join(urls) or None

    return click.option(
        "--store-url",
        metavar="URL",
        multiple=True,
        callback=join,
        help="The store, as coap+unix:///run/eris.sock or coap+tcp://host. Several, given one by"
        " one or separated by spaces, are tried in order. Default: $ERIS_STORE_URL, else the local"
        " daemon's socket.",
    )(command)


def urn_argument(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """Add the argument `URN` to a command."""
    return click.argument("urn", metavar="URN")(command)


def standard_input() -> BinaryIO:
    """Standard input, for bytes.

    Raises: CommandError, if whoever started the program closed it.
    """
    if sys.stdin is None:
        raise CommandError("standard input is closed", ExitCode.FILE)
    return sys.stdin.buffer


def standard_output() -> BinaryIO:
    """Standard output, for bytes.

    Raises: CommandError, if whoever started the program closed it.
    """
    if sys.stdout is None:
        raise CommandError("standard output is closed", ExitCode.FILE)
    return sys.stdout.buffer


def read_capability(urn: str) -> ReadCapability:
    """Read a URN argument: the URN itself, `@FILE` or `-` for a file or standard input holding it.

    Arguments can be read by other users in /proc; files need not be.
    Raises: InvalidCapability, CommandError, OSError.
    """
    where = None
    if urn == "-":
        where = "standard input"
        urn = standard_input().read(_LONGEST_URN_FILE).decode("utf-8", "replace")
    elif urn.startswith("@"):
        where = urn[1:]
        with open(where, encoding="utf-8", errors="replace") as file:
            urn = file.read(_LONGEST_URN_FILE)
    elif not urn.lower().startswith("urn:") and os.path.isfile(urn):
        raise CommandError(
            f"this is a file, not a URN; to read one from it: @{urn}", ExitCode.USAGE
        )
    if where is not None and not urn.strip():
        raise CommandError(f"{where} is empty: no URN is in it", ExitCode.USAGE)
    return ReadCapability.from_urn(urn.strip())


@contextmanager
def _interruptible(task: asyncio.Task[Any]) -> Iterator[list[int]]:
    """Let SIGINT, SIGTERM and SIGHUP cancel the task, so that it cleans up.

    An event loop that is stuck, writing to a pipe that nobody reads, does not come to cancel
    anything: then `Interrupted` is raised where it stands.
    """
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.setitimer(signal.ITIMER_REAL, _STUCK_S)
        loop.call_soon_threadsafe(cancel)

    def cancel() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        task.cancel()

    def give_up(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), interrupt)
    before = {
        number: signal.signal(number, handler)
        for number, handler in {**handlers, signal.SIGALRM: give_up}.items()
    }
    try:
        yield received
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def run(command: Coroutine[Any, Any, _T]) -> _T:
    """Run a command's coroutine; a signal cancels it and ends in `Interrupted`."""

    async def guarded() -> _T:
        task = asyncio.ensure_future(command)
        with _interruptible(task) as received:
            try:
                return await task
            except asyncio.CancelledError:
                if received:
                    raise Interrupted from None
                raise

    return asyncio.run(guarded())


def connect(store_url: str | None) -> Store:
    """The store that a command works on; use it as an asynchronous context.

    Raises: InvalidUrl.
    """
    return open_store(default_store_urls(store_url))


class Progress(Protocol):
    """Where a command says how far it is."""

    def advance(self, byte_count: int) -> None:
        """So many more bytes are done."""

    def reach(self, files: int, byte_count: int) -> None:
        """So many files and bytes are done in all."""

    def expect(self, byte_count: int) -> None:
        """So many bytes it will be in all."""


class _Silent:
    def advance(self, byte_count: int) -> None:
        pass

    def reach(self, files: int, byte_count: int) -> None:
        pass

    def expect(self, byte_count: int) -> None:
        pass


def shows_progress() -> bool:
    """Whether anybody would see it."""
    return sys.stderr.isatty()


@contextmanager
def progress(text: str, total: int | None = None) -> Iterator[Progress]:
    """Show bytes, rate and time left on standard error, if that is a terminal."""
    if not shows_progress():
        yield _Silent()
        return
    # Loaded only here: it takes longer than many a command.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    bars = Bars(
        # A file may be named like markup, or like a command to the terminal.
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    text = _shortened(printable(text))
    with bars:
        task = bars.add_task(text, total=total)

        class Shown:
            def advance(self, byte_count: int) -> None:
                bars.advance(task, byte_count)

            def reach(self, files: int, byte_count: int) -> None:
                bars.update(task, completed=byte_count, description=f"{text}, {files:,} files")

            def expect(self, byte_count: int) -> None:
                if byte_count < LARGEST_SHOWN:
                    bars.update(task, total=byte_count)

        yield Shown()


def _shortened(text: str) -> str:
    """So that a line of 80 columns has room for bar and figures: the end of a path tells most."""
    verb, _, name = text.partition(" ")
    return text if len(name) <= _LONGEST_NAME else f"{verb} …{name[1 - _LONGEST_NAME :]}"


class Counted:
    """A file that tells a progress display what was read from it."""

    def __init__(self, file: BinaryIO, shown: Progress) -> None:
        self._file = file
        self._shown = shown

    def read(self, size: int = -1) -> bytes:
        """Read, and say so."""
        data = self._file.read(size)
        self._shown.advance(len(data))
        return data

    @classmethod
    def wrap(cls, file: BinaryIO, shown: Progress) -> BinaryIO:
        """A file object with the one method that an encoder calls."""
        return cast(BinaryIO, cls(file, shown))
