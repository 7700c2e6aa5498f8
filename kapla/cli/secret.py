"""The file of a convergence secret."""

from __future__ import annotations

from eris.model import ConvergenceSecret
from kapla.cli.outcome import CommandError, ExitCode

__all__ = ["read_secret"]


def read_secret(name: str) -> ConvergenceSecret:
    """Read it. Raises: CommandError, OSError."""
    with open(name, "rb") as file:
        data = file.read(33)
    if len(data) != 32:
        found = "more" if len(data) > 32 else str(len(data))
        raise CommandError(
            f"{name}: a convergence secret is 32 bytes, the file holds {found}", ExitCode.USAGE
        )
    return ConvergenceSecret(data)
