"""What is wrong with settings: all of it, each with its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kapla.errors import ConfigError

__all__ = ["Misconfigured", "Problem", "Problems"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. No message repeats a value that may be secret."""

    place: str
    """Where it stands, as `kapla.toml:3: max-size`, `$KAPLA_LISTEN`, `--listen`; may be empty."""
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}" if self.place else self.reason


class Misconfigured(ConfigError):
    """Settings are wrong; its text has a line for each of the problems."""

    def __init__(self, problems: Iterable[Problem], rest: object = None) -> None:
        self.problems = tuple(problems)
        self.rest = rest
        """What is sound of it, a `Loaded`, for those who look further; None: nothing is known."""
        super().__init__("\n".join(map(str, self.problems)))


class Problems:
    """Gathers them, so that all are told at once."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, place: str, reason: object) -> None:
        """One more."""
        self.found.append(Problem(place, str(reason)))

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """What goes wrong in here is wrong at this place."""
        try:
            yield
        except (ValueError, ConfigError) as error:
            self.add(place, error)

    def check(self) -> None:
        """Raises: Misconfigured, if there are any."""
        if self.found:
            # Not chained: what was typed stands in the causes.
            raise Misconfigured(self.found) from None
