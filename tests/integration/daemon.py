"""A real `kaplad` in a process of its own, and a raw peer to talk to it.

Everything the daemon needs lies in a short temporary directory of its own: the path of a Unix
socket has 107 bytes at most, and pytest's directories can be longer. Nothing here sleeps: the
daemon's log is read by a thread, and whoever waits for a line is woken by it. Who asks for the
log gets all that was written before: what a daemon does after it said so can be waited for instead.
"""

from __future__ import annotations

import codecs
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from kapla.coap.frame import Code, FrameReader, Message, format_message, parse_body
from tests.loaded import Forked, can_be_forked

__all__ = [
    "GUARD_S",
    "Daemon",
    "RawPeer",
    "handing",
    "program",
    "running_daemon",
    "stopped_daemon",
    "wait_until",
]

GUARD_S = 120.0
"""A guard against hanging; nothing that works comes near it."""

_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.1

_LISTENING = re.compile(r"Listening on (Unix socket|TCP|TLS) (\S+)")


def program(name: str) -> str:
    """An installed command of this environment, such as `kaplad`."""
    return str(Path(sys.executable).parent / name)


class Daemon:
    """One `kaplad`: its store and socket stay in place when it is restarted."""

    def __init__(
        self,
        directory: Path,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        *,
        listen: Sequence[str] | None = None,
        store: Path | None = None,
        installed: bool = False,
    ) -> None:
        """`installed`: run the program as a user does, and not a fork of what has loaded it."""
        self.directory = directory
        self.socket = directory / "eris.sock"
        self.store = directory / "blocks.sqlite" if store is None else store
        """The database file."""
        self.tcp_port = 0
        """The port of the last TCP listener; 0 when there is none."""
        self.tls_port = 0
        """The port of the last TLS listener; 0 when there is none."""
        self.handed: Sequence[socket.socket] = ()
        """Sockets that it gets as a service manager hands them over, open or not."""
        self._args = list(args)
        self._listen = [self.url] if listen is None else list(listen)
        self._env = {
            **{name: value for name, value in os.environ.items() if not _is_setting(name)},
            "HOME": str(directory),
            "XDG_RUNTIME_DIR": str(directory),
            "XDG_STATE_HOME": str(directory / "state"),
            **(env or {}),
        }
        self._installed = installed or not can_be_forked(self._env)
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._reader: threading.Thread | None = None
        self._log = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._seen = 0
        self._ended = False
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        """The store URL of the Unix socket."""
        return f"coap+unix://{self.socket}"

    @property
    def tcp_url(self) -> str:
        """The store URL of the TCP listener."""
        assert self.tcp_port, "this daemon has no TCP listener"
        return f"coap+tcp://127.0.0.1:{self.tcp_port}"

    @property
    def key(self) -> str:
        """The key that the daemon says it has."""
        found = re.search(r"Listening on TLS \S+ as (ed25519:\S+)", self.log)
        assert found, "this daemon has no listener by key"
        return found[1]

    @property
    def tls_url(self) -> str:
        """The store URL of the TLS listener, with the daemon's key."""
        return f"coaps+tcp://127.0.0.1:{self.tls_port}#{self.key}"

    @property
    def log(self) -> str:
        """What the daemon has written to stderr so far, all runs together."""
        with self._changed:
            self._take_log()
            return self._log

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None, "the daemon is not running"
        return self._process.pid

    @property
    def command(self) -> list[str]:
        """What is run."""
        listeners = [part for url in self._listen for part in ("--listen", url)]
        own = [program("kaplad"), "--store", str(self.store), *listeners, *self._args]
        return handing(self.handed, own) if self.handed else own

    @property
    def network(self) -> Path | None:
        """A file that stands for the network namespace in which it runs; None: that of here."""
        return None

    def spawn(self) -> None:
        """Start the process without waiting until it listens: for daemons that should fail."""
        assert self._process is None, "the daemon is already running"
        self._ended = False
        self._seen = len(self._log)
        self._process = self._started()
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def start(self) -> None:
        """Start the process and wait until all its listeners are open."""
        self.spawn()
        listeners = max(1, len(self._listen))

        def listening() -> bool:
            return len(_LISTENING.findall(self._log, self._seen)) >= listeners

        self._wait(listening, "its listeners")
        for kind, where in _LISTENING.findall(self.log, self._seen):
            if kind == "TCP":
                self.tcp_port = int(where.rsplit(":", 1)[1])
            elif kind == "TLS":
                self.tls_port = int(where.rsplit(":", 1)[1])

    def wait_for_log(self, text: str) -> None:
        """Wait until the log of this run contains `text`."""
        self._wait(lambda: text in self._log[self._seen :], repr(text))

    def wait(self) -> int:
        """Wait until the process ends by itself; returns its exit code."""
        assert self._process is not None and self._reader is not None
        try:
            code = self._process.wait(GUARD_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"kaplad did not end; its log:\n{self.log}") from None
        self._reader.join(GUARD_S)
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process = None
        return code

    def stop(self) -> int:
        """Send SIGTERM; returns the exit code. Does nothing when it is not running."""
        return self._signal(signal.SIGTERM)

    def interrupt(self) -> int:
        """Send SIGINT; returns the exit code."""
        return self._signal(signal.SIGINT)

    def kill(self) -> int:
        """Send SIGKILL: the daemon gets no chance to put anything in order."""
        return self._signal(signal.SIGKILL)

    def restart(self) -> None:
        """Stop, if running, and start again on the same store."""
        self.stop()
        self.start()

    def anonymous_bytes(self) -> int:
        """RssAnon: the memory that is the daemon's own, without mapped files."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no RssAnon in /proc")

    def connect(self, *, csm: bool = True) -> RawPeer:
        """A raw peer on the Unix socket."""
        return RawPeer.unix(self.socket, csm=csm)

    def connect_tcp(self, *, csm: bool = True) -> RawPeer:
        """A raw peer on the TCP listener."""
        return RawPeer.tcp("127.0.0.1", self.tcp_port, csm=csm)

    def _started(self) -> subprocess.Popen[bytes] | Forked:
        first, *arguments = command = self.command
        network = self.network
        if first == program("kaplad") and not self._installed:
            return Forked.with_errors(
                "kaplad", arguments, self._env, self.directory, network=network
            )
        entering = [] if network is None else ["nsenter", f"--net={network}"]
        return subprocess.Popen(
            [*entering, *command],
            env=self._env,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[one.fileno() for one in self.handed],
        )

    def _signal(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        return self.wait()

    def _read_log(self) -> None:
        process = self._process
        assert process is not None and process.stderr is not None
        readable = select.poll()
        readable.register(process.stderr, select.POLLIN)
        while not self._ended:
            readable.poll()
            with self._changed:
                self._take_log()

    def _take_log(self) -> None:
        """Take over all that is in the pipe; `_changed` is held."""
        while self._process is not None and not self._ended:
            assert self._process.stderr is not None
            try:
                piece = os.read(self._process.stderr.fileno(), 1 << 16)
            except BlockingIOError:
                return
            self._log += self._decoder.decode(piece)
            self._ended = not piece
            self._changed.notify_all()

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._ended, GUARD_S)
            happened = condition()
        if not happened:
            log = self.log
            self.kill()
            raise AssertionError(f"kaplad did not show {what}; its log:\n{log}")


_HANDING = """
import os, sys
names, numbers = sys.argv[1], list(map(int, sys.argv[2].split(",")))
# Out of the way first: one may have the place of another.
moved = [os.dup(number) for number in numbers]
moved = [os.dup2(number, 200 + place) for place, number in enumerate(moved)]
for place, number in enumerate(moved):
    os.dup2(number, 3 + place, inheritable=True)
    os.set_inheritable(number, False)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(moved)), LISTEN_FDNAMES=names)
