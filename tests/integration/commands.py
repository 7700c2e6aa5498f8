"""Running the installed `kapla` as a user would, and looking at all that it says."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eris import BlockSize, Encoder, Reference
from eris.model import NULL_CONVERGENCE_SECRET
from kapla.client import RemoteStore
from kapla.urls import parse_store_url
from tests.integration.daemon import GUARD_S, program
from tests.loaded import can_be_forked, run_forked

__all__ = ["Kapla", "StallingStore", "blocks_of", "blocks_there", "report", "stalling_store"]

_NOTICES = (
    "kapla: waiting for ",
    "kapla: lost the connection to ",
    "kapla: the blocks go to ",
    "kapla: left out, as they are kapla's own: ",
    "kapla: skipped ",
    "kapla: not pinned: ",
    "kapla: not lent: ",
    "kapla: not signed",
    "kapla: not encoded: ",
    "kapla: to fetch: ",
    "kapla: going on: ",
    "kapla: the archive is not whole: ",
    "kapla: not whole: ",
    "kapla: checking ",
    "kapla: the names of contents are not shown: ",
)

Done = subprocess.CompletedProcess[bytes]


@dataclass(frozen=True)
class Kapla:
    """The command line of somebody with a home of their own, and a store.

    Whatever a command does, it shows no traceback, repeats no URN in its errors, says one line when
    it fails, and nothing but its result when it does not.
    """

    home: Path
    url: str
    prefix: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    installed: bool = False
    """Whether each command is the program as a user runs it, and no fork of what has loaded it."""

    def environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("KAPLA_", "XDG_", "ERIS_")) and name != "NO_COLOR"
        }
        return {
            **kept,
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            **({"ERIS_STORE_URL": self.url} if self.url else {}),
            **self.env,
        }

    def command(self, *arguments: str | Path) -> list[str]:
        return [*self.prefix, program("kapla"), *map(str, arguments)]

    def __call__(
        self,
        *arguments: str | Path | bytes,
        code: int = 0,
        stdin: bytes = b"",
        cwd: Path | None = None,
        umask: int = 0o022,
    ) -> Done:
        """Run a command to its end, which must be with this exit code."""
        given = [os.fsdecode(argument) for argument in arguments]
        done = self._run(given, stdin, cwd or self.home, umask)
        assert done.returncode == code, (given, done)
        self.check_errors(done.stderr, code, [*given, stdin.decode("utf-8", "replace")])
        return done

    def _run(self, given: Sequence[str], stdin: bytes, cwd: Path, umask: int) -> Done:
        env, limit_s = self.environment(), 2 * GUARD_S
        if not (self.prefix or self.installed) and can_be_forked(env):
            return run_forked(
                "kapla", given, env=env, cwd=cwd, umask=umask, given=stdin, timeout=limit_s
            )
        return subprocess.run(
            self.command(*given),
            env=env,
            input=stdin,
            capture_output=True,
            cwd=cwd,
            umask=umask,
            check=False,
            timeout=limit_s,
        )

    def out(self, *arguments: str | Path, stdin: bytes = b"") -> str:
        """What a command that succeeds says, without the end of the line."""
        return self(*arguments, stdin=stdin).stdout.decode().rstrip("\n")

    def error(self, *arguments: str | Path | bytes, code: int, stdin: bytes = b"") -> str:
        """The one line that a command says when it fails, after its name."""
        done = self(*arguments, code=code, stdin=stdin)
        text = without_notices(done.stderr.decode())
        assert text.startswith("kapla: "), text
        return text.removeprefix("kapla: ").rstrip("\n")

    @contextmanager
    def running(
        self, *arguments: str | Path, stdin: int = subprocess.DEVNULL, cwd: Path | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A command under way; killed at the end if it is still there."""
        process = subprocess.Popen(
            self.command(*arguments),
            env=self.environment(),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd or self.home,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def interrupt(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """Send a signal to a command, which must end by it in an orderly way."""
        process.send_signal(number)
        assert process.wait(GUARD_S) == 130
        assert process.stderr is not None
        *before, last = process.stderr.read().splitlines()
        assert last == b"kapla: interrupted"
        # On a busy machine it may have said that it waits.
        assert all(line.startswith(b"kapla: waiting for ") for line in before)

    @staticmethod
    def check_errors(stderr: bytes, code: int, given: Sequence[str]) -> None:
        text = stderr.decode("utf-8", "replace")
        assert "Traceback" not in text, text
        text = without_notices(text)
        if code == 0:
            assert text == ""
        elif text and not text.startswith("Usage: "):
            assert text.count("\n") == 1, text
            assert text.endswith("\n")
            assert text[:-1].isprintable(), text
        for argument in given:
            _, found, letters = argument.strip().partition("urn:eris:")
            assert not found or len(letters) < 20 or letters not in text


def without_notices(text: str) -> str:
    """What a command says of its result: not whom it waits for, nor where blocks go."""
    return "".join(line for line in text.splitlines(True) if not line.startswith(_NOTICES))


def blocks_of(content: bytes, block_size: BlockSize) -> list[Reference]:
    """The references of a content's blocks, leaves first."""
    encoder = Encoder(block_size, NULL_CONVERGENCE_SECRET)
    blocks = [*encoder.feed(content), *encoder.finish()]
    return [reference for reference, _ in blocks]


def report(kapla: Kapla) -> dict[str, Any]:
    """What the daemon says of itself, without a program that asks it."""

    async def ask() -> dict[str, Any]:
        async with RemoteStore(parse_store_url(kapla.url)) as store:
            return await store.stat()

    return asyncio.run(ask())


def blocks_there(kapla: Kapla) -> int:
    """How many blocks the store has, by its report."""
    return sum(report(kapla)["blocks"].values())


class StallingStore:
    """Stands before a daemon and passes on its first answers; then it falls silent."""

    def __init__(self, path: Path, behind: Path, limit: int) -> None:
        self.url = f"coap+unix://{path}"
        self.stalled = threading.Event()
        self._behind = behind
        self._left = limit
        self._sockets: list[socket.socket] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in (self._listening, *self._sockets):
            one.close()

    def _accept(self) -> None:
        client, _ = self._listening.accept()
        daemon = socket.socket(socket.AF_UNIX)
        daemon.connect(str(self._behind))
        self._sockets += [client, daemon]
        threading.Thread(target=self._ask, args=(client, daemon), daemon=True).start()
        try:
            while self._left > 0 and (data := daemon.recv(min(self._left, 1 << 16))):
                client.sendall(data)
                self._left -= len(data)
        except OSError:
            pass
        self.stalled.set()

    @staticmethod
    def _ask(client: socket.socket, daemon: socket.socket) -> None:
        try:
            while data := client.recv(1 << 16):
                daemon.sendall(data)
        except OSError:
            pass


@contextmanager
def stalling_store(path: Path, behind: Path, limit: int) -> Iterator[StallingStore]:
    """A store that answers with this many bytes and no more."""
    store = StallingStore(path, behind, limit)
    try:
        yield store
    finally:
        store.close()
