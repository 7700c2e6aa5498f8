"""Daemons and clients as forked processes: started in milliseconds, killed at any time.

The daemon runs `kaplad`'s own `main`; only that Python starts anew is left out, and a share of them
is started that way too. The forking process has one thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import select
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NoReturn
from unittest.mock import patch

# Here, and not in each child.
import kapla.daemon  # noqa: F401 - `main` loads it when it is to serve
from kapla import __main__, store_settings
from kapla.storage.sqlite import engine
from kapla.storage.sqlite.database import SqliteSettings
from tests.torture.history import Fault
from tests.torture.shim import Plan, Shim, environment

__all__ = ["GUARD_S", "Child", "Daemon", "set_environment", "start_daemon"]

GUARD_S: Final = 60.0
"""Nothing that works comes near it."""

_PIPE_BYTES: Final = 1 << 20
_SET_PIPE_SIZE: Final = 1031  # F_SETPIPE_SZ


class Child:
    """A process that writes lines to us."""

    def __init__(self, run: Callable[[int], None]) -> None:
        reading, writing = os.pipe()
        with contextlib.suppress(OSError):
            fcntl.fcntl(writing, _SET_PIPE_SIZE, _PIPE_BYTES)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            _be_child(run, writing)
        os.close(writing)
        self.output = reading
        self.text = b""
        self.code: int | None = None
        """As the shell has it; None while it runs."""

    def read(self) -> bool:
        """Take what it has written; False at the end."""
        data = os.read(self.output, _PIPE_BYTES)
        self.text += data
        return bool(data)

    def read_until(self, wanted: bytes, seconds: float = GUARD_S) -> bool:
        """Wait until it has written this; False if it ends before, or the time is up."""
        end = time.monotonic() + seconds
        while wanted not in self.text:
            ready, _, _ = select.select([self.output], [], [], max(0.0, end - time.monotonic()))
            if not ready or not self.read():
                return wanted in self.text
        return True

    def signal(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for its end; what it wrote is read then.

        Raises: Fault, if it does not end.
        """
        if self.code is not None:
            return self.code
        end = time.monotonic() + GUARD_S
        while True:
            ready, _, _ = select.select([self.output], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self.kill()
                raise Fault(f"a process did not end: {self.text[-2000:].decode(errors='replace')}")
            if not self.read():
                break
        os.close(self.output)
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    def kill(self) -> int:
        """End it now, at the latest."""
        self.signal(signal.SIGKILL)
        return self.wait()


def _be_child(run: Callable[[int], None], writing: int) -> NoReturn:
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        os.dup2(writing, 2)
        run(writing)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        os.write(writing, f"Traceback: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


class Daemon(Child):
    """A `kaplad` on a store."""

    def wait_until_ready(self) -> bool:
        """Whether it serves; False if it ended."""
        return self.read_until(b"Listening on") or self._is_over()

    def _is_over(self) -> bool:
        self.wait()
        return False


def start_daemon(
    shim: Shim,
    store: Path,
    socket: Path,
    settings: Mapping[str, str],
    plan: Plan | None = None,
    library: Path | None = None,
) -> Daemon:
    """Start one; with a `library`, Python begins anew in it."""
    arguments = ["kaplad", "--store", str(store), "--listen", f"coap+unix://{socket}"]

    def run(_: int) -> None:
        set_environment(socket.parent, settings)
        if library is not None:
            os.environ.update(environment(library, store, plan or Plan()))
            os.execv(sys.executable, [sys.executable, "-m", "kapla", *arguments[1:]])
        shim.begin(store, plan)
        _serve(arguments)

    return Daemon(run)


def set_environment(home: Path, settings: Mapping[str, str]) -> None:
    """Let this process, which was forked to be a daemon, have these settings and no others."""
    for name in [name for name in os.environ if name.startswith(("KAPLA_", "XDG_", "ERIS_"))]:
        del os.environ[name]
    os.environ.update({"HOME": str(home), "XDG_RUNTIME_DIR": str(home), **settings})


def _serve(arguments: list[str]) -> None:
    """As `kaplad` does; but what takes many thousand blocks to happen happens after dozens."""
    configure = engine._configure

    def often(connection: sqlite3.Connection, settings: SqliteSettings) -> None:
        configure(connection, settings)
        connection.execute("PRAGMA wal_autocheckpoint = 50").fetchall()

    small = functools.partial(SqliteSettings, generation=64)
    sys.argv = arguments
    with (
        patch.object(store_settings, "SqliteSettings", small),
        patch.object(engine, "_configure", often),
    ):
        __main__.main()
