"""The line of progress on standard error: drawn ten times a second at most, by a thread of its own.

So it goes on while the event loop is busy, costs the loop nothing, and says what is waited for when
nothing comes for three seconds. On a terminal the line is drawn over; elsewhere, if somebody asked
for it, there is a line every few seconds. What else is said on the terminal goes past it by
`off_the_line`; the log makes way by itself.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Final, Self

from kapla.cli.bar import Pace, State, bar_line, plain_line
from kapla.cli.width import width_of

__all__ = ["Display", "off_the_line"]

_PERIOD_S: Final = 0.1
_PLAIN_PERIOD_S: Final = 5.0
_WAITING_AFTER_S: Final = 3.0
"""As long as a store may be silent before that is said."""
_FALLBACK_COLUMNS: Final = 80
# A terminal that is stopped takes nothing: it is not waited for.
_STUCK_S: Final = 1.0

Waiting = Callable[[], tuple[str, str] | None]
"""Tells what is waited for, in full and in short; None if nobody knows."""

_shown: list[Display] = []
"""The display that is on, if one is."""


class Display:
    """Shows how far it is for as long as its context lasts."""

    def __init__(self, text: str, total: int | None, waiting: Waiting) -> None:
        self.done = 0
        self.files = 0
        self.total = total
        self._text = text
        self._waiting = waiting
        self._pace = Pace()
        self._moved = time.monotonic()
        self._seen = -1
        self._drawn = ""
        self._is_terminal = sys.stderr.isatty()
        self._is_dumb = os.environ.get("TERM") in (None, "", "dumb")
        self._signs = _signs(getattr(sys.stderr, "encoding", None))
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="kapla-progress", daemon=True)

    def __enter__(self) -> Self:
        _shown.append(self)
        for handler in logging.root.handlers:
            handler.addFilter(self._make_way)
        if self._is_terminal:
            self._draw()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _shown.remove(self)
        for handler in logging.root.handlers:
            handler.removeFilter(self._make_way)
        self._over.set()
        self._thread.join(_STUCK_S)
        self.wipe()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the place of the line to somebody else meanwhile."""
        held = self._lock.acquire(timeout=_STUCK_S)
        try:
            self._write_over("")
            yield
        finally:
            if held:
                self._lock.release()

    def wipe(self) -> None:
        """Take the line away; it is drawn anew when its time comes."""
        with self.aside():
            pass

    def _make_way(self, _: logging.LogRecord) -> bool:
        """Before a line of the log is written."""
        self.wipe()
        return True

    def state(self, now: float) -> State:
        """How far it is."""
        done = self.done
        if done != self._seen:
            self._seen, self._moved = done, now
        rate = self._pace.note(now, done)
        waiting = None
        if now - self._moved >= _WAITING_AFTER_S:
            waiting = self._waiting()
        return State(self._text, done, self.total, self.files, rate, waiting)

    def _run(self) -> None:
        period_s = _PERIOD_S if self._is_terminal else _PLAIN_PERIOD_S
        # A file that cannot be written: the work goes on.
        with suppress(OSError, ValueError):
            while not self._over.wait(period_s):
                self._draw()

    def _draw(self) -> None:
        state = self.state(time.monotonic())
        with self._lock:
            if self._over.is_set():
                return
            if self._is_terminal:
                # Not in the last column, where some terminals begin a new line.
                self._write_over(bar_line(state, _columns() - 1, **self._signs))
            else:
                sys.stderr.write(f"kapla: {plain_line(state)}\n")
                sys.stderr.flush()

    def _write_over(self, line: str) -> None:
        if line == self._drawn or not self._is_terminal:
            return
        with suppress(OSError, ValueError):
            if self._is_dumb:
                blanks = " " * max(0, width_of(self._drawn) - width_of(line))
                text = f"\r{line}{blanks}" if line else f"\r{blanks}\r"
            else:
                text = f"\r{line}\x1b[K"
            sys.stderr.write(text)
            sys.stderr.flush()
        self._drawn = line


@contextmanager
def off_the_line() -> Iterator[None]:
    """Say something on standard error, which does not run into the line of progress."""
    if _shown:
        with _shown[-1].aside():
            yield
    else:
        yield


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _FALLBACK_COLUMNS
    except (OSError, ValueError):
        return _FALLBACK_COLUMNS


def _signs(encoding: str | None) -> dict[str, str]:
    """What a bar is made of, where letters beyond ASCII can be written and where not."""
    try:
        "━─…".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return {"full": "#", "empty": ".", "more": "~"}
    return {}
