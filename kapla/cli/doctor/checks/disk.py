"""Whether there is room for the store, on a disk that is fit for one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from kapla.amounts import bytes_text
from kapla.cli.doctor.facts import Facts
from kapla.cli.doctor.finding import Finding, ok, trouble, warning

__all__ = ["CHECKS"]

# Of these the kernel of another machine has the file: neither locks nor shared memory can be had.
_NETWORK: Final = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "lustre", "ncpfs", "nfs", "nfs4"}
    | {"smb3", "smbfs", "virtiofs", "fuse.s3fs"}
)
_IN_MEMORY: Final = frozenset({"ramfs", "tmpfs"})
_NEARLY_FULL: Final = 0.95
# With less than this SQLite cannot do much in one go.
_LITTLE: Final = 256 * 2**20
_NOTHING: Final = 16 * 2**20
# A store that has more than this part of its cap makes room, or refuses, for all that comes.
_AT_CAP: Final = 0.98
# No disk has more bytes; a daemon may say what it likes.
_MOST: Final = 2**63


def room(facts: Facts) -> Iterator[Finding]:
    """Whether the disk of the store has room."""
    disk = facts.disk
    if disk is None or not disk.total:
        return
    free = f"{bytes_text(disk.free)} of {bytes_text(disk.total)} free"
    mend = "make room there, or set max-size or min-free, so that old blocks go in time"
    if disk.free < _NOTHING:
        yield trouble("disk", f"the disk of {disk.path} is full: {free}", mend)
    elif disk.free < _LITTLE and disk.free < disk.total * (1 - _NEARLY_FULL):
        yield warning("disk", f"the disk of {disk.path} is nearly full: {free}", mend)
    else:
        yield ok("disk", f"{free} where the store is")


def network(facts: Facts) -> Iterator[Finding]:
    """Whether the store is on a file system that SQLite can work on."""
    disk = facts.disk
    if disk is not None and disk.kind in _NETWORK:
        yield trouble(
            "file system",
            f"the store {disk.path} is on a network file system ({disk.kind}), which loses data",
            "move it to a disk of this machine: the setting store in kapla.toml",
        )
    elif disk is not None and disk.kind in _IN_MEMORY:
        yield warning(
            "file system",
            f"the store {disk.path} is in memory ({disk.kind}): it is gone when the machine stops",
            "move it to a disk: the setting store in kapla.toml",
        )


def cap(facts: Facts) -> Iterator[Finding]:
    """Whether the store can ever have the size that it may have."""
    disk, limit = facts.disk, facts.settings.max_size
    if disk is None or limit is None or not disk.total:
        return
    if limit > disk.total:
        yield warning(
            "max-size",
            f"max-size is {bytes_text(limit)}, and the whole disk has {bytes_text(disk.total)}",
            "set max-size to what the store may take of the disk, or use min-free",
        )
    elif disk.store_bytes is not None and limit > disk.store_bytes + disk.free:
        yield warning(
            "max-size",
            f"the store may grow to {bytes_text(limit)}, and the disk has room for"
            f" {bytes_text(disk.store_bytes + disk.free)}",
            "lower max-size, make room, or set min-free, so that old blocks go before it is full",
        )


def at_cap(facts: Facts) -> Iterator[Finding]:
    """Whether a store that refuses is at its cap."""
    for store in facts.stores:
        report = store.report or {}
        limit, used = report.get("max_size"), report.get("database_bytes")
        if not isinstance(limit, int) or not isinstance(used, int) or not 0 < limit < _MOST:
            continue
        if report.get("when_full") == "refuse" and used >= _AT_CAP * limit:
            yield warning(
                "room",
                f"{store.name} has all of its {bytes_text(limit)}, and takes no new blocks",
                "raise max-size, or set when-full to evict",
            )


CHECKS: Final[tuple[Callable[[Facts], Iterator[Finding]], ...]] = (room, network, cap, at_cap)
