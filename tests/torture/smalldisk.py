"""A file system that is soon full: only root may mount one."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["fill", "small_disk"]


@contextmanager
def small_disk(place: Path, mebibytes: int) -> Iterator[bool]:
    """Mount it; tells whether that could be."""
    place.mkdir(exist_ok=True)
    options = ["-o", f"size={mebibytes}m"]
    command = ["mount", "-t", "tmpfs", *options, "kapla-torture", str(place)]
    done = subprocess.run(command, capture_output=True, check=False) if os.geteuid() == 0 else None
    is_mounted = done is not None and done.returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(path: Path) -> None:
    """Write until there is no room at all."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
