"""The line at the end of a command that moves content: how much, how fast, and where from.

It is for people: it is only there where progress would be shown. A command that has one is marked
by `summarized`; the store and the progress display find it by themselves and tell it what they
know.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

import click

from kapla.amounts import blocks_text, bytes_text
from kapla.cli.quiet import is_verbose, is_watched, talk_options

if TYPE_CHECKING:
    from kapla.cli.store import Store
    from kapla.origins import Amount, Origins

__all__ = ["Summary", "current_summary", "summarized"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_PLACE: Final = "kapla.summary"
_MOST_PLACES: Final = 5
_TENTH_S: Final = 0.1


class Summary:
    """What is known of a command's work so far; `sends`: whether it is there to put blocks."""

    def __init__(self, *, sends: bool = False, done: str = "") -> None:
        self.files = 0
        """Of trees; 0, where there is none."""
        self.bytes = 0
        """Of content."""
        self.notes: list[str] = []
        """What else is said to whoever wants to know more."""
        self._done = f"{done} " if done else ""
        self._sends = sends
        self._is_told = False
        self._sent = self._sent_blocks = self._found = 0
        self._stores: list[str] = []
        self._parts: dict[str, float] = {}
        self._from: dict[str, int] = {}
        self._began = time.monotonic()
        self._is_withheld = False

    def advance(self, byte_count: int) -> None:
        """So many more bytes are done."""
        self.bytes += byte_count

    def reach(self, files: int, byte_count: int) -> None:
        """So many files and bytes are done in all."""
        self.files, self.bytes = files, byte_count

    def begin(self) -> None:
        """What was counted is counted once more."""
        self.files = self.bytes = 0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure how long a part of the work takes."""
        began = time.monotonic()
        try:
            yield
        finally:
            taken = self._parts.get(name, 0.0)
            self._parts[name] = taken + time.monotonic() - began

    def withhold(self) -> None:
        """Content has gone to standard output; on a terminal nothing is said behind it."""
        self._is_withheld = sys.stdout.isatty()

    async def note(self, store: Store) -> None:
        """Ask a store where what it gave came from, and how much it got."""
        if not is_watched():
            return
        from kapla.origins import ask_origins, place_of

        for one in store.stores:
            origins = await ask_origins(one)
            if origins is not None:
                self.add(place_of(one.url), origins, found=one.found)
                self._stores.append(_store_line(str(one.url), origins))

    def add(self, name: str, origins: Origins, *, found: int = 0) -> None:
        """What came out of one store, what was put into it, and how many blocks were there."""
        self._is_told = True
        self._found += found
        self._sent += origins.put.bytes
        self._sent_blocks += origins.put.blocks
        for source, amount in ((name, origins.here), *origins.of_others):
            if amount.bytes:
                self._from[source] = self._from.get(source, 0) + amount.bytes

    def say(self) -> None:
        """Say it, to whoever watches."""
        if is_watched() and not self._is_withheld:
            from kapla.cli.store import say

            seconds = time.monotonic() - self._began
            say(self.text(seconds))
            if is_verbose():
                for line in self.details(seconds):
                    say(line)

    def text(self, seconds: float) -> str:
        """All of it in one line."""
        files = f"{_files(self.files)}, " if self.files else ""
        rate = f" ({bytes_text(self.bytes / seconds)}/s)" if seconds >= _TENTH_S else ""
        parts = [f"{self._done}{files}{bytes_text(self.bytes)} in {seconds:.1f} s{rate}"]
        if self._sent:
            sent = f"{blocks_text(self._sent_blocks)} sent ({bytes_text(self._sent)})"
            parts.append(f"{sent}, the rest was there" if self._found else sent)
        elif self._sends and self._is_told:
            parts.append("nothing sent, all was there")
        if self._from:
            parts.append(_places(self._from))
        return "; ".join(parts)

    def details(self, seconds: float) -> list[str]:
        """What took how long, what each store did, and what was noted: a line each."""
        measured = sum(self._parts.values())
        times = [f"{name}: {taken:.2f} s" for name, taken in self._parts.items()]
        times.append(f"all else: {max(0.0, seconds - measured):.2f} s")
        return [", ".join(times), *self.notes, *self._stores]


def current_summary() -> Summary | None:
    """That of the command that runs, if it has one."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(_PLACE)


def summarized(*, sends: bool, done: str) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Have a command say at its end what it did, and give it the options that are about this.

    `done`: the word for it, as "encoded"; `sends`: whether it is there to put blocks.
    """

    def decorate(command: Callable[_P, _T]) -> Callable[_P, _T]:
        @wraps(command)
        def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            summary = Summary(sends=sends, done=done)
            click.get_current_context().meta[_PLACE] = summary
            result = command(*args, **kwargs)
            summary.say()
            return result

        return talk_options(run)

    return decorate


def _store_line(name: str, origins: Origins) -> str:
    """What one store gave and got."""
    given = [("of its own", origins.here), *((f"from {peer}", at) for peer, at in _first(origins))]
    parts = [
        f"{blocks_text(amount.blocks)} {name} ({bytes_text(amount.bytes)})"
        for name, amount in given
        if amount.blocks
    ]
    if origins.put.blocks:
        parts.append(f"{blocks_text(origins.put.blocks)} sent ({bytes_text(origins.put.bytes)})")
    return f"{name}: {', '.join(parts) or 'nothing moved'}"


def _first(origins: Origins) -> list[tuple[str, Amount]]:
    ordered = sorted(origins.of_others, key=lambda one: -one[1].bytes)
    return ordered[:_MOST_PLACES]


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def _places(found: Mapping[str, int]) -> str:
    """Most first."""
    if len(found) == 1:
        return f"all from {next(iter(found))}"
    ordered = sorted(found.items(), key=lambda one: -one[1])
    shown = [f"{bytes_text(size)} from {name}" for name, size in ordered[:_MOST_PLACES]]
    rest = sum(size for _, size in ordered[_MOST_PLACES:])
    if rest:
        shown.append(f"{bytes_text(rest)} from {len(ordered) - _MOST_PLACES} others")
    return ", ".join(shown)
