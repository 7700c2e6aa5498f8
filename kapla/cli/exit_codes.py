"""Exit codes: what each means, and which errors lead to it. The one table of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from eris.errors import (
    BlockNotFound,
    ContentError,
    InvalidBundle,
    InvalidCapability,
    InvalidLink,
    StoreRefused,
    StoreUnavailable,
)
from eris_fs.errors import TreeError
from kapla.cli.outcome import ExitCode, Interrupted
from kapla.errors import ConfigError

__all__ = ["EXIT_CODES", "all_meanings", "exit_code", "meanings"]

EXIT_CODES: Final[tuple[tuple[int, str, tuple[type[BaseException], ...]], ...]] = (
    (
        ExitCode.USAGE,
        "wrong usage: an option, a URN or a store URL",
        (InvalidCapability, ConfigError),
    ),
    (ExitCode.STORE, "the store cannot be reached or cannot work now", (StoreUnavailable,)),
    (ExitCode.MISSING, "a block is missing", (BlockNotFound,)),
    (
        ExitCode.DAMAGED,
        "blocks or content are damaged, or not what they should be",
        (ContentError, InvalidBundle, InvalidLink),
    ),
    (ExitCode.REFUSED, "the store refuses: read-only, or at its size limit", (StoreRefused,)),
    (
        ExitCode.FILE,
        "a file cannot be read, written or expressed, or is in the way",
        (OSError, TreeError),
    ),
    (ExitCode.NOT_CONFORMING, "a store does not do what it must: kapla conformance", ()),
    (ExitCode.INCOMPLETE, "done, but without what could not be read: --skip-unreadable", ()),
    (ExitCode.INTERRUPTED, "interrupted", (Interrupted, KeyboardInterrupt)),
)
"""Exit codes, what they mean, and the errors behind them. 0 is success, 1 any other failure."""

# Whatever a command does, its options, its output and its user may make it end so.
_OF_ALL: Final = frozenset(
    {0, ExitCode.FAILED, ExitCode.USAGE, ExitCode.FILE, ExitCode.INTERRUPTED}
)


def exit_code(error: BaseException) -> int:
    """The exit code for an error: of a class that names one, as other packages' may, that."""
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        return code
    for code, _, kinds in EXIT_CODES:
        if isinstance(error, kinds):
            return code
    return ExitCode.FAILED


def all_meanings() -> list[tuple[int, str]]:
    """Every code, and what it means."""
    known = ((int(code), text) for code, text, _ in EXIT_CODES)
    return [(0, "success"), (int(ExitCode.FAILED), "another failure"), *known]


def meanings(others: Iterable[int]) -> list[tuple[int, str]]:
    """The codes of a command: those that every command can give, and these others."""
    given = _OF_ALL.union(others)
    return [(code, text) for code, text in all_meanings() if code in given]
