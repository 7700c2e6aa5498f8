"""Logs for whoever runs a server: a line for each request, a line for what was baked.

A thread of its own writes, so that no disk keeps the event loop waiting; lines wait for it in a
bounded queue. What does not fit, and what cannot be written since the disk is full, is left out and
counted: the log of the program says so, once, and how many lines were lost when it works again. The
file is opened to append, and opened anew when that is asked for, after it was moved out of the way.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Protocol

from guix_glue.errors import PublishError

__all__ = ["Entry", "Journal", "escaped"]

_log = logging.getLogger(__name__)

_WAITING: Final = 10_000
"""Lines; a few hundred bytes each."""
_AT_ONCE: Final = 500
_LAST_S: Final = 2.0
"""How long the last lines may take when the program ends."""
# A pipe that nobody reads must not keep us from starting.
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK
_MODE: Final = 0o640


class Entry(Protocol):
    """What a line is about."""

    def facts(self) -> Mapping[str, object]:
        """For JSON."""

    def text(self) -> str:
        """For people, and the tools that they have; without line breaks."""


class Journal:
    """One log, at a path, or `-` for standard output. `close()` it.

    `redact` takes out of each line what nobody may read.
    Raises: PublishError, if it cannot be opened.
    """

    def __init__(self, target: str, *, as_json: bool, redact: Callable[[str], str]) -> None:
        self._target = target
        self._as_json = as_json
        self._redact = redact
        self._waiting: queue.Queue[str | None] = queue.Queue(_WAITING)
        self._lost = 0
        self._failing = False
        self._torn = False
        self._reopen = threading.Event()
        self._closing = threading.Event()
        try:
            self._descriptor = self._open()
        except OSError as error:
            raise PublishError(f"cannot write to {target}: {error.strerror}") from error
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    def note(self, entry: Entry) -> None:
        """Write a line, soon. Never waits, never raises."""
        line = json.dumps(entry.facts()) if self._as_json else entry.text()
        try:
            self._waiting.put_nowait(self._redact(line))
        except queue.Full:
            self._lost += 1

    def reopen(self) -> None:
        """Go on in a new file, if the old one was moved."""
        self._reopen.set()
        self._wake()

    def close(self) -> None:
        """Write what waits, as far as that takes no more than a moment."""
        self._closing.set()
        self._wake()
        self._thread.join(_LAST_S)
        if not self._thread.is_alive() and self._target != "-":
            os.close(self._descriptor)

    def _wake(self) -> None:
        # If it is full there is no need to.
        with suppress(queue.Full):
            self._waiting.put_nowait(None)

    def _work(self) -> None:
        while True:
            lines = self._next()
            if self._reopen.is_set():
                self._reopen.clear()
                self._open_again()
            if lines:
                self._write(lines)
            if self._closing.is_set() and self._waiting.empty():
                return

    def _next(self) -> list[str]:
        """Wait for lines, or until something else is to be done."""
        lines = [self._waiting.get()]
        with suppress(queue.Empty):
            while len(lines) < _AT_ONCE:
                lines.append(self._waiting.get_nowait())
        return [line for line in lines if line is not None]

    def _write(self, lines: list[str]) -> None:
        # What was broken off shall not spoil the next line.
        data = (b"\n" if self._torn else b"") + "".join(f"{line}\n" for line in lines).encode()
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            self._torn = len(left) < len(data)
            self._lost += bytes(left).count(b"\n")
            self._complain(error)
        else:
            self._torn = False
            self._tell_lost()

    def _complain(self, error: OSError) -> None:
        if not self._failing:
            _log.warning("Cannot write to %s: %s", self._target, error.strerror)
        self._failing = True

    def _tell_lost(self) -> None:
        self._failing = False
        if self._lost:
            lost, self._lost = self._lost, 0
            _log.warning("%s: %d lines were lost", self._target, lost)

    def _open_again(self) -> None:
        try:
            descriptor = self._open()
        except OSError as error:
            self._complain(error)
            return
        if self._target != "-":
            os.close(self._descriptor)
        self._descriptor, self._torn = descriptor, False

    def _open(self) -> int:
        if self._target == "-":
            return sys.stdout.fileno()
        descriptor = os.open(self._target, _FLAGS, _MODE)
        os.set_blocking(descriptor, True)
        return descriptor


def escaped(text: str, limit: int) -> str:
    """Text of strangers as printable ASCII, without quotes, at most `limit` characters of it."""
    data = text[:limit].encode("utf-8", "surrogateescape")
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02x}"
        for byte in data
    )
