"""Sites with a router and a bridge, and hosts that are plugged in: all in namespaces of their own.

All sites have the same prefix, and their routers the same address, as homes and cafés do; only the
link-layer address of the router tells one from the other.
"""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from benchmarks.network.namespaces import (
    NetworkUnavailable,
    file_of,
    inside,
    namespace,
    require,
    run,
    sweep,
    within,
)
from tests.integration.daemon import Daemon

__all__ = ["Host", "HostDaemon", "Site", "Sites", "sites"]

PREFIX: Final = "10.77.0.0/24"
_ROUTER: Final = "10.77.0.1"
_numbers = itertools.count()


class Site:
    """A router that is a bridge."""

    def __init__(self, name: str, mac: str) -> None:
        self.namespace = name
        self.mac = mac
        run("ip", "-n", name, "link", "add", "name", "lan", "address", mac, "type", "bridge")
        run("ip", "-n", name, "address", "add", f"{_ROUTER}/24", "dev", "lan")
        run("ip", "-n", name, "link", "set", "dev", "lan", "up")
        with inside(name):
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    @property
    def entry(self) -> str:
        """What names it in discover-networks."""
        return f"{PREFIX} via {self.mac}"

    def sniffer(self) -> socket.socket:
        """Gets all frames on its bridge."""
        with inside(self.namespace):
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        opened.bind(("lan", 3))
        opened.settimeout(20)
        return opened


class Host:
    """A namespace with a cable."""

    def __init__(self, name: str, number: int) -> None:
        self.namespace = name
        self.address = f"10.77.0.{number}"
        self._socket = f"socket{number}"

    def plug_in(self, site: Site) -> None:
        """Put a new cable in, and be in that network."""
        add = ("ip", "-n", self.namespace, "link", "add", "eth0", "type", "veth", "peer", "name")
        run(*add, self._socket, "netns", site.namespace)
        run("ip", "-n", site.namespace, "link", "set", self._socket, "master", "lan", "up")
        run("ip", "-n", self.namespace, "address", "add", f"{self.address}/24", "dev", "eth0")
        run("ip", "-n", self.namespace, "link", "set", "dev", "eth0", "up")
        run("ip", "-n", self.namespace, "route", "add", "default", "via", _ROUTER)

    def move(self, old: Site, new: Site) -> None:
        """Put the other end of the cable into another network: addresses and routes stay."""
        run("ip", "-n", old.namespace, "link", "set", self._socket, "netns", new.namespace)
        run("ip", "-n", new.namespace, "link", "set", self._socket, "master", "lan", "up")

    def unplug(self, site: Site) -> None:
        """The other end has no power."""
        run("ip", "-n", site.namespace, "link", "set", self._socket, "down")

    def run(self, *command: str) -> str:
        """Run a command there."""
        return run(*within(self.namespace, *command))


class HostDaemon(Daemon):
    """A daemon that runs on a host; its Unix socket is reached from everywhere."""

    def __init__(self, host: Host, directory: Path, settings: str, *listen: str) -> None:
        super().__init__(directory, ["--debug", "--config", str(directory / "kapla.toml")])
        (directory / "kapla.toml").write_text(settings)
        self._listen += listen
        self.host = host

    @property
    def network(self) -> Path:
        """The network that it is in."""
        return file_of(self.host.namespace)


class Sites:
    """What was made, until the end of the context."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._prefix = f"kapla-{os.getpid()}-lan{next(_numbers)}-"
        self._hosts = itertools.count(2)

    def site(self, name: str, number: int) -> Site:
        """One more; `number` is the last of its router's link-layer address."""
        try:
            self._stack.enter_context(namespace(self._prefix + name))
            return Site(self._prefix + name, f"02:00:00:00:77:{number:02x}")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network can be made here: {error.stderr.strip()}")

    def namespace(self, name: str) -> str:
        """One more that is in no network; its whole name."""
        self._stack.enter_context(namespace(self._prefix + name))
        return self._prefix + name

    def host(self, site: Site) -> Host:
        """One more, plugged in there."""
        number = next(self._hosts)
        name = f"{self._prefix}host{number}"
        self._stack.enter_context(namespace(name))
        made = Host(name, number)
        made.plug_in(site)
        return made


@contextmanager
def sites() -> Iterator[ExitStack]:
    """What keeps what is made; skips the test where nothing can be made."""
    try:
        require("ip", "nsenter")
    except NetworkUnavailable as error:
        pytest.skip(f"no network can be made here: {error}")
    sweep()
    with ExitStack() as stack:
        yield stack
