"""Items into the store of Nix, by `nix-store --import`, which is given an archive as it comes.

Nix compares no signature of what it is given by somebody whom it trusts, and has only read an item
whole when it has read the beginning of the next. So where an item has to be taken back, the archive
ends there: Nix keeps what it had, complains of the rest, and another is begun.
"""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from eris.threads import settle
from guix_glue.errors import DaemonError
from guix_glue.formats.export import ARCHIVE_END, ITEM_BEGIN
from guix_glue.model import StoreItem

__all__ = ["NixImport", "valid_nix_items"]

_SILENCE_S: Final = 600.0
"""How long Nix may take nothing: it hashes and registers what it has read, and waits for locks."""
_ENDING_S: Final = 10.0
_QUESTION: Final = 500
"""Paths in one command, which has room for far more."""
_LONGEST_COMPLAINT: Final = 2000


async def valid_nix_items(program: str, store_dir: str, names: Sequence[str]) -> set[str]:
    """Those of these base names that are valid. Raises: DaemonError."""
    invalid: set[str] = set()
    for start in range(0, len(names), _QUESTION):
        paths = [f"{store_dir}/{name}" for name in names[start : start + _QUESTION]]
        asked = await _start(program, "--check-validity", "--print-invalid", *paths, stdin=DEVNULL)
        try:
            async with asyncio.timeout(_SILENCE_S):
                output, complaint = await asked.communicate()
        except TimeoutError:
            raise DaemonError(f"{program} says nothing for {_SILENCE_S:.0f} s") from None
        finally:
            await _end(asked)
        if asked.returncode:
            raise DaemonError(f"{program} fails: {_shown(complaint)}", asked.returncode)
        invalid.update(os.fsdecode(output).split())
    return {name for name in names if f"{store_dir}/{name}" not in invalid}


class NixImport:
    """An `ItemSink` that has Nix import the items; `program` is its `nix-store`. `close` it."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._process: Process | None = None
        self._listening: asyncio.Task[bytes] | None = None

    async def begin(self, item: StoreItem) -> None:
        """See `ItemSink`."""
        if self._process is None:
            self._process = await _start(self._program, "--import", stdin=PIPE)
            self._listening = asyncio.create_task(_listen(self._process))
        await self.write(ITEM_BEGIN)

    async def write(self, piece: bytes) -> None:
        """See `ItemSink`. Raises: DaemonError."""
        assert self._process is not None and self._process.stdin is not None
        try:
            async with asyncio.timeout(_SILENCE_S):
                self._process.stdin.write(piece)
                await self._process.stdin.drain()
        except TimeoutError:
            raise DaemonError(f"{self._program} takes nothing for {_SILENCE_S:.0f} s") from None
        except OSError:
            raise await self._failure() from None

    async def complete(self, end: bytes) -> None:
        """See `ItemSink`. Raises: DaemonError."""
        await self.write(end)

    async def take_back(self) -> None:
        """See `ItemSink`: what came before it is imported, and it is not."""
        if self._process is not None:
            await self._wait()
        await self.close()

    async def finish(self) -> None:
        """All items are there. Raises: DaemonError, if Nix says otherwise."""
        if self._process is None:
            return
        await self.write(ARCHIVE_END)
        if await self._wait():
            raise await self._failure()
        await self.close()

    async def close(self) -> None:
        """End what is under way."""
        process, self._process = self._process, None
        if process is not None:
            await _end(process)
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            await settle(listening)

    async def _wait(self) -> int:
        """Say that there is no more, and wait for the end."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_SILENCE_S):
                return await self._process.wait()
        except TimeoutError:
            raise DaemonError(f"{self._program} does not end for {_SILENCE_S:.0f} s") from None

    async def _failure(self) -> DaemonError:
        """What Nix says of its end."""
        assert self._process is not None and self._listening is not None
        complaint = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ENDING_S):
                await self._process.wait()
                complaint = await asyncio.shield(self._listening)
        return DaemonError(f"{self._program} fails: {_shown(complaint)}", self._process.returncode)


async def _start(program: str, *arguments: str, stdin: int) -> Process:
    # The names of what was imported are told by whoever asked for it.
    output = PIPE if stdin == DEVNULL else DEVNULL
    try:
        return await asyncio.create_subprocess_exec(
            program, *arguments, stdin=stdin, stdout=output, stderr=PIPE
        )
    except OSError as error:
        raise DaemonError(f"cannot run {program}: {error.strerror}") from error


async def _listen(process: Process) -> bytes:
    """Read what a program complains of; the end of it is kept."""
    assert process.stderr is not None
    kept = b""
    while data := await process.stderr.read(_LONGEST_COMPLAINT):
        kept = (kept + data)[-_LONGEST_COMPLAINT:]
    return kept


async def _end(process: Process) -> None:
    """See that a program has ended."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_ENDING_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _shown(complaint: bytes) -> str:
    """The last thing that a program said, in a line."""
    lines = [line.strip() for line in complaint.decode("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line), "it does not say why")
