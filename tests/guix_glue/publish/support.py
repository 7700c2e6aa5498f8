"""A real `kapla publish` on a free port of the loopback, items to publish, and raw requests."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from guix_glue.formats import nixbase32
from guix_glue.formats.narinfo import Narinfo, parse_narinfo
from guix_glue.trust.acl import Acl
from tests.integration.daemon import GUARD_S, program, wait_until
from tests.loaded import Forked, can_be_forked

__all__ = [
    "SAMPLES",
    "Answer",
    "Publisher",
    "make_item",
    "nar_of",
    "nothing_half_made",
    "publishing",
    "wait_until",
]

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
ACL = Acl.parse((SAMPLES / "keys" / "acl").read_bytes())
KEYS = (
    *("--public-key", SAMPLES / "keys" / "signing-key.pub"),
    *("--private-key", SAMPLES / "keys" / "signing-key.sec"),
)

_LISTENING = re.compile(r"Listening on http://(?:127\.0\.0\.1|0\.0\.0\.0):(\d+)")


def make_item(directory: Path, name: str) -> Path:
    """Where an item of this name is to be made, with a hash part that depends on it."""
    digest = hashlib.sha256(name.encode()).digest()[:20]
    return directory / f"{nixbase32.encode(digest)}-{name}"


def nar_of(path: Path) -> bytes:
    """The nar of some files, by the shortest possible writer."""

    def string(data: bytes) -> bytes:
        return struct.pack("<Q", len(data)) + data + bytes(-len(data) % 8)

    def node(path: bytes) -> bytes:
        if os.path.islink(path):
            parts = [b"type", b"symlink", b"target", os.readlink(path)]
        elif os.path.isdir(path):
            body = b"".join(
                string(b"entry") + string(b"(") + string(b"name") + string(name) + string(b"node")
                + node(os.path.join(path, name)) + string(b")")
                for name in sorted(os.listdir(path))
            )  # fmt: skip
            return string(b"(") + string(b"type") + string(b"directory") + body + string(b")")
        else:
            x = [b"executable", b""] if os.stat(path).st_mode & 0o100 else []
            parts = [b"type", b"regular", *x, b"contents", Path(os.fsdecode(path)).read_bytes()]
        return b"".join(map(string, [b"(", *parts, b")"]))

    return string(b"nix-archive-1") + node(os.fsencode(path))


@dataclass(frozen=True)
class Answer:
    """A whole reply; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def max_age(self) -> int | None:
        """The one directive of Cache-Control."""
        value = self.headers.get("cache-control")
        return None if value is None else int(value.removeprefix("max-age="))

    def narinfo(self, store_dir: str = "/gnu/store") -> Narinfo:
        """The body, read as a narinfo."""
        assert self.status == 200, self
        return parse_narinfo(self.body, store_dir=store_dir)


class Publisher:
    """`kapla publish` in a process of its own; its cache stays when it is started again.

    `prefix` is a command that runs it; `debug` makes its log complete. `command` is another server
    of ours that is started and ended in the same way.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        env: Mapping[str, str],
        *,
        prefix: Sequence[str] = (),
        debug: bool = False,
        command: str = "publish",
        network: Path | None = None,
    ) -> None:
        """`network`: a file that stands for the network namespace in which it runs."""
        self.arguments = [str(argument) for argument in arguments]
        self._prefix = prefix
        self._network = network
        self._words = [*(["--debug"] if debug else []), command]
        self._env = {**os.environ, **env}
        self._changed = threading.Condition()
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self.log = ""
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.log = ""
        self._process = self._started()
        threading.Thread(target=self._read_log, args=(self._process,), daemon=True).start()
        self.wait_for_log("Listening on http://")
        match = _LISTENING.search(self.log)
        assert match, self.log
        self.port = int(match[1])

    def wait_for_log(self, text: str) -> None:
        """Wait until the log has this text."""
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.log, GUARD_S), self.log

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; returns the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(GUARD_S)
        self._process = None
        return code

    def close(self) -> None:
        """Kill it if it runs."""
        if self._process is not None:
            self.stop(signal.SIGKILL)

    def request(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Make one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=GUARD_S)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            connection.endheaders()
            reply = connection.getresponse()
            found = {name.lower(): value for name, value in reply.getheaders()}
            # The one thing in which equal replies differ.
            del found["date"]
            return Answer(reply.status, found, reply.read())
        finally:
            connection.close()

    def narinfo(self, item: Path) -> Answer:
        """Ask for an item's narinfo."""
        return self.request(f"/{item.name[:32]}.narinfo")

    def baked(self, item: Path, *, urn: bool = False, store_dir: str = "/gnu/store") -> Answer:
        """Ask for an item's narinfo until it is complete."""

        answer = self.narinfo(item)

        def complete() -> bool:
            nonlocal answer
            answer = self.narinfo(item)
            narinfo = answer.narinfo(store_dir)
            has_urn = (narinfo.signed_urn or narinfo.hint_urn) is not None
            return "none" not in [url.compression for url in narinfo.urls] and has_urn == urn

        wait_until(complete, "an item to be baked")
        return answer

    def connect(self) -> socket.socket:
        """A raw connection."""
        return socket.create_connection(("127.0.0.1", self.port), GUARD_S)

    def _started(self) -> subprocess.Popen[bytes] | Forked:
        arguments = [*self._words, *self.arguments]
        if not self._prefix and can_be_forked(self._env):
            return Forked.with_errors("kapla", arguments, self._env, network=self._network)
        entering = [] if self._network is None else ["nsenter", f"--net={self._network}"]
        return subprocess.Popen(
            [*self._prefix, *entering, program("kapla"), *arguments],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def _read_log(self, process: subprocess.Popen[bytes] | Forked) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            with self._changed:
                self.log += line.decode("utf-8", "replace")
                self._changed.notify_all()


@contextmanager
def publishing(
    tmp_path: Path,
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    debug: bool = False,
) -> Iterator[Publisher]:
    """A publisher with its cache in a directory, until the end of the context."""
    fixed = ("--listen", "127.0.0.1", "--port", "0", "--cache", tmp_path / "cache")
    publisher = Publisher([*fixed, *arguments], env or {}, prefix=prefix, debug=debug)
    try:
        publisher.start()
        yield publisher
    finally:
        publisher.close()


def nothing_half_made(cache: Path) -> None:
    """Nothing of what was begun stays in a cache; what is tried again is there for a moment."""
    wait_until(lambda: not os.listdir(cache / "v1" / "tmp"), "what is half made to be removed")
