"""One line that says how far a command is, in whatever room there is; pure.

What tells most stays longest: how much is done, or what is waited for. Two things that are nowhere
near a figure, the bar itself and the name, come last.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from kapla.amounts import bytes_text
from kapla.cli.width import cut_end, width_of

__all__ = ["Pace", "State", "bar_line", "plain_line"]

_LEAST_BAR: Final = 8
_LONGEST_BAR: Final = 40
_GAP: Final = "  "
# A rate is that of the last seconds: what was quick before says nothing of now.
_RATE_OVER_S: Final = 8.0
# Before so long it is a guess.
_RATE_AFTER_S: Final = 1.0
_LONGEST_LEFT_S: Final = 99 * 3600


@dataclass(frozen=True, slots=True)
class State:
    """How far it is: bytes of content, and files of trees."""

    text: str
    done: int
    total: int | None = None
    files: int = 0
    rate: float | None = None
    """Bytes a second; None as long as nobody knows."""
    waiting: tuple[str, str] | None = None
    """What is waited for, in full and in short; None if it goes on."""

    @property
    def percent(self) -> str | None:
        """None where nobody knows how much it will be."""
        if self.total is None:
            return None
        part = 100 if not self.total else min(100, self.done * 100 // self.total)
        return f"{part:3} %"

    @property
    def left_s(self) -> float | None:
        """How long it will take, at this rate; None if that is not known."""
        if self.total is None or not self.rate:
            return None
        return max(0, self.total - self.done) / self.rate


class Pace:
    """How fast it is, from what is done at which time."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, now: float, done: int) -> float | None:
        """Note how much is done by now; the rate, once it is known."""
        self._seen.append((now, done))
        while self._seen[0][0] < now - _RATE_OVER_S and len(self._seen) > 2:
            self._seen.popleft()
        since, before = self._seen[0]
        if now - since < _RATE_AFTER_S or done <= before:
            return None
        return (done - before) / (now - since)


def bar_line(
    state: State, columns: int, *, full: str = "━", empty: str = "─", more: str = "…"
) -> str:
    """The line, of at most `columns` columns; nothing where not even a percentage has room."""
    amount = bytes_text(state.done)
    if state.waiting is not None:
        return _waiting_line(state, amount, columns, more)
    first = state.percent or amount
    # In the order in which they are shown, each with how soon it is there as the room grows.
    parts = [
        (4, state.text),
        (0, first),
        (1, amount if state.percent else ""),
        (5, f"{state.files:,} files" if state.files else ""),
        (2, f"{bytes_text(state.rate)}/s" if state.rate else ""),
        (3, _left_text(state.left_s)),
    ]
    shown = _fitting(parts, columns)
    line = _GAP.join(shown)
    room = columns - width_of(line) - len(_GAP)
    if state.percent is None or room < _LEAST_BAR or state.text not in shown:
        return line
    width = min(room, _LONGEST_BAR)
    filled = width if not state.total else min(width, state.done * width // state.total)
    bar = full * filled + empty * (width - filled)
    return _GAP.join([shown[0], bar, *shown[1:]])


def plain_line(state: State) -> str:
    """The same where lines stay, as in a file: all of it."""
    parts = [
        state.text,
        (state.percent or "").strip(),
        bytes_text(state.done) + (f" of {bytes_text(state.total)}" if state.total else ""),
        f"{state.files:,} files" if state.files else "",
        f"{bytes_text(state.rate)}/s" if state.rate else "",
        state.waiting[0] if state.waiting is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def _waiting_line(state: State, amount: str, columns: int, more: str) -> str:
    assert state.waiting is not None
    first = state.percent or amount
    long, short = state.waiting
    for line in (_GAP.join((state.text, first, long)), _GAP.join((first, long))):
        if width_of(line) <= columns:
            return line
    line = _GAP.join((first, short))
    if width_of(line) <= columns:
        return line
    return cut_end(line, max(0, columns - len(more))) + more[:columns]


def _fitting(parts: list[tuple[int, str]], columns: int) -> list[str]:
    """As many parts as fit, the most important first, in the order in which they stand."""
    kept: list[int] = []
    used = -len(_GAP)
    for place in sorted(range(len(parts)), key=lambda place: parts[place][0]):
        text = parts[place][1]
        if text and used + len(_GAP) + width_of(text) <= columns:
            used += len(_GAP) + width_of(text)
            kept.append(place)
    return [parts[place][1] for place in sorted(kept)]


def _left_text(seconds: float | None) -> str:
    if seconds is None or seconds > _LONGEST_LEFT_S:
        return ""
    minutes, rest = divmod(int(seconds) + 1, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
