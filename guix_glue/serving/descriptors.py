"""How many file descriptors this process may have: enough for all clients, if we are let."""

from __future__ import annotations

import logging
import resource
from typing import Final

__all__ = ["allow_descriptors"]

_log = logging.getLogger(__name__)

_EACH: Final = 5
"""The socket, a file, and three directories while a plain nar goes from one to the next."""
_BESIDES: Final = 256
"""Listeners, the store, what is being baked, and clients that have not quite gone."""


def allow_descriptors(connections: int) -> None:
    """Raise the limit, as far as it may be, to what so many connections can take."""
    wanted = connections * _EACH + _BESIDES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        _log.warning(
            "%d connections may take %d file descriptors, but only %d are allowed",
            connections,
            wanted,
            allowed,
        )
