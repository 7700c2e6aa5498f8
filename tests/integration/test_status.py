"""What a real daemon tells of itself: numbers to all, names to administrators; and `kapla top`."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from eris import BlockSize
from kapla.http.admin.streaming import MOST_STREAMS
from tests.integration.commands import blocks_of
from tests.integration.daemon import GUARD_S, Daemon, program, running_daemon
from tests.integration.here import User
from tests.integration.http_daemon import HttpDaemon, Reply, ask_on

_CONTENT = b"holiday photos" * 10_000


class Told(HttpDaemon):
    """A daemon that tells of itself; it has a pin, a peer that is not there, and was read."""

    def __init__(self, daemon: Daemon, home: Path) -> None:
        super().__init__(daemon)
        self.me = User(home, daemon.url)

    @property
    def token(self) -> str:
        """That of this run."""
        url, _, token = self.me.out("doctor", "--status-url").partition("#")
        assert url == f"http://127.0.0.1:{self.admin_port}/"
        return token

    def told(self, path: str, token: str | None = None) -> Reply:
        """What is told by TCP."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.ask(path, headers=headers, admin=True)

    def facts(self, token: str | None = None) -> Any:
        """`/status`."""
        return json.loads(self.told("/status", token).body)

    def metric(self, name: str) -> float:
        """One metric, as it is now."""
        text = self.told("/metrics").body.decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        assert found, text
        return float(found[1])


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    home = tmp_path_factory.mktemp("status")
    args = ("--admin", "127.0.0.1:0", "--peer", "coap+tcp://127.0.0.1:1")
    with running_daemon(home, *args) as daemon:
        one = Told(daemon, home)
        urn = one.me.out("encode", "--no-pin", "-", stdin=_CONTENT)
        one.me("pin", "--name", "holiday", urn)
        one.me("encode", "-", stdin=b"without a name")
        one.me("decode", urn, "-")
        yield one
        assert "Traceback" not in daemon.log
        assert one.token not in daemon.log


def test_numbers_are_for_all_and_names_for_whoever_has_the_token(told: Told) -> None:
    for path in ("/status", "/peers", "/metrics", "/"):
        text = told.told(path).body.decode()
        assert "holiday" not in text, path
        assert "user 0" not in text, path
        assert "127.0.0.1:1" not in text, path
    facts = told.facts(told.token)
    assert facts["everything"] is True
    assert "holiday" in [pin["name"] for pin in facts["pins"]]
    assert facts["peers"][0]["url"] == "TCP 127.0.0.1:1"
    assert {one["who"] for one in facts["transfers"]} == {f"user {os.geteuid()}"}
    assert "holiday" in told.told("/", told.token).body.decode()
    assert told.told("/status", "x" + told.token).status == 401


def test_no_reference_and_no_urn_is_told(told: Told) -> None:
    shown = "\n".join(_texts(told.facts(told.token)))
    assert "urn:" not in shown
    # The pin without a name is called after its root.
    assert [len(name) for name in re.findall(r"[A-Z2-7]{8,}", shown)] == [8]


def _texts(facts: object) -> Iterator[str]:
    """All that is no number: of those some have digits only that names may have too."""
    if isinstance(facts, str):
        yield facts
    elif isinstance(facts, dict):
        for key, value in facts.items():
            yield from (key, *_texts(value))
    elif isinstance(facts, list):
        for value in facts:
            yield from _texts(value)


def test_counters_grow_by_what_was_moved(told: Told) -> None:
    names = (
        'kapla_given_blocks_total{source="store"}',
        'kapla_requests_total{kind="get"}',
        "kapla_put_bytes_total",
        "kapla_new_blocks_total",
    )
    before = [told.metric(name) for name in names]
    content = os.urandom(100_000)
    blocks = blocks_of(content, BlockSize.LARGE)
    urn = told.me.out("encode", "--no-pin", "-", stdin=content)
    told.me("decode", urn, "-")
    grown = [told.metric(name) - was for name, was in zip(names, before, strict=True)]
    # What a file is, is seen by its first block.
    assert grown[0] == grown[1] >= len(blocks)
    assert grown[2:] == [32768 * len(blocks), len(blocks)]


