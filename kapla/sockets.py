"""Opening listeners: what may be replaced, who may connect.

A Unix socket is bound, given its mode and group, and only then listened on, so that nobody gets in
between. A socket file is replaced only when nobody answers behind it; whoever looks, replaces or
removes holds a lock beside it meanwhile, or two daemons would replace each other's.

A socket that the service manager has handed over is taken as it is, and stays when the daemon ends:
who connects meanwhile waits in it for the next one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import logging
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from kapla.config import is_root
from kapla.errors import ConfigError, ListenError
from kapla.handed import Handed
from kapla.storage.access import Rights
from kapla.urls import FileEndpoint, StoreUrl, TlsEndpoint, UnixEndpoint

__all__ = ["BACKLOG", "BoundUnixSocket", "bind_tcp", "bind_unix", "rights_of", "unix_socket_of"]

_log = logging.getLogger(__name__)

BACKLOG: Final = 128
"""Connections that wait to be accepted, and how many are accepted at once."""

_KEEPALIVE_S: Final = 300
# As long as a peer may stall that is served without TLS.
_STALLED_MS: Final = 30_000
_ROOT_GROUP: Final = "kapla"


def unix_socket_of(urls: Iterable[StoreUrl]) -> str | None:
    """The path of the first Unix socket among listeners; None if there is none."""
    paths = (url.endpoint.path for url in urls if isinstance(url.endpoint, UnixEndpoint))
    return next(map(str, paths), None)


def rights_of(url: StoreUrl) -> Rights:
    """What peers of a listener may do: its flags.

    Without any it gives and takes on a Unix socket, and on TCP it lends.
    """
    local = isinstance(url.endpoint, UnixEndpoint)
    allow = url.flags.allow
    if allow is None:
        return Rights(get=local, lend=not local, put=local, stat=local)
    return Rights(
        get="get" in allow,
        lend="lend" in allow,
        put="put" in allow,
        stat=local or "stat" in allow,
        admin="admin" in allow,
    )


class BoundUnixSocket:
    """A listening Unix socket and its file, which is `ours` unless the socket was handed over."""

    def __init__(self, listening: socket.socket, path: Path, *, ours: bool = True) -> None:
        self.socket = listening
        self._path = path
        self._identity = _identity(path) if ours else None

    def remove(self) -> None:
        """Remove the file, if it is still ours: another daemon may have taken the place."""
        if self._identity is None:
            return
        try:
            with _locked(self._path):
                if _identity(self._path) == self._identity:
                    self._path.unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            # What comes after this in a stop is worth more than the file.
            _log.warning("Cannot remove the socket %s: %s", self._path, error.strerror)


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


def bind_unix(url: StoreUrl, *, is_default: bool, handed: Handed | None = None) -> BoundUnixSocket:
    """Open the socket of a listener, if it was not handed over.

    Raises: ListenError; ConfigError, if it was, and is not as the URL says.
    """
    assert isinstance(url.endpoint, UnixEndpoint)
    path = url.endpoint.path
    if handed is not None and (given := handed.claim_unix(path)) is not None:
        _check_as_configured(url, path)
        return BoundUnixSocket(given, path, ours=False)
    mode, group = _permissions(url, is_default=is_default)
    try:
        with _locked(path):
            _make_way(path)
            return BoundUnixSocket(_listen(path, mode, group), path)
    except FileNotFoundError as error:
        raise ListenError(
            f"cannot listen on {path}: there is no directory {path.parent}; name another place with"
            " --listen"
        ) from error
    except OSError as error:
        raise ListenError(f"cannot listen on {path}: {error.strerror}") from error


def _check_as_configured(url: StoreUrl, path: Path) -> None:
    """Whether a socket that somebody else has made is for those that the URL says."""
    try:
        status = path.stat()
    except OSError as error:
        raise ListenError(
            f"{path} was handed over, and its file is gone: start the socket unit anew"
        ) from error
    mode, group = url.flags.mode, url.flags.group
    if mode is not None and stat.S_IMODE(status.st_mode) != mode:
        raise ConfigError(
            f"{path} was handed over with mode {stat.S_IMODE(status.st_mode):04o}, and its listener"
            f" has mode={mode:04o}: say the same in the socket unit (SocketMode=), or nothing here"
        )
    if group is not None and status.st_gid != _group_id(group, url):
        raise ConfigError(
            f"{path} was handed over with another group than its listener has, group={group}: say"
            " the same in the socket unit (SocketGroup=), or nothing here"
        )


def _listen(path: Path, mode: int, group: int | None) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listening.bind(str(path))
        os.chmod(path, mode)
        if group is not None:
            os.chown(path, -1, group)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        if error.errno != errno.EADDRINUSE:
            with contextlib.suppress(OSError):
                path.unlink()
        raise
    return listening


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold `<path>.lock`, for as long as nobody else may touch the socket: at most seconds.

    Raises: OSError.
    """
    lock = path.with_name(path.name + ".lock")
    descriptor = _lock(lock)
    try:
        yield
    finally:
        # Whoever waits for this file sees that it has gone, and takes the next. One with something
        # in it is not of our making.
        with contextlib.suppress(OSError):
            if os.fstat(descriptor).st_size == 0:
                lock.unlink()
        os.close(descriptor)


