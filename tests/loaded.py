"""Programs of this project, forked from a process that has loaded them.

The tests start `kapla` and `kaplad` a thousand times, and most of what each start takes is spent on
loading modules. Here one process for each that runs tests has loaded them once: a program is a fork
of it, with an environment, a directory and standard streams of its own, and runs the same `main`
to its own end. What is about the start itself runs the installed program: see `can_be_forked`.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final, NoReturn

__all__ = ["Forked", "can_be_forked", "run_forked"]

_MAINS: Final = {"kapla": ("kapla.cli.main", "main"), "kaplad": ("kapla.starting", "main")}
_LOADED: Final = (
    "aiocoap",
    "kapla.__main__",
    "kapla.cli.main",
    "kapla.client",
    "kapla.daemon",
    "kapla.catalogue",
    "kapla.cli.cat",
    "kapla.cli.decode",
    "kapla.cli.encode",
    "kapla.cli.info",
    "kapla.cli.ls",
    "kapla.cli.pin",
    "kapla.cli.stat",
    "kapla.cli.verify",
    "guix_glue.cli.proxy",
    "guix_glue.cli.proxying",
    "guix_glue.cli.publish",
    "guix_glue.cli.proxy",
    "guix_glue.cli.publisher",
    "guix_glue.cli.substitute",
    "guix_glue.cli.stores",
    "guix_glue.fetch.fetcher",
    "guix_glue.fetch.lookup",
    "guix_glue.fetch.narinfo_cache",
    "guix_glue.fetch.query",
    "guix_glue.fetch.session",
    "guix_glue.fetch.substitution",
    "guix_glue.servers.proxies",
)
# Read by Python, or by libraries, while they are loaded: too late for a fork.
_AT_LOADING: Final = ("PYTHON", "LANG", "LC_", "LD_", "MALLOC_")
_LARGEST: Final = 1 << 20
_MOST: Final = 16
_ABOVE: Final = 200
_END_S: Final = 60.0
_CLONE_NEWNET: Final = 0x40000000


class Forked:
    """A program under way, with the methods of `subprocess.Popen` that tests use."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        descriptors: Mapping[int, int],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        umask: int = 0o022,
        network: Path | None = None,
    ) -> None:
        """`descriptors`: what the program has open, by its number there; it leads nowhere else.

        `network`: a file that stands for the network namespace in which it runs.
        """
        self.args = [name, *arguments]
        self.returncode: int | None = None
        self.stderr: IO[bytes] | None = None
        self._ended, ends = os.pipe()
        nowhere = os.open(os.devnull, os.O_RDWR)
        try:
            given = {0: nowhere, 1: nowhere, 2: nowhere, **descriptors}
            where = os.fspath(cwd or Path.cwd()), umask, None if network is None else str(network)
            what = [name, list(arguments), dict(env), *where, [*given]]
            self.pid = _forking().fork(json.dumps(what).encode(), [ends, *given.values()])
        finally:
            os.close(nowhere)
            os.close(ends)

    @classmethod
    def with_errors(
        cls,
        name: str,
        arguments: Sequence[str],
        env: Mapping[str, str],
        cwd: Path | None = None,
        *,
        network: Path | None = None,
    ) -> Forked:
        """One whose standard error can be read from `stderr`."""
        reading, writing = os.pipe()
        try:
            process = cls(name, arguments, {2: writing}, env=env, cwd=cwd, network=network)
        finally:
            os.close(writing)
        process.stderr = open(reading, "rb")  # noqa: SIM115 - closed by who reads
        return process

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit code, or minus the signal that ended it.

        Raises: subprocess.TimeoutExpired.
        """
        code = self._look(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        if self.poll() is None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                # It has ended a moment ago.
                return

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def _look(self, seconds: float | None) -> int | None:
        if self.returncode is None:
            waiting = select.poll()
            waiting.register(self._ended, select.POLLIN)
            if waiting.poll(None if seconds is None else seconds * 1000):
                told = os.read(self._ended, 16)
                os.close(self._ended)
                # Nothing, if the process that forked it has gone: then so has all of it.
                self.returncode = int(told) if told else -signal.SIGKILL
        return self.returncode


def can_be_forked(env: Mapping[str, str]) -> bool:
    """Whether nothing in an environment would have been read at the start of the program."""
    told = (name for name in env if name.startswith(_AT_LOADING))
    return all(env[name] == os.environ.get(name) for name in told)


def run_forked(
    name: str,
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    umask: int,
    given: bytes,
    timeout: float,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end, and read all that it says: as `subprocess.run`."""
    pipes = [os.pipe() for _ in range(3)]
    (input_end, giving), (output, output_end), (errors, errors_end) = pipes
    theirs = {0: input_end, 1: output_end, 2: errors_end}
    try:
        process = Forked(name, arguments, theirs, env=env, cwd=cwd, umask=umask)
    finally:
        for one in theirs.values():
            os.close(one)
    with ThreadPoolExecutor(3) as threads:
        guard = threading.Timer(timeout, process.kill)
        guard.start()
        said = [threads.submit(_read_all, one) for one in (output, errors)]
        threads.submit(_write_all, giving, given).result()
        found = [one.result() for one in said]
    code = process.wait(_END_S)
    guard.cancel()
    return subprocess.CompletedProcess(process.args, code, *found)


