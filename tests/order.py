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
    "guix_glue/fetch/test_program.py",
    "torture/test_torture.py",
    "integration/test_daemon.py",
    "integration/test_peers.py",
    "contract/test_contract.py",
    "guix_glue/fetch/test_transcripts.py",
    "integration/test_lan.py",
    "integration/test_crash.py",
    "integration/test_disk_full.py",
    "integration/test_substitutes.py",
    "guix_glue/publish/test_eris.py",
    "integration/test_care.py",
    "integration/test_http_door.py",
    "integration/test_three_front_ends.py",
    "integration/test_reconnect.py",
    "guix_glue/publish/test_mirror.py",
    "integration/test_http_stores.py",
    "integration/test_interruption.py",
    "guix_glue/publish/test_mirror_limits.py",
    "integration/test_tls.py",
    "guix_glue/formats/test_compression.py",
    "integration/test_conformance.py",
    "integration/test_streams.py",
    "integration/test_peers_links.py",
    "integration/test_resume.py",
    "guix_glue/publish/test_cache_outages.py",
    "guix_glue/publish/test_keep_nars.py",
    "integration/test_lending_walkthrough.py",
    "integration/test_eviction.py",
    "integration/test_file_store.py",
    "integration/test_wire.py",
    "integration/test_pin_commands.py",
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
