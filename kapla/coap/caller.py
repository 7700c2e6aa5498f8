"""Who is at the other end of a connection, and what that person may do beside reading and adding.

On a Unix socket the kernel says who connected. Root and whoever runs the daemon could read and
change its file anyway, so they may do everything there. On TCP nobody is known: whoever is allowed
something there is so by the listener's flag, and acts for the daemon.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from kapla.storage.access import Rights

__all__ = ["NOBODY", "Caller", "caller_of"]

_ROOT = 0


@dataclass(frozen=True, slots=True)
class Caller:
    """The peer of a connection."""

    uid: int | None
    """The owner of the pins that are made here; None: there can be none."""
    may_administer: bool = False
    """See to the whole store: check it, list it, back it up, release others' pins."""
    may_pin: bool = False
    """Make pins, and list, change and release one's own."""
    is_known: bool = field(default=False, compare=False)
    """Whether the kernel has said who it is."""


NOBODY = Caller(None)


def caller_of(uid: int | None, rights: Rights) -> Caller:
    """Who is there, on a listener with these rights; `uid`: what the kernel says, None on TCP."""
    own = os.geteuid()
    if uid is None:
        return Caller(own, may_administer=True, may_pin=True) if rights.admin else NOBODY
    may_administer = rights.admin or uid in (_ROOT, own)
    may_pin = may_administer or rights.put
    return Caller(uid, may_administer, may_pin, is_known=True)