def _read_all(descriptor: int) -> bytes:
    with open(descriptor, "rb") as stream:
        return stream.read()


def _write_all(descriptor: int, data: bytes) -> None:
    # It may need no more of it.
    with contextlib.suppress(BrokenPipeError), open(descriptor, "wb", buffering=0) as stream:
        rest = memoryview(data)
        while rest:
            rest = rest[stream.write(rest) :]


class _Forking:
    """The process that has loaded the programs, seen from the one that runs tests."""

    def __init__(self) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = f"from tests import loaded; loaded._serve({other.fileno()})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[other.fileno()],
            cwd=Path(__file__).parent.parent,
        )
        other.close()
        self._lock = threading.Lock()

    def fork(self, what: bytes, descriptors: Sequence[int]) -> int:
        """Have a program begun; its process id."""
        with self._lock:
            socket.send_fds(self._socket, [what], descriptors)
            told = self._socket.recv(16)
        assert told, "the process that forks programs has ended"
        return int(told)


_made: list[_Forking] = []
_making = threading.Lock()


def _forking() -> _Forking:
    with _making:
        if not _made:
            _made.append(_Forking())
        return _made[0]


def _serve(control: int) -> None:
    """Fork what is asked for, until whoever asks has gone. In each fork this ends it."""
    for module in _LOADED:
        importlib.import_module(module)
    gc.freeze()
    asking = socket.socket(fileno=control)
    waiting = select.poll()
    waiting.register(control, select.POLLIN)
    running: dict[int, tuple[int, int]] = {}
    while True:
        for ready, _ in waiting.poll():
            if ready != control:
                waiting.unregister(ready)
                _tell_end(ready, *running.pop(ready))
                continue
            what, descriptors, _, _ = socket.recv_fds(asking, _LARGEST, _MOST)
            if not what:
                return
            pid = os.fork()
            if pid == 0:
                _be(json.loads(what), descriptors)
            asking.send(str(pid).encode())
            watched = os.pidfd_open(pid)
            running[watched] = pid, descriptors[0]
            waiting.register(watched, select.POLLIN)
            for one in descriptors[1:]:
                os.close(one)


def _tell_end(watched: int, pid: int, ended: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    # Nobody may wait for it any more.
    with contextlib.suppress(BrokenPipeError):
        os.write(ended, str(code).encode())
    os.close(ended)
    os.close(watched)


def _be(what: list[object], descriptors: Sequence[int]) -> NoReturn:
    """Become the program."""
    name, arguments, env, cwd, umask, network, numbers = what
    assert isinstance(name, str) and isinstance(arguments, list) and isinstance(env, dict)
    assert isinstance(cwd, str) and isinstance(umask, int) and isinstance(numbers, list)
    if network is not None:
        assert isinstance(network, str)
        _enter_network(network)
    # Out of the way first: one may have the place of another.
    kept = [fcntl.fcntl(one, fcntl.F_DUPFD, _ABOVE) for one in descriptors[1:]]
    for number, one in zip(numbers, kept, strict=True):
        os.dup2(one, number)
    _close_but(numbers)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    os.umask(umask)
    sys.argv = [str(Path(sys.executable).parent / name), *arguments]
    module, main = _MAINS[name]
    sys.exit(getattr(importlib.import_module(module), main)())


def _enter_network(path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path) as network:
        if libc.setns(network.fileno(), _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _close_but(numbers: Sequence[int]) -> None:
    for one in map(int, os.listdir("/proc/self/fd")):
        if one not in numbers:
            with contextlib.suppress(OSError):
                os.close(one)
