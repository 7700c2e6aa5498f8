"""A `kaplad` on a host of the network, with a store and a key of its own, and peers to ask."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.network import Host
from benchmarks.testbed.hostile import Kind

__all__ = ["PLAIN_PORT", "TLS_PORT", "Daemon", "Peer", "hostile_peer", "own_environment", "program"]

PLAIN_PORT: Final = 5683
TLS_PORT: Final = 5684
_PATIENCE_S: Final = 20
_LOOK_S: Final = 0.02
_ROOT: Final = Path(__file__).parents[2]
_OF_A_USER: Final = re.compile(r"(ERIS|KAPLA|XDG)_|STATE_DIRECTORY$|NOTIFY_SOCKET$")


def program(name: str) -> str:
    """An installed command of this environment."""
    return str(Path(sys.executable).with_name(name))


@dataclass(frozen=True)
class Peer:
    """Somebody a daemon knows: by the URL that it dials, or by the key of who dials it."""

    name: str
    url: str | None = None
    key: str | None = None
    rights: tuple[str, ...] = ("lend",)

    @property
    def shown(self) -> str:
        """What daemons call it: its key if it has one, else its URL."""
        return self.key or str(self.url).rpartition("#")[2]

    def format(self) -> str:
        """As a table of the configuration."""
        who = f"url = {json.dumps(self.url)}" if self.url else f"key = {json.dumps(self.key)}"
        rights, name = json.dumps(self.rights), json.dumps(self.name)
        return f"[[peers]]\n{who}\nrights = {rights}\nname = {name}\n"


@dataclass
class Daemon:
    """One daemon: its store and key stay in place when it is restarted.

    It listens on a Unix socket, which belongs to no host, with TLS for peers, who get what is lent,
    and without TLS for whoever is to get all.
    """

    host: Host
    directory: Path
    peers: Sequence[Peer] = ()
    ports: tuple[int, int] = (PLAIN_PORT, TLS_PORT)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _key: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True)

    @property
    def url(self) -> str:
        """Where its own users reach it."""
        return f"coap+unix://{self.directory}/s"

    @property
    def plain_url(self) -> str:
        """Where anybody on the network gets any block."""
        return f"coap+tcp://{self.host.address}:{self.ports[0]}"

    @property
    def peer_url(self) -> str:
        """Where peers dial it."""
        return f"coaps+tcp://{self.host.address}:{self.ports[1]}#{self.key}"

    @property
    def dialled(self) -> Peer:
        """It, for those who dial it."""
        return Peer(self.host.name, url=self.peer_url)

    def known(self, *rights: str) -> Peer:
        """It, for those whom it dials; without rights they lend to it."""
        return Peer(self.host.name, key=self.key, rights=rights or ("lend",))

    @property
    def key(self) -> str:
        """Its key as text, made if there was none."""
        if self._key is None:
            command: list[str | Path] = [program("kaplad"), "--print-key"]
            done = subprocess.run(
                command, env=own_environment(self.directory), check=True, capture_output=True
            )
            self._key = done.stdout.decode().strip()
        return self._key

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return (self.directory / "log").read_text(errors="replace")

    @property
    def cpu_s(self) -> float:
        """Processor time of its threads, to the microsecond."""
        assert self._process is not None
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    def until_connected(self, *peers: Peer) -> None:
        """Wait until it has reached these peers.

        Raises: RuntimeError, with its log.
        """
        deadline = time.monotonic() + _PATIENCE_S
        lines = [f"Peer {peer.shown} is connected" for peer in peers]
        while any(line not in self.log for line in lines):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.host.name} has not reached its peers: {self.log}")
            time.sleep(_LOOK_S)

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._process is not None

    def start(self) -> None:
        """Start it; returns when it listens.

        Raises: RuntimeError with its log, if it does not.
        """
        config = self.directory / "kapla.toml"
        config.write_text("\n".join(peer.format() for peer in self.peers))
        plain, tls = self.ports
        listen = (self.url, f"coaps+tcp://0.0.0.0:{tls}", f"coap+tcp://0.0.0.0:{plain}?get")
        command: list[str | Path] = [
            program("kaplad"),
            "--config",
            config,
            "--store",
            self.directory / "b.sqlite",
        ]
        command += [word for url in listen for word in ("--listen", url)]
        with _readiness(self.directory) as is_ready, (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.host.command(*command),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
            if not is_ready(self._process):
                self.kill()
                raise RuntimeError(f"kaplad did not start on {self.host.name}: {self.log}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it, by SIGKILL if it is not done in time."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End it as a power cut does."""
        self.stop(signal.SIGKILL)

    def _environment(self) -> dict[str, str]:
        return own_environment(self.directory) | {"NOTIFY_SOCKET": str(self.directory / "ready")}


def own_environment(directory: Path) -> dict[str, str]:
    """The environment, with nothing of whoever runs this but the path to the programs."""
    kept = {name: value for name, value in os.environ.items() if not _OF_A_USER.match(name)}
    places = ("HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")
    return kept | dict.fromkeys(places, str(directory))


@contextmanager
def _readiness(directory: Path) -> Iterator[Callable[[subprocess.Popen[bytes]], bool]]:
    """What waits until a process says that it is ready, as services tell systemd; False: never."""
    path = directory / "ready"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(0.2)

        def is_ready(process: subprocess.Popen[bytes]) -> bool:
            deadline = time.monotonic() + _PATIENCE_S
            while process.poll() is None and time.monotonic() < deadline:
                with suppress(TimeoutError):
                    if b"READY=1" in listening.recv(4096):
                        return True
            return False

        try:
            yield is_ready
        finally:
            path.unlink()


@contextmanager
def hostile_peer(kind: Kind, host: Host, content: Path) -> Iterator[str]:
    """A peer that is worse than none; gives the URL where daemons dial it."""
    words = ("-m", "benchmarks.testbed.hostile", kind.value, host.address, str(PLAIN_PORT))
    with subprocess.Popen(
        host.command(sys.executable, *words, content), stdout=subprocess.PIPE, cwd=_ROOT
    ) as process:
        assert process.stdout is not None
        try:
            if not process.stdout.readline().startswith(b"ready"):
                raise RuntimeError(f"the hostile peer did not start on {host.name}")
            yield f"coap+tcp://{host.address}:{PLAIN_PORT}"
        finally:
            process.kill()
