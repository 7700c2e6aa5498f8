"""What the daemon is told, whole and checked: a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from kapla.config.users import User
from kapla.lan.networks import Entry
from kapla.log import Format
from kapla.peer_config import PeerSettings
from kapla.store_place import StorePlace
from kapla.urls import StoreUrl

__all__ = ["LEVELS", "Config", "Synchronous", "WhenFull"]

Synchronous = Literal["normal", "full"]
WhenFull = Literal["evict", "refuse"]

LEVELS: Final = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of the daemon."""

    store: StorePlace
    """The SQLite file, whose directory is made when missing; or a database."""
    listen: tuple[StoreUrl, ...]
    """Where clients connect."""
    default_listen: bool = True
    """Whether `listen` is the default: then a missing group is a warning, not an error."""
    max_size: int | None = None
    """Bytes the database and its WAL may grow to. None: as the disk allows."""
    min_free: int | None = None
    """Bytes of the file system that the store leaves to others: it does not grow beyond."""
    when_full: WhenFull = "evict"
    """Whether what nobody keeps makes room for new blocks, or these are refused."""
    synchronous: Synchronous = "normal"
    """What an acknowledged block survives: a killed process, or with "full" a power cut too."""
    max_put_rate: int | None = None
    """Bytes a second that each user may put; TCP peers share one rate by listener. None: any."""
    max_stranger_rate: int | None = None
    """Bytes a second that the unnamed peers of a listener on TCP are given together. None: any."""
    peers: tuple[PeerSettings, ...] = ()
    """Whom we dial, and whom we know when they dial us."""
    advertise: bool = False
    """Whether listeners are announced on the local network."""
    discover: Literal["lan"] | None = None
    """Whether, and where, other daemons are looked for."""
    discover_networks: tuple[Entry, ...] = ()
    """Where those that are found are asked, whoever they are."""
    seed_users: tuple[User, ...] = ()
    """Who may run seeds, beside root and the user who runs the daemon."""
    http: tuple[StoreUrl, ...] = ()
    """Where blocks that are lent are given to anybody by HTTP: TCP endpoints."""
    admin: StoreUrl | None = None
    """Where this machine is told of the daemon by HTTP: on the loopback interface, or a socket."""
    max_connections: int = 512
    """Connections at a time: each may cost a few MiB when its peer is slow."""
    max_pinned: int | None = None
    """Bytes that the pins of one user may hold. None: half of `max_size`, if there is that."""
    lend_cache: bool = True
    """Whether blocks that no pin has may be lent."""
    log_level: str = "info"
    log_format: Format = "text"
    """What a line of the log is: a sentence, or an object of JSON."""
    scrub_rate: int = 2**20
    """Bytes a second that are read and hashed in the background: 2.5 TB in thirty days; 0: none."""
    rebuild_index: bool = False
    """Make the index and the totals anew from the blocks: a flag only, for one start."""
