"""What this machine makes of settings: groups, directories, addresses, files of TLS.

Nothing is made, opened for writing or listened on, and the store is not looked into; no name is
resolved. What is found holds for the user who asks. What need not be wrong, as a directory that a
service manager makes, is a note.
"""

from __future__ import annotations

import grp
import os
import re
import stat
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from kapla.config.agreement import place_of
from kapla.config.load import Loaded
from kapla.config.problems import Misconfigured, Problem, Problems
from kapla.database_url import PASSWORD_ADVICE, DatabaseUrl
from kapla.guessing import meant
from kapla.sizes import size_text
from kapla.urls import StoreUrl, TcpEndpoint, TlsEndpoint, UnixEndpoint

__all__ = ["Findings", "check_groups", "check_machine"]

_LOOKS_LIKE_IPV4: Final = re.compile(r"[0-9.]+")
_OF_THE_SYSTEM: Final = 1024
# What a service manager makes for a service, and takes away again.
_RUN: Final = (Path("/run"), Path("/var/run"))


@dataclass(slots=True)
class Findings:
    """What is wrong, and what may be."""

    wrong: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)


def check_groups(loaded: Loaded) -> None:
    """Look for the groups that sockets are to have, which does not get better by itself.

    Raises: Misconfigured.
    """
    problems = Problems()
    for url in loaded.config.listen:
        name = url.flags.group
        if name is None:
            continue
        try:
            grp.getgrnam(name)
        except KeyError:
            guess = meant(name, [group.gr_name for group in grp.getgrall()])
            advice = guess or f"; make it with: groupadd --system {name}"
            problems.add(
                place_of("listen", loaded.origins), f"there is no group {name!r} for {url}{advice}"
            )
    problems.check()


def check_machine(loaded: Loaded) -> Findings:
    """Look at all that a start would."""
    machine = _Machine(loaded)
    machine.look()
    return Findings(machine.problems.found, machine.notes.found)


class _Machine:
    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._config = loaded.config
        self.problems = Problems()
        self.notes = Problems()

    def look(self) -> None:
        try:
            check_groups(self._loaded)
        except Misconfigured as error:
            self.problems.found += error.problems
        store = self._config.store
        if isinstance(store, DatabaseUrl):
            self._tell_of(store)
        else:
            self._look_at_file(store)
        for name, url in self._places():
            where = place_of(name, self._loaded.origins)
            if isinstance(url.endpoint, UnixEndpoint):
                self._look_at_socket(where, url.endpoint.path)
                self._look_at_group(where, url)
            elif isinstance(url.endpoint, TcpEndpoint | TlsEndpoint):
                self._look_at_address(where, url.endpoint)
            with self.problems.at(where):
                _look_at_certificate(url)
        with self.problems.at(""):
            self._look_at_key()

    def _places(self) -> list[tuple[str, StoreUrl]]:
        config = self._config
        admin = [] if config.admin is None else [("admin", config.admin)]
        listen = [("listen", url) for url in config.listen]
        return [*listen, *(("http", url) for url in config.http), *admin]

    def _tell_of(self, database: DatabaseUrl) -> None:
        """What its URL means: nobody is asked."""
        where = place_of("store", self._loaded.origins)
        self.notes.add(where, f"{database.where}; it is not asked here, kaplad --check does that")
        if database.has_password:
            self.notes.add(where, PASSWORD_ADVICE)

    def _look_at_file(self, path: Path) -> None:
        if not path.name:
            return  # which is wrong already
        where = place_of("store", self._loaded.origins)
        if os.path.isdir(path):
            self.problems.add(where, f"the store {path} is a directory: name a file in it")
            return
        there = next((one for one in path.parents if os.path.lexists(one)), Path("/"))
        if not os.path.isdir(there):
            self.problems.add(where, f"{there} is no directory, and the store cannot be below it")
        elif not os.access(there, os.W_OK | os.X_OK):
            what = "written to" if there == path.parent else "made: nothing can be added to it"
            self.problems.add(where, f"the store's directory {there} cannot be {what} by {_user()}")
        elif self._config.min_free is not None:
            self._look_at_room(there, self._config.min_free)

    def _look_at_room(self, directory: Path, min_free: int) -> None:
        found = os.statvfs(directory)
        size = found.f_blocks * found.f_frsize
        if min_free >= size:
            self.problems.add(
                place_of("min_free", self._loaded.origins),
                f"{size_text(min_free)} cannot be left free: the whole disk has {size_text(size)}",
            )

    def _look_at_socket(self, where: str, path: Path) -> None:
        directory = path.parent
        if not os.path.exists(directory):
            reason = f"there is no directory {directory} for the socket {path.name}"
            if any(directory.is_relative_to(run) for run in _RUN):
                self.notes.add(where, f"{reason}; a unit makes it with RuntimeDirectory=")
            else:
                self.problems.add(where, f"{reason}: make it, or name another place")
        elif not os.path.isdir(directory):
            self.problems.add(where, f"{directory} is no directory, and there can be no socket")
        elif not os.access(directory, os.W_OK | os.X_OK):
            self.problems.add(where, f"no socket can be made in {directory} by {_user()}")
        else:
            try:
                if not stat.S_ISSOCK(path.lstat().st_mode):
                    self.problems.add(where, f"{path} is there, and is no socket")
            except OSError:
                pass

    def _look_at_group(self, where: str, url: StoreUrl) -> None:
        """Whether a socket may be given to its group: by root, or a member."""
        if url.flags.group is None or os.geteuid() == 0:
            return
        try:
            gid = grp.getgrnam(url.flags.group).gr_gid
        except KeyError:
            return  # which is said already
        if gid not in {os.getegid(), *os.getgroups()}:
            self.problems.add(
                where, f"{_user()} is no member of {url.flags.group}, and cannot give it a socket"
            )

    def _look_at_address(self, where: str, endpoint: TcpEndpoint | TlsEndpoint) -> None:
        host, _, interface = endpoint.host.partition("%")
        try:
            ip_address(host)
        except ValueError:
            if _LOOKS_LIKE_IPV4.fullmatch(host):
                self.problems.add(where, f"{host} is no address")
            elif host.lower() != "localhost":
                self.notes.add(where, f"{host} is a name, which is looked up at the start only")
        if interface and not os.path.exists(f"/sys/class/net/{interface}"):
            self.notes.add(where, f"there is no interface {interface} now")
        if 0 < endpoint.port < _lowest_port() and os.geteuid() != 0:
            self.notes.add(
                where, f"port {endpoint.port} may need the capability CAP_NET_BIND_SERVICE"
            )

    def _look_at_key(self) -> None:
        """The key pair, if it is there and will be used. Raises: ConfigError."""
        config = self._config
        under_tls = (
            isinstance(url.endpoint, TlsEndpoint) and url.flags.files is None
            for url in config.listen
        )
        with_keys = any(peer.key is not None for peer in config.peers)
        if not (with_keys or config.discover is not None or any(under_tls)):
            return
        from kapla.identity.pair import default_path, load
        from kapla.peer_config import check_peers

        path = default_path()
        if os.path.lexists(path):
            check_peers(config.peers, load(path).public)


def _look_at_certificate(url: StoreUrl) -> None:
    """Raises: ConfigError."""
    if url.flags.files is None:
        return
    # Loaded by those who need it.
    from kapla.tls import listener_context

    listener_context(url, None)


def _lowest_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return _OF_THE_SYSTEM


def _user() -> str:
    import pwd

    try:
        return f"the user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"the user {os.geteuid()}"
