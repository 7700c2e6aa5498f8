"""Network namespaces that are gone when their context ends, whatever happened in them.

Their names begin with `kapla-` and the id of the process that they are for: what somebody left who
was killed is found by that and taken away.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

__all__ = [
    "NetworkUnavailable",
    "file_of",
    "inside",
    "namespace",
    "require",
    "run",
    "sweep",
    "within",
]

_PLACE: Final = Path("/run/netns")
_OURS: Final = re.compile(r"kapla-(\d+)-.*")
_CLONE_NEWNET: Final = 0x40000000


class NetworkUnavailable(Exception):
    """No network can be made here; says why."""


def require(*programs: str) -> None:
    """Raises: NetworkUnavailable, without root or one of these programs."""
    if os.geteuid() != 0:
        raise NetworkUnavailable("network namespaces need root")
    for program in programs:
        if shutil.which(program) is None:
            raise NetworkUnavailable(f"there is no {program}")


def run(*command: str, text: str | None = None) -> str:
    """Run a program with `text` as its input; returns its output."""
    done = subprocess.run(command, check=True, capture_output=True, text=True, input=text)
    return done.stdout


def file_of(name: str) -> Path:
    """The file that stands for a namespace."""
    return _PLACE / name


def within(name: str, *command: str | Path) -> list[str]:
    """The command that runs a command in a namespace, in the same process."""
    return ["nsenter", f"--net={_PLACE / name}", *map(str, command)]


@contextmanager
def namespace(name: str) -> Iterator[None]:
    """Make a namespace; at the end whatever runs there is killed."""
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "dev", "lo", "up")
        with inside(name):
            # What one connection learns of a line is not for the next: each begins alike.
            Path("/proc/sys/net/ipv4/tcp_no_metrics_save").write_text("1")
        yield
    finally:
        _remove(name)


def _remove(name: str) -> None:
    for process in run("ip", "netns", "pids", name).split():
        with suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)
    run("ip", "netns", "del", name)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Be in a namespace; files that are opened meanwhile belong to it for good."""
    with open("/proc/self/ns/net") as outside, open(_PLACE / name) as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(outside.fileno())


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def sweep() -> list[str]:
    """Take away the namespaces of processes that are no more; returns their names."""
    names = sorted(path.name for path in _PLACE.iterdir()) if _PLACE.is_dir() else []
    left = [name for name in names if _is_left(name)]
    for name in left:
        # Their keeper may be doing the same just now.
        with suppress(subprocess.CalledProcessError):
            _remove(name)
    return left


def _is_left(name: str) -> bool:
    found = _OURS.fullmatch(name)
    return found is not None and not Path("/proc", found[1]).exists()
