"""What a real daemon tells of itself by HTTP, and whom."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kapla.http.wire.n2r import format_n2r
from tests.integration.daemon import GUARD_S, running_daemon
from tests.integration.here import User
from tests.integration.http_daemon import PUBLIC, HttpDaemon, http_daemon


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpDaemon]:
    with http_daemon(tmp_path_factory.mktemp("admin")) as running:
        yield running


def test_the_facts_of_stat_and_peers(daemon: HttpDaemon, tmp_path: Path) -> None:
    me = User(tmp_path, daemon.daemon.url)
    status = daemon.ask("/status", admin=True)
    assert status.status == 200
    assert status.headers["Content-Type"] == "application/json"
    assert status.headers["Cache-Control"] == "no-store"
    facts, told = json.loads(status.body), json.loads(me.out("stat", "--json"))
    assert facts.keys() > told.keys()
    assert facts["blocks"] == told["blocks"]
    assert json.loads(daemon.ask("/peers", admin=True).body) == []
    head = daemon.ask("/status", "HEAD", admin=True)
    assert (head.status, head.body) == (200, b"")


def test_the_facts_of_peers(tmp_path: Path) -> None:
    peer = "coap+tcp://127.0.0.1:1"
    with running_daemon(tmp_path, "--admin", "127.0.0.1:0", "--peer", peer) as one:
        door, me = HttpDaemon(one), User(tmp_path, one.url)
        token = me.out("doctor", "--status-url").strip().partition("#")[2]
        shown = {"Authorization": f"Bearer {token}"}
        (facts,) = json.loads(door.ask("/peers", headers=shown, admin=True).body)
        told = json.loads(me.out("peers", "--json"))
        assert facts.keys() == told.keys()
        assert facts["url"] == told["url"] == "TCP 127.0.0.1:1"
        # Who else asks is told how they are, and not who.
        (numbers,) = json.loads(door.ask("/peers", admin=True).body)
        assert numbers.keys() < told.keys()
        assert not numbers.keys() & {"name", "key", "url", "address", "why"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:PORT"}, 200),
        ({"Host": "[::1]:PORT"}, 200),
        ({"Host": "localhost"}, 403),
        ({"Host": "evil.example:PORT"}, 403),
        ({"Host": "localhost.evil.example:PORT"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:PORT"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 200),
    ],
)
def test_who_may_ask(daemon: HttpDaemon, headers: dict[str, str], status: int) -> None:
    port = str(daemon.admin_port)
    sent = {name: value.replace("PORT", port) for name, value in headers.items()}
    for path in ("/status", "/peers"):
        reply = daemon.ask(path, headers=sent, admin=True)
        assert reply.status == status
        assert (b"blocks" in reply.body) is (status == 200 and path == "/status")
        assert not [name for name in reply.headers if name.startswith("Access-Control")]
        assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_what_else_there_is_not(daemon: HttpDaemon) -> None:
    for target in ("/page", "/status/", format_n2r(PUBLIC[0]), "/kapla/blocks", "/kapla/page"):
        assert daemon.ask(target, admin=True).status == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        reply = daemon.ask("/status", method, b"", admin=True)
        assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")
    client = http.client.HTTPConnection("127.0.0.1", daemon.admin_port, timeout=GUARD_S)
    client.putrequest("GET", "/status", skip_host=True)
    client.endheaders()
    assert client.getresponse().status in (400, 403)
    client.close()


def test_a_unix_socket_needs_no_name_and_goes_with_the_daemon(tmp_path: Path) -> None:
    with running_daemon(tmp_path) as first:
        path = first.directory / "admin.sock"
        first.stop()
        first._args.append(f"--admin=unix:{path}")
        first.start()
        first.wait_for_log(f"Telling of the daemon on Unix socket {path}")
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o660 if os.geteuid() == 0 else 0o600)
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(GUARD_S)
            one.connect(str(path))
            one.sendall(b"GET /status HTTP/1.1\r\nHost: any.name\r\n\r\n")
            assert one.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
            one.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: cross-site\r\n\r\n")
            assert one.recv(1 << 16).startswith(b"HTTP/1.1 403 ")
        if shutil.which("curl") is not None:
            curl = ["curl", "-sS", "--max-time", str(GUARD_S), "--unix-socket", str(path)]
            done = subprocess.run([*curl, "http://kapla/status"], check=True, capture_output=True)
            assert "uptime_s" in json.loads(done.stdout)
        # One that was killed leaves its socket, which the next takes.
        first.kill()
        assert path.exists()
        first.start()
        first.stop()
        assert not path.exists()


def test_those_who_hold_all_places_lose_them(daemon: HttpDaemon) -> None:
    held = [socket.create_connection(("127.0.0.1", daemon.admin_port)) for _ in range(40)]
    assert daemon.ask("/status", admin=True).status == 200
    for one in held:
        one.close()