@pytest.fixture(scope="module")
def local() -> Iterator[tuple[Daemon, Path]]:
    """A daemon that tells of itself on a Unix socket, and gives blocks by TCP."""
    with tempfile.TemporaryDirectory(prefix="kapla-") as name:
        path = Path(name, "admin.sock")
        tcp = ["coap+tcp://127.0.0.1:0?get"]
        with running_daemon(Path(name), f"--admin=unix:{path}", listen=tcp) as daemon:
            daemon.wait_for_log("Telling of the daemon on")
            yield daemon, path


def test_a_unix_socket_tells_root_and_its_owner_everything(
    local: tuple[Daemon, Path], tmp_path: Path
) -> None:
    daemon, path = local
    with closing(_unix_client(path)) as client:
        assert json.loads(ask_on(client, "/status").body)["everything"] is True
        assert ask_on(client, "/healthz").body == b"ok\n"
        assert b"<html" in ask_on(client, "/").body
    # There is no page for a browser, so there is no address of one.
    error = User(tmp_path, daemon.url).error("doctor", "--status-url", code=6)
    assert "no page" in error
    assert 'admin = "127.0.0.1:9080"' in error


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_others_on_a_unix_socket_are_told_numbers(local: tuple[Daemon, Path]) -> None:
    _, path = local
    path.chmod(0o666)
    path.parent.chmod(0o755)
    script = (
        "import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        " one = socket.socket(socket.AF_UNIX); one.settimeout(30); one.connect(sys.argv[1]);"
        " one.sendall(b'GET /status HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n');"
        " print(one.makefile('rb').read().decode())"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, str(path)],
        capture_output=True,
        check=True,
        timeout=GUARD_S,
    )
    assert '"everything": false' in done.stdout.decode()


def test_the_store_answers(told: Told) -> None:
    assert (told.told("/healthz").status, told.told("/healthz").body) == (200, b"ok\n")
    assert told.ask("/healthz", headers={"Host": "evil.example"}, admin=True).status == 403


# --- events -------------------------------------------------------------------------------------


@contextmanager
def _following(port: int, token: str | None = None) -> Iterator[http.client.HTTPResponse]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=GUARD_S)) as client:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        client.request("GET", "/events", headers=headers)
        yield client.getresponse()


def _next_view(stream: http.client.HTTPResponse) -> str:
    while line := stream.readline():
        if line.startswith(b"data: "):
            return str(json.loads(line.removeprefix(b"data: ")))
    raise AssertionError("the stream has ended")


def test_figures_come_as_they_change(told: Told) -> None:
    with _following(told.admin_port) as some, _following(told.admin_port, told.token) as every:
        assert some.getheader("Content-Type") == "text/event-stream"
        view = _next_view(some)
        assert "holiday" not in view
        assert "Traffic now" in view
        assert "holiday" in _next_view(every)


def test_few_follow_at_a_time_and_places_are_given_back(told: Told) -> None:
    with ExitStack() as first, ExitStack() as others:
        kept = first.enter_context(_following(told.admin_port))
        assert kept.status == 200
        refused = [others.enter_context(_following(told.admin_port)) for _ in range(MOST_STREAMS)]
        assert refused[-1].status == 503
        assert b"8 pages follow it already" in refused[-1].read()
        others.close()
        # The daemon learns that somebody has gone when it writes to them.
        end = time.monotonic() + GUARD_S
        is_given_back = False
        while not is_given_back:
            assert time.monotonic() < end
            _next_view(kept)
            with _following(told.admin_port) as again:
                is_given_back = again.status == 200


# --- kapla top ----------------------------------------------------------------------------------


