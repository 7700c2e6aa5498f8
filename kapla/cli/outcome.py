"""How a command ends: exit codes, and the errors that name one."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CommandError", "ExitCode", "Interrupted"]


class ExitCode(IntEnum):
    """How a command ends, 0 being success; `kapla.cli.main` has a sentence for each."""

    FAILED = 1
    USAGE = 2
    STORE = 3
    MISSING = 4
    DAMAGED = 5
    REFUSED = 6
    FILE = 7
    NOT_CONFORMING = 8
    INCOMPLETE = 9
    INTERRUPTED = 130


class CommandError(Exception):
    """A command cannot do what it was asked: one line, and its exit code."""

    def __init__(self, message: str, exit_code: int = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Interrupted(BaseException):
    """A signal ended the command after it had cleaned up."""

    def __str__(self) -> str:
        return "interrupted"
