"""Who has a store: told in its lock file, for those who wait for it.

Text of some lines, `pid`, `program` and `socket`, each with a value. The lock itself is the
system's (`kapla.storage.sqlite.lock`): what stands here says nothing while nobody holds that, and
is none of a secret. Others may have written anything: what cannot be read is left out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, Self

__all__ = ["Holder", "note_holder", "read_holder"]

_LONGEST: Final = 4096


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a store. What is not known is None."""

    pid: int | None = None
    program: str | None = None
    socket: str | None = None
    """Where it answers: a path."""

    @classmethod
    def myself(cls, program: str, socket: str | None = None) -> Self:
        """This process."""
        return cls(os.getpid(), program, socket)

    def __str__(self) -> str:
        if self.program is None and self.pid is None:
            return "another program"
        pid = "" if self.pid is None else f" (pid {self.pid})"
        socket = "" if self.socket is None else f" at the socket {self.socket}"
        return f"{self.program or 'a program'}{pid}{socket}"


def note_holder(lock: int, holder: Holder) -> None:
    """Write into a lock file, open under this descriptor, who has it: for people only.

    A disk that is full is no reason not to work.
    """
    values = {"pid": holder.pid, "program": holder.program, "socket": holder.socket}
    lines = [f"{key} {value}\n" for key, value in values.items() if value is not None]
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, "".join(line for line in lines if line.count("\n") == 1).encode(), 0)
    except (OSError, UnicodeEncodeError):
        return


def read_holder(lock: int) -> Holder:
    """What stands in a lock file, open under this descriptor, as far as it can be read."""
    try:
        text = os.pread(lock, _LONGEST, 0).decode("utf-8", "replace")
    except OSError:
        return Holder()
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if value and value.isprintable():
            found.setdefault(key, value)
    pid = found.get("pid", "")
    is_pid = pid.isascii() and pid.isdigit() and len(pid) < 11
    return Holder(int(pid) if is_pid else None, found.get("program"), found.get("socket"))
