"""Somebody at a terminal of each of several machines, which are hosts of a network.

A shell goes on from one command to the next, as for whoever follows a page: variables stay, and so
do programs that run in the background.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.integration.walkthrough import PROGRAMS

__all__ = ["Shell"]

_GUARD_S: Final = 60.0


class Shell:
    """A shell of a user of its own; `within`: what runs a command on its machine."""

    def __init__(self, home: Path, within: list[str]) -> None:
        self.home = home
        self.said = ""
        """Everything that was said so far, complaints too."""
        home.mkdir(parents=True)
        (home / "run").mkdir(mode=0o700)
        environment = {
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home / "run"),
            **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
        }
        self._process = subprocess.Popen(
            [*within, "bash", "--norc"],
            cwd=home,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._kill()
        self._process.communicate()

    def run(self, commands: str) -> str:
        """Run commands; returns what was said meanwhile.

        Raises: AssertionError with everything said so far, if they do not end.
        """
        assert self._process.stdin is not None
        mark = secrets.token_hex(8)
        self._process.stdin.write(f"{commands}\necho {mark}\n")
        self._process.stdin.flush()
        guard = threading.Timer(_GUARD_S, self._kill)
        guard.start()
        try:
            return self._read_to(mark)
        finally:
            guard.cancel()

    def _read_to(self, mark: str) -> str:
        assert self._process.stdout is not None
        said = ""
        for line in self._process.stdout:
            # What runs in the background may say something in the middle of a line.
            if mark in line:
                return said + line.replace(mark, "").rstrip("\n")
            said += line
            self.said += line
        raise AssertionError(f"the commands did not end; all that was said:\n{self.said}")

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
