"""`kaplad --check` over a database, which others may use meanwhile: all blocks are read and hashed.

What a server keeps is seen through the port, like any store. Its own pages are its own matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from eris.errors import ErisError
from kapla.amounts import blocks_text
from kapla.errors import StorageError
from kapla.storage.opening import open_backend
from kapla.storage.port import BEFORE_ALL, Backend, StoreSettings

__all__ = ["DatabaseReport", "check_database"]

_AT_ONCE = 4 * 2**20


@dataclass(slots=True)
class DatabaseReport:
    """What was found. `told`: blocks as the totals have them, before and after the look."""

    blocks: int = 0
    bad: int = 0
    told: list[int] = field(default_factory=list)

    @property
    def is_steady(self) -> bool:
        """Whether nothing came or went meanwhile, as far as the totals tell."""
        return len(set(self.told)) == 1

    @property
    def findings(self) -> list[str]:
        """What is wrong, a sentence each."""
        found = []
        if self.bad:
            found.append(
                f"not what their references say: {blocks_text(self.bad)}; kapla scrub has them"
                " dropped"
            )
        if self.is_steady and self.told[0] != self.blocks:
            found.append(f"the totals tell of {blocks_text(self.told[0])}, and there are others")
        return found

    @property
    def remarks(self) -> list[str]:
        """What keeps the look from being a whole one."""
        if self.is_steady:
            return []
        return ["blocks came or went meanwhile: the totals were not compared with them"]


def check_database(settings: StoreSettings, say: Callable[[str], None]) -> bool:
    """Look at all that a database has, and change nothing; returns whether it is sound.

    Raises: StorageError, if it cannot be opened or read.
    """
    report = DatabaseReport()
    report.told.append(_told(settings))
    _look(settings, report)
    # Of a store that is opened anew: what one knows that is open may be some seconds old.
    report.told.append(_told(settings))
    for line in (*report.findings, *report.remarks):
        say(line)
    verdict = "damaged" if report.findings else "sound"
    say(f"{blocks_text(report.blocks)} in {settings}: the store is {verdict}")
    return not report.findings


@contextmanager
def _opened(settings: StoreSettings) -> Iterator[Backend]:
    """Raises: StorageError, also for what goes wrong in here."""
    backend = open_backend(settings)
    try:
        yield backend
    except ErisError as error:
        raise StorageError(str(error)) from error
    except backend.failures as error:
        raise StorageError(f"the store failed: {type(error).__name__}") from error
    finally:
        backend.close()


def _look(settings: StoreSettings, report: DatabaseReport) -> None:
    with _opened(settings) as backend, closing(backend.looker()) as looker:
        after: int | None = BEFORE_ALL
        while after is not None:
            seen = looker.look(after, _AT_ONCE)
            report.blocks += seen.blocks
            report.bad += len(seen.suspects)
            after = seen.last


def _told(settings: StoreSettings) -> int:
    with _opened(settings) as backend:
        return sum(backend.totals().values())