def _lock(lock: Path) -> int:
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(lock, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            found = os.fstat(descriptor)
            with contextlib.suppress(FileNotFoundError):
                if _identity(lock) == (found.st_dev, found.st_ino):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _permissions(url: StoreUrl, *, is_default: bool) -> tuple[int, int | None]:
    """Mode and group: root's socket is for a group, since publishers have no privileges."""
    name = url.flags.group or (_ROOT_GROUP if is_root() else None)
    mode = url.flags.mode
    if mode is None:
        mode = 0o600 if name is None else 0o660
    if url.flags.group is not None:
        return mode, _group_id(url.flags.group, url)
    if name is None:
        return mode, None
    with contextlib.suppress(KeyError):
        return mode, grp.getgrnam(name).gr_gid
    level = logging.WARNING if is_default else logging.INFO
    mend = f"groupadd --system {name} and a restart let its members in"
    _log.log(level, "There is no group %s: only root can reach %s; %s", name, url, mend)
    return mode, None


def _group_id(name: str, url: StoreUrl) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ListenError(f"there is no group {name!r} for {url}") from None


def _make_way(path: Path) -> None:
    """Remove a stale socket; refuse anything else that stands at `path`."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ListenError(f"cannot listen on {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(status.st_mode):
        raise ListenError(f"cannot listen on {path}: something else than a socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            _log.info("Replacing the stale socket %s", path)
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return
        except OSError as error:
            raise ListenError(f"cannot listen on {path}: {error.strerror or error}") from error
    raise ListenError(f"cannot listen on {path}: another daemon is answering there")


def bind_tcp(url: StoreUrl, handed: Handed | None = None) -> list[socket.socket]:
    """Open the sockets of a listener on TCP, with TLS or not: one for each address of its host.

    Those that were handed over are taken as they are.

    Raises: ListenError.
    """
    endpoint = url.endpoint
    assert not isinstance(endpoint, UnixEndpoint | FileEndpoint)
    try:
        found = socket.getaddrinfo(
            endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except UnicodeError:
        raise ListenError(f"cannot listen on {url}: this is no host name") from None
    except OSError as error:
        raise ListenError(f"cannot listen on {url}: {error.strerror}") from error
    listening: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            given = None if handed is None else handed.claim_tcp(family, address)
            one = socket.socket(family, kind, protocol) if given is None else given
            listening.append(one)
            # Inherited by its connections: a peer that has vanished does not hold one for ever.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_S)
            if isinstance(endpoint, TlsEndpoint):
                # Under TLS nobody can see how much a peer has taken but the system.
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALLED_MS)
            if given is not None:
                continue
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen(BACKLOG)
    except OSError as error:
        for one in listening:
            one.close()
        raise ListenError(f"cannot listen on {url}: {error.strerror}") from error
    return listening
