"""`kaplad --check` and `kaplad --salvage`: what is said of a store that nobody uses meanwhile.

A database is for many, and is looked at while they use it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kapla.config import Config
from kapla.database_url import DatabaseUrl
from kapla.errors import ConfigError
from kapla.storage.pins import SALVAGED
from kapla.storage.sqlite.care.check import Report, check
from kapla.storage.sqlite.care.salvage import Salvaged, salvage
from kapla.storage.sqlite.lock import locked
from kapla.store_place import StorePlace
from kapla.store_settings import plain_settings

__all__ = ["check_store", "salvage_store"]

Say = Callable[[str], None]


def check_store(config: Config, say: Say) -> bool:
    """Look at a whole store; returns whether it is sound.

    Raises: StorageError, if it is no store, cannot be read at all, or is a file in use.
    """
    if isinstance(config.store, DatabaseUrl):
        # Loaded by those who have one.
        from kapla.database_care import check_database

        return check_database(plain_settings(config.store, may_make=False), say)
    return _check_file(config.store, say)


def _check_file(path: Path, say: Say) -> bool:
    with locked(path):
        report = check(path)
    for line in (*report.findings, *report.remarks):
        say(line)
    say(f"{_counted(sum(report.blocks.values()), 'block')}: {_verdict(report)}")
    return report.is_sound


def _verdict(report: Report) -> str:
    return "the store is sound" if report.is_sound else "the store is damaged"


def salvage_store(damaged: StorePlace, new: Path, say: Say) -> None:
    """Save what is sound of a store into a new one.

    Raises: StorageError; then there is no new one. ConfigError, for a database.
    """
    if isinstance(damaged, DatabaseUrl):
        raise ConfigError(
            "--salvage is of a file: what can be read of a database pg_dump saves, and"
            " kapla store migrate copies every block that is sound into a new store"
        )
    with locked(damaged):
        result = salvage(damaged, new)
    if not result.are_pins_whole:
        say(f"the pins could not all be read: everything is kept by the pin {SALVAGED}")
    say(
        f"{_counted(result.blocks, 'block')} and {_counted(result.pins, 'pin')} saved,"
        f" {_lost(result)}"
    )


def _lost(result: Salvaged) -> str:
    lost = f"{result.lost:,} lost"
    if result.lost_pinned:
        lost += f" ({result.lost_pinned:,} of them pinned)"
    return f"{lost}; {_counted(result.bad_pages, 'page')} unreadable"


def _counted(count: int, name: str) -> str:
    return f"{count:,} {name}" if count == 1 else f"{count:,} {name}s"