os.execv(sys.argv[3], sys.argv[3:])
"""


def handing(sockets: Sequence[socket.socket], command: Sequence[str]) -> list[str]:
    """A command that runs another as a service manager does that hands sockets over.

    Whoever runs it passes them on by their own numbers.
    """
    names = ":".join(f"socket{place}" for place, _ in enumerate(sockets))
    numbers = ",".join(str(one.fileno()) for one in sockets)
    return [sys.executable, "-c", _HANDING, names, numbers, *command]


def _is_setting(name: str) -> bool:
    return name.startswith(("KAPLA_", "XDG_", "ERIS_")) and name != "KAPLA_PEERS_PYTHON"


@contextmanager
def running_daemon(
    tmp_path: Path | None = None,
    *args: str,
    listen: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    store: Path | None = None,
    installed: bool = False,
) -> Iterator[Daemon]:
    """A daemon on a Unix socket, and on the URLs in `listen`, until the end of the context.

    `coap+tcp://127.0.0.1:0?get&put` listens on a free port. `args` are further arguments of
    `kaplad`; the store lies in `tmp_path` if that is given. `installed` is as of `Daemon`.
    """
    with stopped_daemon(
        tmp_path, *args, listen=listen, env=env, store=store, installed=installed
    ) as daemon:
        daemon.start()
        yield daemon


@contextmanager
def stopped_daemon(
    tmp_path: Path | None = None,
    *args: str,
    listen: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    store: Path | None = None,
    installed: bool = False,
) -> Iterator[Daemon]:
    """As `running_daemon`, but not yet started."""
    with tempfile.TemporaryDirectory(prefix="kapla-") as name:
        directory = Path(name)
        if store is None and tmp_path is not None:
            store = tmp_path / "blocks.sqlite"
        daemon = Daemon(directory, args, env, store=store, installed=installed)
        daemon._listen += listen
        try:
            yield daemon
        finally:
            daemon.kill()
            shutil.rmtree(directory, ignore_errors=True)


class RawPeer:
    """A peer over a blocking socket that says exactly what it is told to say."""

    def __init__(self, connected: socket.socket, *, csm: bool = True) -> None:
        self.socket = connected
        self.socket.settimeout(GUARD_S)
        self._reader = FrameReader(1 << 24)
        self._messages: list[Message] = []
        if csm:
            self._greet()

    def _greet(self) -> None:
        # The other side may have closed by now; what it said before can be read.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.send(format_message(Code.CSM, options=[(2, b"\x10\x00\x00"), (4, b"")]))

    @classmethod
    def unix(cls, path: Path, *, csm: bool = True) -> Self:
        """Connect to a Unix socket."""
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connecting.settimeout(GUARD_S)
        connecting.connect(str(path))
        return cls(connecting, csm=csm)

    @classmethod
    def tcp(cls, host: str, port: int, *, csm: bool = True) -> Self:
        """Connect to a TCP port."""
        return cls(socket.create_connection((host, port), GUARD_S), csm=csm)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def send_message(
        self,
        code: int,
        token: bytes = b"",
        options: Sequence[tuple[int, bytes]] = (),
        payload: bytes = b"",
    ) -> None:
        """Send one well-formed message."""
        self.send(format_message(code, token, options, payload))

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def receive(self) -> Message | None:
        """The next message, signals included; None when the other side has closed."""
        while not self._messages:
            try:
                data = self.socket.recv(1 << 18)
            except ConnectionResetError:
                return None
            if not data:
                return None
            for code, token, buffer, start, stop in self._reader.feed(data):
                options, payload = parse_body(buffer, start, stop)
                self._messages.append(Message(code, token, options, payload))
            assert self._reader.failure is None, self._reader.failure
        return self._messages.pop(0)

    def response(self) -> Message:
        """The next message that is no signal."""
        while True:
            message = self.receive()
            assert message is not None, "the connection was closed"
            if message.code < Code.CSM:
                return message

    def responses(self, count: int) -> list[Message]:
        """The next `count` messages that are no signals."""
        return [self.response() for _ in range(count)]

    def request(
        self,
        code: int,
        token: bytes = b"t",
        options: Sequence[tuple[int, bytes]] = (),
        payload: bytes = b"",
    ) -> Message:
        """Send one request and wait for its response."""
        self.send_message(code, token, options, payload)
        message = self.response()
        assert message.token == token
        return message

    def rest(self) -> list[Message]:
        """All messages until the other side closes."""
        messages = []
        while (message := self.receive()) is not None:
            messages.append(message)
        return messages


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that nobody announces, looking again and again without sleeping long."""
    deadline = time.monotonic() + GUARD_S
    woken = threading.Event()
    pause_s = _FIRST_PAUSE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        woken.wait(pause_s)
        # Looking takes a daemon's time too, which others need for what is waited for.
        pause_s = min(_LONGEST_PAUSE_S, 1.5 * pause_s)
