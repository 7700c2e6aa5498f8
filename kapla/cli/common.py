"""What commands share: the event loop with its signals, and progress.

And, under this one name, what the modules beside it have for them: the store, URN arguments, the
standard streams, errors.
"""

from __future__ import annotations

import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol, TypeVar, cast

from eris_fs.model import printable
from kapla.cli.outcome import CommandError, ExitCode, Interrupted
from kapla.cli.quiet import is_watched
from kapla.cli.store import Store, connect, store_option
from kapla.cli.streams import standard_input, standard_output
from kapla.cli.summary import Summary, current_summary, summarized
from kapla.cli.urn import read_capability, urn_argument

if TYPE_CHECKING:
    import asyncio

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
    "summarized",
    "urn_argument",
]

_T = TypeVar("_T")

# How long the event loop has to notice a signal. What it does in one go takes milliseconds.
_STUCK_S: Final = 1.0

LARGEST_SHOWN: Final = 2**64
"""A hostile URN can stand for more bytes than a float holds, or a line."""

# Of what is being worked on, as progress displays show it.
_LONGEST_NAME: Final = 20


@contextmanager
def _interruptible(task: asyncio.Task[Any]) -> Iterator[list[int]]:
    """Let SIGINT, SIGTERM and SIGHUP cancel the task, so that it cleans up.

    An event loop that is stuck, writing to a pipe that nobody reads, does not come to cancel
    anything: then `Interrupted` is raised where it stands.
    """
    loop = task.get_loop()
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
    # Loaded only here: `--help` and `--version` do without.
    import asyncio

    from kapla.loop import Loop

    async def guarded() -> _T:
        task = asyncio.ensure_future(command)
        with _interruptible(task) as received:
            try:
                return await task
            except asyncio.CancelledError:
                if received:
                    raise Interrupted from None
                raise

    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(guarded())


class Progress(Protocol):
    """Where a command says how far it is."""

    def advance(self, byte_count: int) -> None:
        """So many more bytes are done."""

    def reach(self, files: int, byte_count: int) -> None:
        """So many files and bytes are done in all."""

    def expect(self, byte_count: int) -> None:
        """So many bytes it will be in all."""


class _Unseen:
    """Counts for the summary; there is nothing to show progress with."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary

    def advance(self, byte_count: int) -> None:
        self._summary.advance(byte_count)

    def reach(self, files: int, byte_count: int) -> None:
        self._summary.reach(files, byte_count)

    def expect(self, byte_count: int) -> None:
        pass


class _Silent:
    def advance(self, byte_count: int) -> None:
        pass

    def reach(self, files: int, byte_count: int) -> None:
        pass

    def expect(self, byte_count: int) -> None:
        pass


def shows_progress() -> bool:
    """Whether anybody would see it."""
    return is_watched()


@contextmanager
def progress(text: str, total: int | None = None) -> Iterator[Progress]:
    """Show bytes, rate and time left on standard error, if that is a terminal.

    The summary of the command, if it has one, is told the same.
    """
    if not shows_progress():
        yield _Silent()
        return
    summary = current_summary() or Summary()
    summary.begin()
    # Loaded only here: it takes longer than many a command. A lean installation is without it.
    if find_spec("rich") is None:
        yield _Unseen(summary)
        return
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
                summary.advance(byte_count)
                bars.advance(task, byte_count)

            def reach(self, files: int, byte_count: int) -> None:
                summary.reach(files, byte_count)
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
