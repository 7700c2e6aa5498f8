"""In which order the files of tests are read, and run, by several processes.

Each process reads all files, and the first that reads a file compiles it for all. So each begins at
another place: otherwise all would compile the same file at the same time.

Whoever is last works alone. So the files that take longest are run first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["LONGEST", "begin_at", "files_of", "rank"]

LONGEST: Final = (
    "integration/test_commands.py",
    "integration/test_daemon.py",
    "integration/test_crash.py",
    "integration/test_http_door.py",
    "integration/test_disk_full.py",
    "integration/test_conformance.py",
    "integration/test_care.py",
    "integration/test_eviction.py",
    "integration/test_attacks.py",
    "integration/test_file_store.py",
)
"""Files below `tests/` that take longest, beginning with the longest."""

_RANKS: Final = {f"tests/{name}": place for place, name in enumerate(LONGEST)}


def files_of(directory: Path) -> list[Path]:
    """All files of tests below a directory, in the order of their paths."""
    return sorted(directory.rglob("test_*.py"))


def begin_at(files: Sequence[Path], worker: int, workers: int) -> list[Path]:
    """The same files for each of several workers, from a place of its own on."""
    start = len(files) * worker // workers
    return [*files[start:], *files[:start]]


def rank(path: str) -> tuple[int, str]:
    """What a file is sorted by: the longest first, then by path, which begins with `tests/`."""
    return _RANKS.get(path, len(_RANKS)), path
