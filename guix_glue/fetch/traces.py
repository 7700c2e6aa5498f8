"""What the user is told, on standard error: lines for the client's progress display, or plain text.

The daemon passes these bytes on to the client, whose display understands the lines that begin with
`@`, if each is written at once. URLs stand in them without blanks, and an ERIS URN only by its
beginning: whoever reads a URN can read the content. Names come from servers, so that all that is
not plain text is shown as an escape.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from eris_fs import printable

__all__ = ["Messages", "Transfer"]

_PROGRAM: Final = "kapla substitute"
_CLEAR: Final = "\r\x1b[K"
# Seconds between two lines of progress: enough to see it move.
_PACE_S: Final = 0.2

Write = Callable[[bytes], None]


class Messages:
    """Writes messages; `extended` asks for lines that the client's display understands."""

    def __init__(self, write: Write, *, extended: bool = False, columns: int = 80) -> None:
        self._write = write
        self._columns = columns
        self.extended = extended

    def say(self, text: str) -> None:
        """One line."""
        self._write(f"{printable(text)}\n".encode("utf-8", "backslashreplace"))

    def warn(self, text: str) -> None:
        """Something that the user may want to put right."""
        self.say(f"{_PROGRAM}: warning: {text}")

    def error(self, text: str) -> None:
        """Why an item is not there."""
        self.say(f"{_PROGRAM}: error: {text}")

    def looking(self, url: str) -> Callable[[int, int], None]:
        """Tell that a server is asked; returns what to call with the answers so far, and of all."""
        shown_at = float("-inf")

        def progress(done: int, total: int) -> None:
            nonlocal shown_at
            now = time.monotonic()
            last = done == total
            if last or now >= shown_at + _PACE_S:
                shown_at = now
                end = "\n" if last else _CLEAR
                text = f"looking for substitutes on '{url}'... {done / total:6.1%}{end}"
                self._write(text.encode("ascii", "replace"))

        return progress

    def transfer(self, destination: str, url: str, size: int | None) -> Transfer:
        """Tell that a download begins. `size` is the bytes to come, if that is known."""
        return Transfer(self._write, self.extended, self._columns, destination, url, size)


class Transfer:
    """One download, as the user sees it."""

    def __init__(
        self,
        write: Write,
        extended: bool,
        columns: int,
        destination: str,
        url: str,
        size: int | None,
    ) -> None:
        self._write = write
        self._extended = extended
        self._columns = columns
        self._what = f"{_word(destination)} {_word(url)}"
        self._name = _word(destination).rpartition("/")[2]
        self._size = size
        self._shown_at = time.monotonic()
        if extended:
            self._line(f"@ download-started {self._what} {self._total}\n")
        else:
            # A URN is shown by its beginning, which says so itself.
            self._line(f"Downloading {_word(url).removesuffix('...')}...\n")

    def expect(self, size: int) -> None:
        """So many bytes will come: that became known only now."""
        self._size = size

    @property
    def _total(self) -> str:
        return "-" if self._size is None else str(self._size)

    def reach(self, transferred: int) -> None:
        """So many bytes have come."""
        now = time.monotonic()
        if now >= self._shown_at + _PACE_S:
            self._shown_at = now
            if self._extended:
                self._line(f"@ download-progress {self._what} {self._total} {transferred}\n")
            else:
                self._line(self._bar(transferred))

    def succeed(self, transferred: int) -> None:
        """All is there."""
        if self._extended:
            self._line(f"@ download-progress {self._what} {self._total} {transferred}\n")
            self._line(f"@ download-succeeded {self._what} {transferred}\n")
            self._line("\n")
        else:
            self._line(f"{self._bar(transferred)}\n")

    def tell(self, text: str) -> None:
        """Something about what has come, in a line of its own; nothing if there is none."""
        if text:
            self._line(f"{self._name}: {printable(text)}\n")

    def _bar(self, transferred: int) -> str:
        amount = f"{transferred / 1024**2:.1f} MiB"
        share = f" {min(transferred / self._size, 1.0):4.0%}" if self._size else ""
        width = max(8, self._columns - len(amount) - len(share) - 2)
        return f"{_CLEAR}{self._name[:width]} {amount}{share}"

    def _line(self, text: str) -> None:
        self._write(text.encode("ascii", "backslashreplace"))


def _word(text: str) -> str:
    """Make text one word of plain characters, as a URL writes others."""
    plain = printable(text).encode("ascii", "backslashreplace").decode("ascii")
    return plain.replace(" ", "%20")