def test_top_is_text_where_there_is_no_terminal(told: Told) -> None:
    for arguments in ((), ("--once",)):
        text = told.me.out("top", *arguments)
        assert text.startswith("kaplad  up ")
        assert "holiday" in text
        assert "\x1b" not in text
    facts = json.loads(told.me.out("top", "--json"))
    assert facts["everything"] is True
    assert facts.keys() == told.facts(told.token).keys()


def test_top_says_what_is_wrong(local: tuple[Daemon, Path], tmp_path: Path) -> None:
    stranger = User(tmp_path, local[0].tcp_url)
    assert "needs the flag stat" in stranger.error("top", "--once", code=6)
    assert "on its Unix socket" in stranger.error("doctor", "--status-url", code=6)
    stranger("top", "--once", "--json", code=2)


class Terminal:
    """`kapla top` on a terminal of its own."""

    def __init__(self, url: str, rows: int, columns: int) -> None:
        self.shown = b""
        self._process, self._terminal = pty.fork()
        if not self._process:
            os.environ |= {"TERM": "xterm-256color"}
            arguments = ["top", "--interval", "0.5", "--store-url", url]
            os.execv(program("kapla"), ["kapla", *arguments])
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    def wait_for(self, text: str) -> None:
        """Wait until this is shown, after all that was waited for before."""
        end = time.monotonic() + GUARD_S
        while text.encode() not in self.shown:
            assert time.monotonic() < end, self.shown
            self._read(1.0)
        self.shown = self.shown.partition(text.encode())[2]

    def press(self, keys: bytes) -> None:
        """Press these."""
        os.write(self._terminal, keys)

    def end(self) -> int:
        """Wait until it has ended; returns its exit code."""
        end = time.monotonic() + GUARD_S
        while not (found := os.waitpid(self._process, os.WNOHANG))[0]:
            if time.monotonic() > end:
                os.kill(self._process, signal.SIGKILL)
            self._read(0.1)
        self._read(0.0)
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(found[1])

    def _read(self, timeout_s: float) -> None:
        if select.select([self._terminal], [], [], timeout_s)[0]:
            try:
                self.shown += os.read(self._terminal, 1 << 16)
            except OSError:
                # It has ended.
                return


@contextmanager
def _terminal(url: str, rows: int = 24, columns: int = 80) -> Iterator[Terminal]:
    one = Terminal(url, rows, columns)
    try:
        yield one
    finally:
        with suppress(ProcessLookupError):
            os.kill(one._process, signal.SIGKILL)


def test_a_restart_ends_streams_and_the_token_and_top_waits_for_it(tmp_path: Path) -> None:
    with (
        running_daemon(tmp_path, "--admin", "127.0.0.1:0") as daemon,
        _terminal(daemon.url) as top,
    ):
        one = Told(daemon, tmp_path)
        token = one.token
        top.wait_for("Pins and lending")
        with _following(one.admin_port) as stream:
            assert daemon.stop() == 0
            # To its end, and not broken off.
            stream.read()
        top.wait_for("waiting for Unix socket")
        daemon.start()
        assert one.told("/status", token).status == 401
        assert one.token != token
        top.wait_for("q ends")
        top.press(b"q")
        assert top.end() == 0
        # The screen that was there before, and the cursor.
        assert top.shown.endswith((b"\x1b[?1049l", b"\x1b[?25h"))


def test_top_ends_by_control_c_on_a_narrow_terminal(told: Told) -> None:
    with _terminal(told.daemon.url, 24, 40) as one:
        one.wait_for("q ends, ↑ ↓ scroll")
        one.press(b"\x03")
        assert one.end() == 0


def _unix_client(path: Path) -> http.client.HTTPConnection:
    client = http.client.HTTPConnection("localhost", timeout=GUARD_S)
    client.sock = socket.socket(socket.AF_UNIX)
    client.sock.settimeout(GUARD_S)
    client.sock.connect(str(path))
    return client
