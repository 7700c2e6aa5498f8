"""Whether our own files are ours, and secrets are secret. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from kapla.cli.doctor.facts import Facts, FileFacts
from kapla.cli.doctor.finding import Finding, trouble

__all__ = ["CHECKS"]

_OTHERS: Final = 0o077
_OTHERS_WRITE: Final = 0o022


def owners(facts: Facts) -> Iterator[Finding]:
    """Whether what we use belongs to us."""
    for file in facts.files:
        if file.error is not None:
            yield trouble(file.what, f"{file.path} cannot be used: {file.error}", "ls -ld of it")
        elif not file.is_ours:
            yield trouble(
                file.what,
                f"{file.path} belongs to {file.owner}, as after a command with sudo",
                f"sudo chown -R {facts.user} {file.path}",
            )


def modes(facts: Facts) -> Iterator[Finding]:
    """Whether others can read secrets, or write what we trust."""
    for file in facts.files:
        open_to = _OTHERS if file.is_secret else _OTHERS_WRITE
        if file.error is None and file.is_ours and file.mode & open_to:
            what = "read" if file.is_secret else "write"
            yield trouble(
                file.what,
                f"others may {what} {file.path} (mode {file.mode:04o})",
                f"chmod {_right(file)} {file.path}",
            )


def _right(file: FileFacts) -> str:
    return "700" if file.is_directory else "600"


def catalogue(facts: Facts) -> Iterator[Finding]:
    """Whether the catalogue can be read."""
    if facts.catalogue_error is not None:
        yield trouble(
            "catalogue",
            facts.catalogue_error,
            "mend that; or move the file away: the next encode begins a new one",
        )


CHECKS: Final[tuple[Callable[[Facts], Iterator[Finding]], ...]] = (owners, modes, catalogue)
