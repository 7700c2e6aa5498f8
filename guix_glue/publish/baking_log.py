"""What the log of baking tells: a line for each nar, tree and delta, or why there is none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from eris.errors import ErisError
from guix_glue.model import StoreItem
from guix_glue.publish.queue import TryLater
from guix_glue.serving.journal import Journal, escaped

__all__ = ["DeltaNotes", "Made", "noted"]

_LONGEST: Final = 512

_Job = TypeVar("_Job")


@dataclass(frozen=True, slots=True)
class Made:
    """What there is of an item: its path, the bytes of its nar, and what was made of it.

    For a compression, as `gzip:3`, these are the bytes of the file, for a format of trees None; and
    `done`, or why there is nothing.
    """

    path: str
    nar_size: int | None = None
    results: Mapping[str, tuple[int | None, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Baked:
    """A line. `seconds` is what the whole item took: all its nars are made in one go."""

    made: Made
    kind: str
    size: int | None
    seconds: float
    result: str
    base: str | None = None
    at: float = field(default_factory=time.time)

    def facts(self) -> Mapping[str, object]:
        based = {} if self.base is None else {"base": self.base}
        return {
            "event": "baked",
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.at)),
            "item": self.made.path,
            "compression": self.kind,
            **based,
            "bytes": self.size,
            "nar_bytes": self.made.nar_size,
            "seconds": round(self.seconds, 3),
            "result": self.result[:_LONGEST],
        }

    def text(self) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.at))
        sizes = " ".join(
            "-" if size is None else str(size) for size in (self.size, self.made.nar_size)
        )
        kind = self.kind if self.base is None else f"{self.kind}:{self.base}"
        return (
            f"{when} {escaped(self.made.path, _LONGEST)} {kind} {sizes} {self.seconds:.3f}"
            f" {escaped(self.result, _LONGEST)}"
        )


def noted(
    bake: Callable[[_Job], Awaitable[None]],
    made: Callable[[_Job], Made],
    journal: Journal | None,
) -> Callable[[_Job], Awaitable[None]]:
    """Baking that is told of in a log, if there is one; `made` says what there is at a time."""
    return bake if journal is None else _Noted(bake, made, journal)


class _Noted(Generic[_Job]):
    def __init__(
        self,
        bake: Callable[[_Job], Awaitable[None]],
        made: Callable[[_Job], Made],
        journal: Journal,
    ) -> None:
        self._bake = bake
        self._made = made
        self._journal = journal

    async def __call__(self, job: _Job) -> None:
        before, began = self._made(job).results, time.monotonic()
        failure: str | None = "failed"
        try:
            await self._bake(job)
            failure = None
        except TryLater as error:
            failure = _why_later(error)
            raise
        except asyncio.CancelledError:
            failure = "stopped"
            raise
        except (ErisError, OSError) as error:
            failure = str(error)
            raise
        finally:
            self._tell(self._made(job), before, time.monotonic() - began, failure)

    def _tell(
        self,
        made: Made,
        before: Mapping[str, object],
        seconds: float,
        failure: str | None,
    ) -> None:
        for kind, (size, result) in made.results.items():
            if kind not in before:
                self._journal.note(_Baked(made, kind, size, seconds, result))
        if failure is not None:
            self._journal.note(_Baked(made, "-", None, seconds, failure))


@dataclass(slots=True)
class _DeltaNote:
    """What is told of a delta once it is over: the bytes of its blocks, and `done`, or why not."""

    size: int | None = None
    result: str = "failed"

    def tell(self, size: int | None, reason: str | None) -> None:
        self.size, self.result = size, reason or "done"


class DeltaNotes:
    """Tells of deltas in a log, if there is one."""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal

    @contextmanager
    def one(self, item: StoreItem, base: str) -> Iterator[_DeltaNote]:
        """While the delta from a base to an item is worked on; whoever does tells the result."""
        note, began = _DeltaNote(), time.monotonic()
        try:
            yield note
        except TryLater as error:
            note.result = _why_later(error) or "later"
            raise
        except asyncio.CancelledError:
            note.result = "stopped"
            raise
        except (ErisError, OSError) as error:
            note.result = str(error)
            raise
        finally:
            if self._journal is not None:
                made, seconds = Made(item.path, item.nar_size), time.monotonic() - began
                self._journal.note(_Baked(made, "delta", note.size, seconds, note.result, base))


def _why_later(error: TryLater) -> str | None:
    """What keeps it from being made now, as far as that is known; None if it was not tried.

    What failed for all is left alone for a while, and each item that waits comes back to see.
    """
    cause = error.__cause__
    if error.reason is None and cause is None:
        return None
    if error.reason is None and isinstance(cause, OSError) and cause.strerror:
        return f"later: {cause.strerror}"
    return "later" if error.reason is None else f"later: {error.reason}"
