"""`kapla top` on a terminal: looks again and again, until q is pressed.

A daemon that cannot be reached is waited for, with the last figures in view. The terminal is put
back as it was, however this ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from eris.errors import ErisError, StoreRefused
from eris_fs.model import printable
from kapla.cli.common import CommandError, ExitCode
from kapla.cli.store import times
from kapla.client import default_store_urls, open_store
from kapla.errors import NotAllowed
from kapla.status.daemon import daemon_view
from kapla.status.facts import DaemonFacts, InvalidFacts
from kapla.status.lines import Line, Piece, lines_of
from kapla.status.view import Tone, View
from kapla.status_listing import ask_status

__all__ = ["watch"]

_AGAIN_S: Final = 1.0
_STYLES: Final[dict[Tone, str]] = {
    Tone.GOOD: "green",
    Tone.NOTABLE: "yellow",
    Tone.BAD: "bold red",
}
_HELP: Final = "q ends, ↑ ↓ scroll"
_ENDS: Final = frozenset(b"qQ\x04")
_KEYS: Final = {b"j": 1, b"\x1b[B": 1, b"k": -1, b"\x1b[A": -1}
_PAGES: Final = {b" ": 1, b"\x1b[6~": 1, b"b": -1, b"\x1b[5~": -1}
_LONGEST_KEYS: Final = 64


async def watch(store_url: str | None, interval_s: float) -> None:
    """Show it until q is pressed, or a signal comes.

    Raises: CommandError, if the daemon will not tell, or is none.
    """
    screen = _Screen()
    looking = asyncio.ensure_future(_look(store_url, interval_s, screen))
    with screen.shown(), suppress(asyncio.CancelledError):
        ended = asyncio.ensure_future(screen.ended.wait())
        try:
            await asyncio.wait([looking, ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            if not looking.done():
                looking.cancel()
                await asyncio.wait([looking])
    if looking.done() and not looking.cancelled() and (error := looking.exception()) is not None:
        raise error


async def _look(store_url: str | None, interval_s: float, screen: _Screen) -> None:
    urls = default_store_urls(store_url)
    before: DaemonFacts | None = None
    while True:
        try:
            async with open_store(urls, **{**times(), "reconnect_s": 0.0}) as store:
                while True:
                    facts = _read(await ask_status(await store.taker()))
                    screen.show(daemon_view(facts, before))
                    before = facts
                    await asyncio.sleep(interval_s)
        except (NotAllowed, StoreRefused) as error:
            raise CommandError(f"{urls[0]} does not tell: {error}", ExitCode.REFUSED) from None
        except ErisError:
            screen.wait_for(str(urls[0]))
            await asyncio.sleep(_AGAIN_S)


def _read(facts: dict[str, Any]) -> DaemonFacts:
    try:
        return DaemonFacts.read(facts)
    except InvalidFacts:
        raise CommandError(
            "the store's facts are none of a Kapla daemon; see --json", ExitCode.STORE
        ) from None


class _Screen:
    """The terminal: the last view, and which part of it is seen."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        """Set when whoever looks has seen enough."""
        self._console = Console()
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._view: View | None = None
        self._waits_for: str | None = None
        self._top = 0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Use the terminal meanwhile."""
        loop, keyboard = asyncio.get_running_loop(), sys.stdin.fileno()
        before = termios.tcgetattr(keyboard)
        try:
            tty.setcbreak(keyboard)
            loop.add_reader(keyboard, self._pressed, keyboard)
            loop.add_signal_handler(signal.SIGWINCH, self._draw)
            with self._live:
                self._draw()
                yield
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)
            loop.remove_reader(keyboard)
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)

    def show(self, view: View) -> None:
        """Show this from now on."""
        self._view, self._waits_for = view, None
        self._draw()

    def wait_for(self, where: str) -> None:
        """Say that there is no answer from there; what was shown stays."""
        self._waits_for = where
        self._draw()

    def _pressed(self, keyboard: int) -> None:
        keys = os.read(keyboard, _LONGEST_KEYS)
        if not keys or _ENDS.intersection(keys):
            self.ended.set()
            return
        page = max(1, self._console.size.height - 2)
        self._top += _KEYS.get(keys, 0) + page * _PAGES.get(keys, 0)
        self._draw()

    def _draw(self) -> None:
        width, height = self._console.size
        lines = [] if self._view is None else list(lines_of(self._view, width))
        room = max(1, height - 1)
        self._top = max(0, min(self._top, len(lines) - room))
        seen = lines[self._top : self._top + room]
        text = Text("\n", no_wrap=True, end="").join(map(_styled, seen))
        text.append("\n" * (room - len(seen) + (1 if seen else 0)))
        text.append_text(_styled(self._foot(len(lines) > room)))
        self._live.update(text, refresh=True)

    def _foot(self, has_more: bool) -> Sequence[Piece]:
        if self._waits_for is not None:
            return (Piece(f"waiting for {self._waits_for} …", Tone.NOTABLE),)
        if self._view is None:
            return (Piece("asking …", is_soft=True),)
        return (Piece(_HELP if has_more else "q ends", is_soft=True),)


def _styled(line: Line) -> Text:
    text = Text(no_wrap=True, end="")
    for piece in line:
        style = _STYLES.get(piece.tone, "")
        if piece.is_title:
            style = f"bold {style}"
        text.append(printable(piece.text), style="dim" if piece.is_soft else style)
    return text
