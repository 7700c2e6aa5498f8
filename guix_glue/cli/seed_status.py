"""What `kapla seed --status` shows."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from guix_glue.local.files import read_file
from guix_glue.seed.seeder import STATUS_FILE
from guix_glue.seed.status import LARGEST_STATUS, SeedStatus, parse_status
from kapla.amounts import bytes_text
from kapla.cli.outcome import CommandError

__all__ = ["read_status", "status_lines"]


def read_status(index: Path) -> tuple[SeedStatus, bool]:
    """What the seed with this index has told last, and whether it is running.

    Raises: CommandError.
    """
    path = index / STATUS_FILE
    try:
        return parse_status(read_file(path, LARGEST_STATUS)), _is_locked(index)
    except FileNotFoundError:
        raise CommandError(f"no seed has its index in {index}") from None
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from error


def _is_locked(index: Path) -> bool:
    try:
        lock = os.open(index / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def status_lines(status: SeedStatus, *, is_running: bool) -> Iterator[str]:
    """The same for people."""
    if not is_running:
        yield "state    not running; what follows is what it told last"
    elif status.problem:
        yield f"state    {status.problem}"
    else:
        yield f"state    {'connected to the daemon' if status.connected else 'not connected'}"
    yield f"trees    {status.trees} given away, {status.trees_left} to be read"
    if status.packed:
        yield f"packed   {status.packed} as they were published, too"
    if status.trees_failed:
        yield f"failed   {status.trees_failed}: the log says why"
    if status.to_ask:
        yield f"to ask   {status.to_ask} items, of which no server has said whether it has them"
    yield f"files    {bytes_text(status.data_bytes)}, {status.blocks} blocks"
    share = 100 * status.index_bytes / status.data_bytes if status.data_bytes else 0.0
    yield f"index    {bytes_text(status.index_bytes)}, {share:.2f} % of the files"
    yield f"given    {status.given} of {status.asked} blocks, {bytes_text(status.given_bytes)}"
    if status.changed:
        yield f"changed  {status.changed} files were not what they had been"
