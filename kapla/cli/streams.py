"""The standard streams, by one rule for all commands, whoever started us and whatever reads us.

* The numbers 0 to 2 are always taken: else the first file or socket that is opened would get one of
  them, and messages would be written into it.
* What cannot be written to standard output ends the command, with a word for it (`OutputFailed`);
  only if the reader has gone, silently, since that is how `head` ends a pipe.
* What cannot be written to standard error is dropped: the result and the exit code do not depend on
  whether anybody hears of it.
* Whoever takes what is written may take his time: no time-out counts it (`kapla.held_up`).
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, BinaryIO, Final

from kapla import held_up
from kapla.cli.outcome import CommandError, ExitCode

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "OutputFailed",
    "ReaderGone",
    "drop_output",
    "hold_streams",
    "standard_input",
    "standard_output",
]

_WORDS: Final = {errno.EBADF: " is closed", errno.ENOSPC: ": the disk is full"}


class OutputFailed(CommandError):
    """Standard output does not take the result."""

    def __init__(self, number: int | None) -> None:
        number = errno.EIO if number is None else number
        reason = _WORDS.get(number) or f": {os.strerror(number)}"
        super().__init__(f"standard output{reason}", ExitCode.FILE)


class ReaderGone(CommandError):
    """Whoever read standard output has gone: nothing is said of it."""


class _Output(io.FileIO):
    """Standard output, whose errors cannot be taken for those of another file or socket."""

    def write(self, data: ReadableBuffer) -> int:
        """Write all of it or some; waits where the other end made it not wait."""
        try:
            with held_up.counted():
                while (count := super().write(data)) is None:
                    poll = select.poll()
                    poll.register(self.fileno(), select.POLLOUT)
                    poll.poll()
        except BrokenPipeError:
            raise ReaderGone("the reader has gone") from None
        except OSError as error:
            raise OutputFailed(error.errno) from None
        return count


class _Messages(io.FileIO):
    """Standard error, if it can be written to."""

    def write(self, data: ReadableBuffer) -> int:
        """Write what can be written, and say that all was."""
        with contextlib.suppress(OSError), held_up.counted():
            super().write(data)
        return memoryview(data).nbytes


def hold_streams() -> None:
    """Take the numbers 0 to 2 and put the rule above into force. Called once, before all else."""
    closed = [number for number in (0, 1, 2) if not _is_open(number)]
    for number in closed:
        # The wrong way round, so that whoever uses it all the same is told.
        _open_null(number, os.O_WRONLY if number == 0 else os.O_RDONLY)
    if 0 in closed:
        sys.stdin = None  # as Python itself has it
    sys.stdout = _text(_Output(1, "wb", closefd=False), sys.stdout)
    sys.stderr = _text(_Messages(2, "wb", closefd=False), sys.stderr)


def drop_output() -> None:
    """Send what is still in the buffer of standard output nowhere, and whatever follows."""
    with contextlib.suppress(OSError):
        _open_null(1, os.O_WRONLY)


def standard_input() -> BinaryIO:
    """Standard input, for bytes.

    Raises: CommandError, if whoever started the program closed it.
    """
    if sys.stdin is None:
        raise CommandError("standard input is closed", ExitCode.FILE)
    return sys.stdin.buffer


def standard_output() -> BinaryIO:
    """Standard output, for bytes.

    Raises: OutputFailed, if whoever started the program closed it: better before the work.
    """
    if sys.stdout is None:
        raise OutputFailed(errno.EBADF)
    # Descriptors opened by `hold_streams` for a closed one cannot be written to.
    import fcntl

    if fcntl.fcntl(1, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OutputFailed(errno.EBADF)
    return sys.stdout.buffer


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _open_null(number: int, flags: int) -> None:
    descriptor = os.open(os.devnull, flags)
    if descriptor == number:
        # Also for a program that this one becomes.
        os.set_inheritable(number, True)
    else:
        os.dup2(descriptor, number)
        os.close(descriptor)


def _text(raw: io.FileIO, before: object) -> io.TextIOWrapper:
    """A text stream over `raw`, in the encoding of the one before it.

    A name that the terminal's encoding lacks is shown as an escape.
    """
    encoding = getattr(before, "encoding", None) or "utf-8"
    is_terminal = raw.isatty() or raw.fileno() == 2
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=is_terminal
    )
