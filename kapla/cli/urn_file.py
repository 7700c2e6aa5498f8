"""Where `kapla encode` writes the URN: to standard output, or to a file, at once or not at all.

The file is for its owner alone. It takes the place of a plain file, and of nothing else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from kapla.cli.common import CommandError, ExitCode, run, standard_output
from kapla.cli.target import Target

__all__ = ["urn_output"]


def urn_output(out: str | None) -> Callable[[str], None]:
    """What writes a URN to the file OUT; to standard output, if that is None or `-`.

    Raises: CommandError, if it cannot be written there. So does what is returned, and OSError.
    """
    if out is None or out == "-":
        output = standard_output()

        def write(urn: str) -> None:
            output.write(urn.encode() + b"\n")
            output.flush()

        return write
    _check_replaceable(out)
    target = Target(out, force=True)
    target.check_for_a_file()
    if not os.access(os.path.dirname(os.path.abspath(out)), os.W_OK | os.X_OK):
        raise CommandError(f"{out}: nothing can be written to its directory", ExitCode.FILE)
    return lambda urn: run(_write(target, urn))


def _check_replaceable(out: str) -> None:
    """A symlink may be /dev/stdout: it is not replaced, nor what it leads to."""
    if os.path.lexists(out) and not stat.S_ISREG(os.lstat(out).st_mode):
        raise CommandError(f"{out} is there, and is no plain file: not replaced", ExitCode.FILE)


async def _write(target: Target, urn: str) -> None:
    async with target.prepare() as temporary:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o600), "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(urn.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
