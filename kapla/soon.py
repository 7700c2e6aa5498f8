"""Whether a daemon of this user is starting: then a client that was faster waits for its socket.

After `kaplad & kapla encode …` the client may well be first. Nothing tells it so at the place of
the socket, and a mark that the daemon made there would itself come late, or be left behind by one
that was killed. The list of processes tells: there is a `kaplad` of this user, it was started a
moment ago, and listens on no Unix socket yet. Where there is none nobody waits at all, and a daemon
that never gets as far is waited for by nobody for long, however many clients there are.

Source: the manual page proc(5).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote

__all__ = ["STARTING_S", "is_starting"]

STARTING_S: Final = 30.0
"""So long after its start a daemon may still be on its way to its socket. By far most take less
than a second; where ten programs want each processor it was ten."""
_PROC: Final = Path("/proc")
# What an installation may call it: Guix puts a script of that name in front of it.
_NAMES: Final = (b"kaplad", b".kaplad-real")
_MODULE: Final = [b"-m", b"kapla"]
# With one of these it does something else, which may take hours, and listens nowhere.
_INSTEAD: Final = frozenset(
    {b"--check", b"--check-config", b"--help", b"-h", b"--print-key", b"--salvage", b"--version"}
)
# An interpreter with some options comes first.
_NAME_WITHIN: Final = 5
_LONGEST_COMMAND: Final = 64 * 1024
_IS_LISTENING: Final = 0x10000


def is_starting(path: Path, proc: Path = _PROC) -> bool:
    """Whether this user's daemon, one that may listen on the socket `path`, is on its way there.

    What cannot be read of a process counts as no. Takes some milliseconds where there are hundreds
    of processes.
    """
    return any(
        _may_listen_on(path, arguments) and _is_young(process) and not _listens(process)
        for process, arguments in _daemons(proc)
    )


def _daemons(proc: Path) -> Iterator[tuple[Path, Sequence[bytes]]]:
    """The processes that are a `kaplad` of this user, other than this one, and how they run."""
    for number in _numbers(proc):
        if int(number) == os.getpid():
            continue
        process = proc / number
        try:
            if process.stat().st_uid != os.geteuid():
                continue
            with open(process / "cmdline", "rb") as file:
                arguments = file.read(_LONGEST_COMMAND).split(b"\0")
        except OSError:  # it has ended
            continue
        if _is_daemon(arguments):
            yield process, arguments


def _numbers(directory: Path) -> list[str]:
    try:
        return [name for name in os.listdir(directory) if name.isdecimal()]
    except OSError:
        return []


def _is_daemon(arguments: Sequence[bytes]) -> bool:
    if any(argument.partition(b"=")[0] in _INSTEAD for argument in arguments):
        return False
    names = [argument.rpartition(b"/")[2] for argument in arguments[:_NAME_WITHIN]]
    if names[0] in _NAMES:
        return True
    is_module = any(list(arguments[at : at + 2]) == _MODULE for at in range(1, len(names)))
    return b"python" in names[0] and (is_module or any(name in _NAMES for name in names))


def _may_listen_on(path: Path, arguments: Sequence[bytes]) -> bool:
    """Whether the command line leaves it open: `--listen` replaces all else that is configured."""
    text = "\0".join(map(os.fsdecode, arguments))
    places = re.findall(r"(?:^|\0)--listen[=\0]([^\0]*)", text)
    return not places or any(str(path) in unquote(place) for place in places)


def _is_young(process: Path) -> bool:
    try:
        # The name of the program, in parentheses, may hold anything.
        fields = (process / "stat").read_bytes().rpartition(b")")[2].split()
        started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return False
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s < STARTING_S


def _listens(process: Path) -> bool:
    """Whether it has a Unix socket that listens, in its own network."""
    sockets = _sockets(process)
    if not sockets:
        return False
    try:
        with open(process / "net" / "unix", "rb") as file:
            next(file)
            for line in file:
                fields = line.split(None, 7)
                if fields[6] in sockets and int(fields[3], 16) & _IS_LISTENING:
                    return True
    except (OSError, ValueError, IndexError, StopIteration):
        pass
    return False


def _sockets(process: Path) -> set[bytes]:
    """The numbers of the sockets that a process has."""
    found = set()
    for number in _numbers(process / "fd"):
        try:
            target = os.readlink(os.fsencode(process / "fd" / number))
        except OSError:
            continue
        if target.startswith(b"socket:["):
            found.add(target[8:-1])
    return found
