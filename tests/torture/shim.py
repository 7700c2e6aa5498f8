"""The side of Python of shim.c: it is built at need, preloaded, and told what to do.

A process that has it preloaded calls `Shim.loaded()`; one that it starts is told by `environment`.
"""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import os
import shutil
import struct
import subprocess
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple, Self

__all__ = ["NO_COMPILER", "Kind", "Operation", "Plan", "Shim", "build", "environment"]

NO_COMPILER: Final = "there is no C compiler (cc) to build the shim with"

_SOURCE: Final = Path(__file__).with_name("shim.c")
_BUILT: Final = _SOURCE.parents[2] / "build" / "torture"
_HEADER: Final = struct.Struct("=IIQQ")


class Kind(IntEnum):
    """What is done to a file; as in shim.c."""

    MARK = 0
    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    UNLINK = 5
    SYNC_DIRECTORY = 6
    RENAME = 7
    OPEN = 8


class Operation(NamedTuple):
    """`file` is a small number; `offset` also a length, the number of a mark, or a second file."""

    kind: Kind
    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """What fails: chances in a million, for each operation from the `first` before the `last`."""

    seed: int = 1
    write_error: int = 0
    torn_error: int = 0
    short_write: int = 0
    no_room: int = 0
    sync_error: int = 0
    clock_jump: int = 0
    first: int = 0
    last: int = 0
    kill_at: int = 0
    """The operation in which the process is killed; 0: in none."""
    most: int = 0
    """Bytes that each file may grow to; 0: any number."""

    def __str__(self) -> str:
        """As $KAPLA_TORTURE has it."""
        return ":".join(str(value) for value in dataclasses.astuple(self))


class _Plan(ctypes.Structure):
    _fields_ = (
        ("seed", ctypes.c_uint64),
        *[(field.name, ctypes.c_uint32) for field in dataclasses.fields(Plan)[1:7]],
        *[(field.name, ctypes.c_uint64) for field in dataclasses.fields(Plan)[7:]],
    )


def build() -> Path | None:
    """The built library; None where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    name = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    built = _BUILT / f"shim-{name}.so"
    if not built.exists():
        _BUILT.mkdir(parents=True, exist_ok=True)
        making = built.with_suffix(f".{os.getpid()}")
        subprocess.run(
            [compiler, "-O2", "-shared", "-fPIC", "-o", making, _SOURCE, "-ldl", "-lpthread"],
            check=True,
        )
        # At once or not at all: others may be building it too.
        making.replace(built)
    return built


def environment(
    library: Path, store: Path | None = None, plan: Plan | None = None
) -> dict[str, str]:
    """What a process is started with so that the shim is in it, and what it is to do there."""
    told = {"LD_PRELOAD": str(library)}
    if store is not None and plan is not None:
        told |= {"KAPLA_TORTURE": str(plan), "KAPLA_TORTURE_STORE": str(store)}
    return told


class Shim:
    """The shim of this process."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.torture_records.restype = ctypes.c_void_p
        library.torture_faults.restype = ctypes.c_uint64
        library.torture_operations.restype = ctypes.c_uint64

    @classmethod
    def loaded(cls) -> Self | None:
        """The shim, if it was preloaded."""
        library = ctypes.CDLL(None)
        return cls(library) if hasattr(library, "torture_plan") else None

    def begin(self, store: Path, plan: Plan | None = None, *, is_recording: bool = False) -> None:
        """From now on look after the files whose paths begin with this one."""
        values = _Plan(*dataclasses.astuple(plan or Plan()))
        path = os.fsencode(os.path.realpath(store))
        self._library.torture_plan(path, ctypes.byref(values), int(is_recording))

    def end(self) -> None:
        """Look after nothing."""
        self._library.torture_stop()

    def mark(self, number: int) -> None:
        """Put a number between the operations."""
        self._library.torture_mark(ctypes.c_uint64(number))

    def faults(self) -> int:
        """How many operations failed by the plan."""
        return int(self._library.torture_faults())

    def operations(self) -> int:
        """How many operations there were."""
        return int(self._library.torture_operations())

    def records(self) -> list[Operation]:
        """What was done, in order."""
        length = ctypes.c_uint64()
        address = self._library.torture_records(ctypes.byref(length))
        data = ctypes.string_at(address, length.value) if length.value else b""
        return _parse(data)


def _parse(data: bytes) -> list[Operation]:
    operations = []
    place = 0
    while place < len(data):
        kind, file, offset, length = _HEADER.unpack_from(data, place)
        place += _HEADER.size
        # A truncation has its length in the place of an offset, and no data.
        operations.append(Operation(Kind(kind), file, offset, data[place : place + length]))
        place += length
    return operations
