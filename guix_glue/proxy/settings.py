"""What the nars of a proxy may cost: time, memory, disk. Importing these defaults is cheap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from guix_glue.servers.limits import MAX_UNSIGNED_SIZE, MIN_RATE, NAR_STALL_S

__all__ = ["DEFAULT_NAR_SETTINGS", "NarSettings"]

_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class NarSettings:
    """How long clients wait, and how much is taken for them. Sizes in bytes."""

    header_s: float = 0.8
    """Until the header goes out, whatever comes later; before that a failure is a status."""
    spool_s: float = 50.0
    """Until the next source is tried if nothing was made whole by then: clients are to see the
    first byte within a minute."""
    eris_stall_s: float = 30.0
    """Until a store of blocks is given up that brings none."""
    nar_stall_s: float = NAR_STALL_S
    min_rate: int = MIN_RATE
    """Bytes a second that a store or server brings at least, on average over its time above."""
    longest_s: float = 6 * 3600.0
    """For one nar, however slowly it comes, or is taken."""
    max_unsigned_size: int = MAX_UNSIGNED_SIZE
    """The largest nar whose size nobody signed."""
    small: int = 4 * _MIB
    """Nars up to this are made whole in memory first, whatever the source: no client ever sees
    anything wrong of these."""
    memory: int = 64 * _MIB
    """For all of these together."""
    spooled: int = 2048 * _MIB
    """The largest nar that is made whole on disk."""
    spool: int = 4096 * _MIB
    """For all of these together."""
    at_once: int = 16
    """Nars that are made at once, as many as Nix asks for; the next ones wait (`turns`). Each takes
    some 10 MiB of memory, and up to 30 where a tree tells no sizes."""
    waiting: int = 512
    """Clients that are served or wait; whoever comes then is asked to come again."""
    wait_s: float = 240.0
    """How long a client may wait for its turn: stock ones give up after 300 s."""
    trust_hints: bool = True
    """Whether hints are followed. Their hash is compared before anything goes out."""


DEFAULT_NAR_SETTINGS: Final = NarSettings()
