"""Where a command says how far it is, and what becomes of that: a line, the summary, nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final, Protocol, cast

import click

from eris_fs.model import printable
from kapla.cli.quiet import is_watched, wants_progress
from kapla.cli.summary import Summary, current_summary
from kapla.cli.width import cut_start, width_of

__all__ = ["LARGEST_SHOWN", "Counted", "Progress", "Silent", "progress", "shows_progress"]

LARGEST_SHOWN: Final = 2**64
"""A hostile URN can stand for more bytes than a float holds, or a line."""

# Columns of what is being worked on, as progress displays show it.
_LONGEST_NAME: Final = 20


class Progress(Protocol):
    """Where a command says how far it is."""

    def advance(self, byte_count: int) -> None:
        """So many more bytes are done."""

    def reach(self, files: int, byte_count: int) -> None:
        """So many files and bytes are done in all."""

    def expect(self, byte_count: int) -> None:
        """So many bytes it will be in all."""


class Silent:
    """A progress that nobody sees."""

    def advance(self, byte_count: int) -> None:
        """Nothing."""

    def reach(self, files: int, byte_count: int) -> None:
        """Nothing."""

    def expect(self, byte_count: int) -> None:
        """Nothing."""


def shows_progress() -> bool:
    """Whether anybody would see it."""
    return is_watched()


@contextmanager
def progress(text: str, total: int | None = None) -> Iterator[Progress]:
    """Show how far it is on standard error, if that is a terminal or somebody asked for it.

    The summary of the command, if it has one, is told the same.
    """
    if not is_watched():
        yield Silent()
        return
    summary = current_summary() or Summary()
    with summary.part(text):
        summary.begin()
        if not wants_progress():
            yield _Summed(summary)
            return
        from kapla.cli.display import Display
        from kapla.cli.waiting import stores_of, waiting_text

        stores = stores_of(click.get_current_context(silent=True))
        # A file may be named like a command to the terminal.
        shown = _shortened(printable(text))
        with Display(shown, total, lambda: waiting_text(stores)) as display:
            yield _Shown(summary, display)


class _Summed(Silent):
    """Tells the summary alone."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary

    def advance(self, byte_count: int) -> None:
        self._summary.advance(byte_count)

    def reach(self, files: int, byte_count: int) -> None:
        self._summary.reach(files, byte_count)


class _Shown(_Summed):
    """Tells the line as well, which reads it when it is drawn."""

    def __init__(self, summary: Summary, display: object) -> None:
        from kapla.cli.display import Display

        assert isinstance(display, Display)
        super().__init__(summary)
        self._display = display

    def advance(self, byte_count: int) -> None:
        super().advance(byte_count)
        self._display.done += byte_count

    def reach(self, files: int, byte_count: int) -> None:
        super().reach(files, byte_count)
        self._display.done, self._display.files = byte_count, files

    def expect(self, byte_count: int) -> None:
        if byte_count < LARGEST_SHOWN:
            self._display.total = byte_count


def _shortened(text: str) -> str:
    """So that there is room for figures: the end of a path tells most."""
    verb, _, name = text.partition(" ")
    if width_of(name) <= _LONGEST_NAME:
        return text
    return f"{verb} …{cut_start(name, _LONGEST_NAME - 1)}"


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
