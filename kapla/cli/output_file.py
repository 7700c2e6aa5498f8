"""A file that a command makes, or standard output: whole or not at all, and private if need be."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO, Final

from kapla.cli.outcome import CommandError, ExitCode
from kapla.cli.streams import standard_output
from kapla.cli.target import Target

__all__ = ["OutputFile"]

# Written at once: few enough system calls, little enough memory.
_BUFFER: Final = 1024 * 1024


class OutputFile:
    """FILE or -, checked before the work.

    Raises: CommandError, if something is there and may not be replaced.
    """

    def __init__(self, name: str, *, force: bool) -> None:
        self.is_stream = name == "-"
        self._target: Target | None = None
        if self.is_stream:
            standard_output()
            return
        if os.path.isdir(name) and not os.path.islink(name):
            # Whether replacing is allowed or not.
            raise CommandError(f"{name} is a directory: not replaced by a file", ExitCode.FILE)
        self._target = Target(name, force=force)
        self._target.check_for_a_file()

    @asynccontextmanager
    async def open(self, *, private: bool) -> AsyncIterator[BinaryIO]:
        """Give the file to write to; it appears under its name at the end, if nothing failed.

        `private`: for its owner only, since there are secrets in it.
        """
        if self._target is None:
            output = standard_output()
            yield output
            output.flush()
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        async with self._target.prepare() as path:
            descriptor = os.open(path, flags, 0o600 if private else 0o666)
            with os.fdopen(descriptor, "wb", buffering=_BUFFER) as file:
                yield file
