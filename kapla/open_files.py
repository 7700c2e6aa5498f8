"""How many connections each listener may have, by the files that this process may have open."""

from __future__ import annotations

import logging
import resource
from typing import Final

from kapla.config import Config
from kapla.peers.found import MOST_FOUND
from kapla.urls import TlsEndpoint

__all__ = ["connections_by_listener"]

_log = logging.getLogger(__name__)

# Files that are no connections: the database, listeners, what the event loop needs.
_OWN_FILES: Final = 64
# That we dial, by two addresses at once, and that finds a place where there are too many.
_FILES_OF_PEER: Final = 6
# Connections to `admin`, and what listens there.
_FILES_OF_ADMIN: Final = 72


def connections_by_listener(config: Config) -> int:
    """As configured, or fewer if the system allows this process too few open files.

    Strangers on one listener must not use up what the others need, and the database too. It lets
    the process have as many files open as it may.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return config.max_connections
    doors = len(config.listen) + len(config.http)
    room = (hard - _files_of_others(config)) // max(1, doors)
    if room < config.max_connections:
        _log.warning("max-connections is %d, as %d files may be open", max(1, room), hard)
    return max(1, min(config.max_connections, room))


def _files_of_others(config: Config) -> int:
    """Files that clients do not count for."""
    under_tls = sum(isinstance(url.endpoint, TlsEndpoint) for url in config.listen)
    files = _OWN_FILES + _FILES_OF_PEER * len(config.peers)
    if under_tls:
        # Loaded only where there is such a listener.
        from kapla.identity.accepting import MOST_HANDSHAKES

        files += 2 * MOST_HANDSHAKES * under_tls
    if config.discover is not None:
        files += _FILES_OF_PEER * MOST_FOUND
    return files + (_FILES_OF_ADMIN if config.admin is not None else 0)
