"""A real PostgreSQL server to test with: one for all tests of a process, a database for each.

It is begun when the first test wants it, listens on a Unix socket in a directory of its own, and
ends with the process that began it, however that ends. It does not wait for disks. Where PostgreSQL
is not installed, the tests that want it are skipped.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

__all__ = ["Server", "empty_server", "postgres_server", "postgres_url", "the_server"]

_USER: Final = "postgres"
_WAIT_S: Final = 120.0
_SETTINGS: Final = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    # Some tests want the log empty of this.
    "log_checkpoints": "off",
}
# Whoever holds the other end of its standard input is gone: the server goes too.
_WATCH: Final = """
trap '' INT TERM HUP
cat > /dev/null
kill -QUIT $(head -n 1 "$1/data/postmaster.pid") 2> /dev/null
while kill -0 $(head -n 1 "$1/data/postmaster.pid" 2> /dev/null) 2> /dev/null; do sleep 0.1; done
rm -rf "$1"
"""


def _programs() -> Path | None:
    """Where the server's programs are. Debian has them beside the path, by version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version_of)
    initdb = found[-1] if found else shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


def _version_of(program: Path) -> int:
    name = program.parts[-3]
    return int(name) if name.isdigit() else 0


class Server:
    """A server that runs until the tests end, or until it is killed."""

    def __init__(self, settings: Mapping[str, str] = _SETTINGS) -> None:
        programs = _programs()
        if programs is None:
            pytest.skip("PostgreSQL is not installed: there is no initdb")
        self.programs = programs
        """Where its programs are."""
        self._settings = settings
        self._as: dict[str, Any] = {}
        self.directory = Path(tempfile.mkdtemp(prefix="kapla-pg-"))
        """Where its socket is."""
        if os.getuid() == 0:
            self._use_user()
        self._data = self.directory / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._watcher = subprocess.Popen(
            ["sh", "-c", _WATCH, "watch", str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        atexit.register(self.stop)
        self._run(
            "initdb",
            "-D",
            str(self._data),
            "-U",
            _USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        )
        self.start()

    def _use_user(self) -> None:
        """The server refuses to be root."""
        try:
            user = pwd.getpwnam(_USER)
        except KeyError:
            pytest.skip("there is no user postgres, and root cannot run PostgreSQL")
        self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(self.directory, user.pw_uid, user.pw_gid)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self.programs / program, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.directory,
            **self._as,
        )

    @property
    def pid(self) -> int:
        """Of its first process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        psycopg = pytest.importorskip("psycopg")
        assert self._process is None
        settings = [f"-c{name}={value}" for name, value in self._settings.items()]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.programs / "postgres", "-D", self._data, "-k", self.directory, *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
                **self._as,
            )
        end = time.monotonic() + _WAIT_S
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, self.log()
                assert time.monotonic() < end, self.log()
            time.sleep(0.02)

    def kill(self) -> None:
        """End all of its processes at once, as when the machine loses its power."""
        assert self._process is not None
        pids = [self.pid, *_children(self.pid)]
        for pid in pids:
            _kill(pid)
        self._process.wait()
        end = time.monotonic() + _WAIT_S
        while any(_is_running(pid) for pid in pids):
            assert time.monotonic() < end, "a process of the server does not end"
            time.sleep(0.01)
        self._process = None
        # Who collects dead children where there is no init may be long about it.
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """End it, and remove all that it has. Twice is nothing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None
        assert self._watcher.stdin is not None
        self._watcher.stdin.close()
        self._watcher.wait()

    def url(self, database: str, user: str = _USER) -> str:
        """Where a database is."""
        return f"postgresql://{user}@/{database}?host={self.directory}"

    def make_database(self, template: str = "template1") -> str:
        """Make a database; returns its URL."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Have it do something, as its superuser, in a database or at a URL; returns the rows."""
        psycopg = pytest.importorskip("psycopg")
        url = database if "://" in database else self.url(database)
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def log(self) -> str:
        """What it said."""
        return (self.directory / "log").read_text(errors="replace")


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _is_running(pid: int) -> bool:
    """Whether it is there, and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


_servers: list[Server] = []


def the_server() -> Server:
    """The server of this process; made when it is first wanted. Skips the test without one."""
    if not _servers:
        _servers.append(Server())
    return _servers[0]


@pytest.fixture
def postgres_server() -> Server:
    """The server that all tests share; whoever kills it starts it again."""
    return the_server()


@pytest.fixture
def postgres_url(postgres_server: Server) -> Iterator[str]:
    """A new, empty database: its URL."""
    url = postgres_server.make_database()
    yield url
    name = url.partition("@/")[2].partition("?")[0]
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_server() -> Iterator[Server]:
    """A server of one's own."""
    server = Server()
    yield server
    server.stop()
