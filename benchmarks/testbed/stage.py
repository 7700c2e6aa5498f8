"""What all scenarios need: a network, daemons on it, commands, and what came when."""

from __future__ import annotations

import filecmp
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.network import Network, Plan, Traffic, network
from benchmarks.scratch import kept_directory
from benchmarks.testbed.daemons import PLAIN_PORT, TLS_PORT, Daemon, Peer, own_environment, program

__all__ = ["Content", "Curve", "Decoding", "Failed", "Stage", "make_content", "stage"]

_LOOK_S: Final = 0.1


class Failed(Exception):
    """A scenario did not go as it must, however fast; says how."""


@dataclass(frozen=True)
class Content:
    """A file of random bytes, and its URN once a daemon has it."""

    path: Path
    size: int


class Curve(NamedTuple):
    """Bytes that came to a host by each moment: seconds since the beginning, bytes."""

    name: str
    points: list[tuple[float, int]]


def make_content(seed: int, size: int) -> Content:
    """Make the content of this seed."""
    path = kept_directory() / f"content-{seed}"
    path.write_bytes(random.Random(seed).randbytes(size))
    return Content(path, size)


@dataclass
class Decoding:
    """A `kapla decode` under way, or done."""

    content: Content
    out: Path
    process: subprocess.Popen[str]
    begin: float
    seconds: float = 0.0

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def wait(self, limit_s: float) -> float:
        """Wait for its end; returns how long it took, in seconds.

        Raises: Failed, if it ends late, or in another way, or with other bytes.
        """
        try:
            _, complaints = self.process.communicate(timeout=max(0.1, limit_s))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise Failed(f"a decode did not end within {limit_s:.0f} s") from None
        self.seconds = time.perf_counter() - self.begin
        if self.process.returncode:
            raise Failed(f"a decode ended with {self.process.returncode}: {complaints.strip()}")
        if not filecmp.cmp(self.content.path, self.out, shallow=False):
            raise Failed("a decode gave other bytes")
        self.out.unlink()
        return self.seconds


@dataclass
class Stage:
    """A network, and what is played on it."""

    net: Network
    directory: Path
    _stack: ExitStack
    _count: int = field(default=0, init=False)

    def daemon(
        self,
        host: str,
        peers: Sequence[Peer] = (),
        *,
        ports: tuple[int, int] = (PLAIN_PORT, TLS_PORT),
        started: bool = True,
    ) -> Daemon:
        """A daemon on a host, with an empty store, which ends with the stage at the latest."""
        self._count += 1
        made = Daemon(self.net.host(host), self.directory / f"{self._count}", peers, ports)
        self._stack.callback(made.kill)
        if started:
            made.start()
        return made

    def encode(self, content: Content, url: str, *options: str) -> str:
        """Store a content in a daemon that lends it; returns its URN."""
        command = [program("kapla"), "encode", "--store-url", url, "--no-catalogue", *options]
        done = subprocess.run(
            [*command, content.path],
            env=own_environment(self.directory),
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def decode(self, content: Content, urn: str, url: str, host: str | None = None) -> Decoding:
        """Begin to decode, on a host if the URL needs one."""
        self._count += 1
        out = self.directory / f"out-{self._count}"
        command = [program("kapla"), "decode", "--store-url", url, urn, str(out)]
        if host is not None:
            command = self.net.host(host).command(*command)
        process = subprocess.Popen(
            command,
            env=own_environment(self.directory),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._stack.callback(process.kill)
        return Decoding(content, out, process, time.perf_counter())

    def decode_until_right(
        self, decodings: Mapping[str, Decoding], urn: str, limit_s: float
    ) -> int:
        """Wait for decodes, by the URLs that they ask; those that fail are begun again at once.

        Returns how often. Raises: Failed, if they are not all done in time.
        """
        again, waiting = 0, dict(decodings)
        deadline = time.monotonic() + limit_s
        while waiting:
            for url, decoding in list(waiting.items()):
                if decoding.is_running and time.monotonic() < deadline:
                    continue
                try:
                    decoding.wait(0)
                    del waiting[url]
                except Failed:
                    if time.monotonic() > deadline:
                        raise
                    again += 1
                    waiting[url] = self.decode(decoding.content, urn, url)
            time.sleep(_LOOK_S)
        return again

    def counting(self) -> Callable[[], dict[str, Traffic]]:
        """What tells how much went over each line since now."""
        before = self.net.traffic()

        def since() -> dict[str, Traffic]:
            return {
                name: Traffic(now.received - before[name].received, now.sent - before[name].sent)
                for name, now in self.net.traffic().items()
            }

        return since

    @contextmanager
    def watched(self, *hosts: str, sender: str | None = None) -> Iterator[dict[str, Curve]]:
        """Note meanwhile what has come to these hosts, and what has left the sender."""
        curves = {name: Curve(name, [(0.0, 0)]) for name in hosts}
        if sender is not None:
            curves[sender] = Curve(sender, [(0.0, 0)])
        over, begin, since = threading.Event(), time.perf_counter(), self.counting()

        def look() -> None:
            while not over.wait(_LOOK_S):
                now, seen = time.perf_counter() - begin, since()
                for name, curve in curves.items():
                    traffic = seen[name]
                    count = traffic.sent if name == sender else traffic.received
                    curve.points.append((now, count))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield curves
        finally:
            over.set()
            thread.join()


@contextmanager
def stage(plan: Plan) -> Iterator[Stage]:
    """A stage for as long as the context lasts; all that runs on it ends with it.

    Raises: NetworkUnavailable.
    """
    with ExitStack() as stack:
        net = stack.enter_context(network(plan))
        yield Stage(net, kept_directory(), stack)
