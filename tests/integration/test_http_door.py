"""Lent blocks by HTTP, from a real daemon: by a library, by curl, and by hand."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from eris import Reference, reference_of
from kapla.http.wire.batch import BatchReader
from kapla.http.wire.cid import format_cid
from kapla.http.wire.n2r import format_n2r
from tests.integration.daemon import GUARD_S, Daemon, running_daemon
from tests.integration.here import User
from tests.integration.http_daemon import (
    PRIVATE,
    PUBLIC,
    HttpDaemon,
    ask_on,
    http_daemon,
    names,
)

MISSING = Reference(bytes(32))
FOR_EVER = "public, max-age=31536000, immutable"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpDaemon]:
    with http_daemon(tmp_path_factory.mktemp("door")) as running:
        yield running


def told(references: list[Reference], answer: bytes) -> list[bytes | None]:
    """What a batch's answer says, checked."""
    reader = BatchReader(references)
    reader.feed(answer)
    entries = [block for _, block in reader.entries()]
    reader.finish()
    return entries


# --- blocks -------------------------------------------------------------------------------------


def test_a_block_by_name_and_by_cid(door: HttpDaemon) -> None:
    for reference in PUBLIC:
        by_name = door.ask(format_n2r(reference))
        assert by_name.status == 200
        assert reference_of(by_name.body) == reference
        assert by_name.headers["Content-Type"] == "application/octet-stream"
        cid = format_cid(reference)
        by_cid = door.ask(f"/ipfs/{cid}?format=raw")
        assert (by_cid.status, by_cid.body) == (200, by_name.body)
        assert by_cid.headers["Content-Type"] == "application/vnd.ipld.raw"
        assert by_cid.headers["Content-Disposition"] == f'attachment; filename="{cid}.bin"'
        assert by_cid.headers["X-Ipfs-Path"] == f"/ipfs/{cid}"
        for reply in (by_name, by_cid):
            assert reply.headers["Cache-Control"] == FOR_EVER
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
            assert reply.headers["Access-Control-Allow-Origin"] == "*"
            assert reply.headers["Timing-Allow-Origin"] == "*"
            assert reply.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
            assert reply.headers["Kapla-Lent"] == "1"
            assert "ETag" in reply.headers
            assert reply.headers["Server"] == "kapla"


def test_what_is_not_lent_is_answered_as_what_is_not_there(door: HttpDaemon) -> None:
    replies = []
    for reference in (PRIVATE[0], MISSING):
        for method in ("GET", "HEAD"):
            for target in (format_n2r(reference), f"/ipfs/{format_cid(reference)}?format=raw"):
                reply = door.ask(target, method)
                assert reply.status == 404
                assert reply.headers["Cache-Control"] == "no-store"
                replies.append((reply.body, {**reply.headers, "Date": ""}))
    assert replies[:4] == replies[4:]
    assert door.ask("/kapla/blocks", "POST", names([PRIVATE[0], MISSING])).body == b"\0\0"


def test_what_is_lent_later_is_there_then_and_not_when_that_ends(tmp_path: Path) -> None:
    with http_daemon(tmp_path) as door:
        me = User(tmp_path, door.daemon.url)
        urn = me.out("encode", "-", stdin=b"nobody's business")
        target = format_n2r(PRIVATE[0])
        assert door.ask(target).status == 404
        me("lend", urn)
        assert reference_of(door.ask(target).body) == PRIVATE[0]
        door.daemon.restart()
        assert reference_of(door.ask(target).body) == PRIVATE[0]
        me("lend", "--stop", urn)
        assert door.ask(target).status == 404


def test_head_tells_the_size(door: HttpDaemon) -> None:
    for reference, size in ((PUBLIC[0], 32768), (PUBLIC[-1], 1024)):
        reply = door.ask(format_n2r(reference), "HEAD")
        assert (reply.status, reply.body) == (200, b"")
        assert reply.headers["Content-Length"] == str(size)


def test_who_has_a_block_is_told_so_without_a_look(door: HttpDaemon) -> None:
    tag = door.ask(format_n2r(PUBLIC[0])).headers["ETag"]
    for method in ("GET", "HEAD"):
        for sent in (tag, f'"x", W/{tag}'):
            reply = door.ask(format_n2r(PUBLIC[0]), method, headers={"If-None-Match": sent})
            assert (reply.status, reply.body) == (304, b"")
            assert reply.headers["ETag"] == tag
            assert reply.headers["Cache-Control"] == FOR_EVER
    other = door.ask(format_n2r(PUBLIC[1]), headers={"If-None-Match": tag})
    assert other.status == 200
    # It says nothing of the store: nobody looked.
    missing = format_n2r(MISSING)
    assert door.ask(missing, headers={"If-None-Match": f'"{"A" * 52}"'}).status == 304


def test_many_at_once(door: HttpDaemon) -> None:
    asked = [*PUBLIC, MISSING, PRIVATE[0], *PUBLIC, *PUBLIC[:2]]
    reply = door.ask("/kapla/blocks", "POST", names(asked))
    assert reply.status == 200
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["Kapla-Lent"] == "1"
    there = [block is not None for block in told(asked, reply.body)]
    assert there == [name in PUBLIC for name in asked]
    most = (PUBLIC * 40)[:256]
    assert None not in told(most, door.ask("/kapla/blocks", "POST", names(most)).body)


@pytest.mark.parametrize(
    ("size", "status"),
    [(0, 400), (1, 400), (31, 400), (33, 400), (8191, 400), (8193, 413), (8224, 413), (10**6, 413)],
)
def test_a_batch_of_another_length(door: HttpDaemon, size: int, status: int) -> None:
    reply = door.ask("/kapla/blocks", "POST", bytes(size))
    assert reply.status == status
    assert reply.body.count(b"\n") == 1
    # Without a length it is the same.
    target, chunk = "/kapla/blocks", bytes(size)
    client = door.connect()
    client.request("POST", target, iter([chunk[:100], chunk[100:]]), encode_chunked=True)
    assert client.getresponse().status == status
    client.close()


def test_a_connection_serves_on_and_answers_in_order(door: HttpDaemon) -> None:
    client = door.connect()
    client.connect()
    sock = client.sock
    for reference in PUBLIC * 3:
        assert reference_of(ask_on(client, format_n2r(reference)).body) == reference
        assert ask_on(client, "/nothing").status == 404
        assert ask_on(client, "/kapla/blocks", "POST", reference).body[:1] == b"\1"
    assert client.sock is sock
    client.close()


# --- the rest -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "status", "allow"),
    [
        ("GET", "/", 200, None),
        ("HEAD", "/", 200, None),
        ("GET", "/ipfs/bafkqaaa?format=raw", 200, None),
        ("GET", "/status", 404, None),
        ("GET", "/favicon.ico", 404, None),
        ("PUT", "/nothing", 404, None),
        ("OPTIONS", "/nothing", 404, None),
        ("PUT", format_n2r(MISSING), 405, "GET, HEAD, OPTIONS"),
        ("DELETE", "/ipfs/x", 405, "GET, HEAD, OPTIONS"),
        ("PATCH", "/", 405, "GET, HEAD, OPTIONS"),
        ("GET", "/kapla/blocks", 405, "POST, OPTIONS"),
        ("PUT", "/kapla/blocks", 405, "POST, OPTIONS"),
        ("OPTIONS", "/kapla/blocks", 204, "POST, OPTIONS"),
        ("OPTIONS", format_n2r(MISSING), 204, "GET, HEAD, OPTIONS"),
        ("GET", "/uri-res/N2R?urn:blake2b:x", 400, None),
        ("GET", "/ipfs/bafy?format=raw", 400, None),
        ("GET", "/" + "x" * 2000, 404, None),
        ("GET", "/uri-res/N2R?" + "x" * 2000, 414, None),
    ],
)
def test_what_each_path_answers(
    door: HttpDaemon, method: str, target: str, status: int, allow: str | None
) -> None:
    reply = door.ask(target, method)
    assert reply.status == status
    assert reply.headers.get("Allow") == allow
    # Whatever it is, pages may read it, and nobody keeps it.
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert reply.headers["Cache-Control"] == "no-store"


def test_other_wishes(door: HttpDaemon) -> None:
    cid = f"/ipfs/{format_cid(PUBLIC[0])}"
    reply = door.ask(cid, headers={"Accept": "application/vnd.ipld.raw"})
    assert (reply.status, reply.headers["Vary"]) == (200, "Accept")
    assert door.ask(cid, headers={"Accept": "text/html"}).status == 406
    cached = {"Cache-Control": "only-if-cached"}
    assert door.ask(f"{cid}?format=raw", headers=cached).status == 200
    missing = f"/ipfs/{format_cid(MISSING)}?format=raw"
    assert door.ask(missing, headers=cached).status == 412
    body = names(PUBLIC)
    assert door.ask("/kapla/blocks", "POST", body, {"Content-Encoding": "gzip"}).status == 415
    assert door.ask("/kapla/blocks", "POST", body, {"Expect": "the best"}).status == 417


@pytest.mark.parametrize(
    "sent",
    [
        b"\0" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 10_000 + b"\r\n\r\n",
        b"POST /kapla/blocks HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /kapla/blocks HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /kapla/blocks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
    ],
)
def test_what_is_no_request_is_refused_and_harms_nobody(door: HttpDaemon, sent: bytes) -> None:
    with door.raw(sent) as one, door.connect_twice() as other:
        answer = one.recv(1 << 16)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400")), answer
        assert other()
    assert "Traceback" not in door.daemon.log


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked",
        "POST /kapla/blocks HTTP/1.1\r\nTransfer-Encoding: chunked",
        "POST /kapla/blocks HTTP/1.1\r\nContent-Length: 64\r\nContent-Encoding: gzip",
        "GET / HTTP/1.1\r\nContent-Length: 64\r\nContent-Encoding: br",
    ],
)
def test_a_body_that_is_none_is_not_worth_a_line_of_the_log(door: HttpDaemon, head: str) -> None:
    before = door.daemon.log
    with door.raw(f"{head}\r\nHost: x\r\nConnection: close\r\n\r\n".encode()) as one:
        one.sendall(b"zz\r\n" * 16)
        assert one.recv(7) == b"HTTP/1."
        rest(one)
    assert door.ask("/").status == 200
    assert door.daemon.log == before


def test_old_clients_are_served(door: HttpDaemon) -> None:
    with door.raw(f"GET {format_n2r(PUBLIC[0])} HTTP/1.0\r\n\r\n".encode()) as one:
        received = rest(one)
    assert reference_of(received.partition(b"\r\n\r\n")[2]) == PUBLIC[0]
    body = names(PUBLIC)
    # One that expects to be told to go on has that from whoever sent it on: it would not know it.
    for more in ("", "Expect: 100-continue\r\n"):
        head = f"POST /kapla/blocks HTTP/1.0\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        with door.raw(head.encode() + body) as one:
            received = rest(one)
        assert None not in told(PUBLIC, received.partition(b"\r\n\r\n")[2])


def rest(one: socket.socket) -> bytes:
    return b"".join(iter(lambda: one.recv(1 << 16), b""))


# --- others -------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_gets_blocks(door: HttpDaemon, tmp_path: Path) -> None:
    def curl(*arguments: str) -> bytes:
        command = ["curl", "-sS", "--fail", "--max-time", str(GUARD_S), *arguments]
        return subprocess.run(command, check=True, capture_output=True).stdout

    for reference in PUBLIC[:2]:
        for target in (format_n2r(reference), f"/ipfs/{format_cid(reference)}?format=raw"):
            block = curl(door.url + target)
            assert hashlib.blake2b(block, digest_size=32).digest() == reference
    body = tmp_path / "body"
    body.write_bytes(names(PUBLIC))
    post = ("--data-binary", f"@{body}", f"{door.url}/kapla/blocks")
    assert None not in told(PUBLIC, curl(*post))
    assert None not in told(PUBLIC, curl("-H", "Expect: 100-continue", *post))


def test_statistics_count_what_comes_by_http(tmp_path: Path) -> None:
    with http_daemon(tmp_path) as door:

        def counted() -> list[int]:
            facts = json.loads(door.ask("/status", admin=True).body)
            requests, connections = facts["requests"], facts["connections"]
            return [requests["get"], requests["other"], connections["since_start"]]

        before = counted()
        client = door.connect()
        ask_on(client, format_n2r(PUBLIC[0]))
        ask_on(client, "/kapla/blocks", "POST", names(PUBLIC))
        ask_on(client, "/nothing")
        after = counted()
        client.close()
        gained = [now - then for now, then in zip(after, before, strict=True)]
        assert gained == [1 + len(PUBLIC), 2, 2]


def test_who_asks_by_http_has_no_peers_asked(tmp_path: Path) -> None:
    with (
        http_daemon(tmp_path, "--http", "127.0.0.1:0", "--listen", "coap+tcp://127.0.0.1:0") as far,
        running_daemon(None, "--http", "127.0.0.1:0", "--peer", _tcp_url(far.daemon)) as near,
    ):
        door = HttpDaemon(near)
        assert door.ask(format_n2r(PUBLIC[0])).status == 404
        assert told([PUBLIC[0]], door.ask("/kapla/blocks", "POST", PUBLIC[0]).body) == [None]


def _tcp_url(daemon: Daemon) -> str:
    daemon.wait_for_log("Listening on TCP")
    port = re.findall(r"Listening on TCP \S+:(\d+)", daemon.log)[-1]
    return f"coap+tcp://127.0.0.1:{port}"


def test_more_connections_than_there_may_be(tmp_path: Path) -> None:
    with http_daemon(tmp_path, env={"KAPLA_MAX_CONNECTIONS": "8"}) as door:
        held = [door.raw() for _ in range(30)]
        for reference in PUBLIC:
            assert reference_of(door.ask(format_n2r(reference)).body) == reference
        # Programs on the Unix socket are counted apart.
        User(tmp_path, door.daemon.url)("stat")
        for one in held:
            one.close()


def test_a_daemon_that_stops_ends_those_who_take_nothing(tmp_path: Path) -> None:
    with http_daemon(tmp_path) as door:
        most = names((PUBLIC * 40)[:256])
        head = f"POST /kapla/blocks HTTP/1.1\r\nHost: x\r\nContent-Length: {len(most)}\r\n\r\n"
        slow = [door.raw(head.encode() + most, little=True) for _ in range(3)]
        for one in slow:
            assert one.recv(1) == b"H"
        idle = door.raw()
        half = door.raw(b"GET / HT")
        assert door.daemon.stop() == 0
        assert rest(idle) == b""
        for one in (*slow, idle, half):
            one.close()
        door.daemon.start()
        assert door.ask(format_n2r(PUBLIC[0])).status == 200


def test_an_answer_under_way_is_finished_when_the_daemon_stops(tmp_path: Path) -> None:
    with http_daemon(tmp_path) as door:
        most = (PUBLIC * 40)[:256]
        body = names(most)
        head = (
            f"POST /kapla/blocks HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        with door.raw(head.encode() + body, little=True) as one:
            received = one.recv(1)
            os.kill(door.daemon.pid, signal.SIGTERM)
            door.daemon.wait_for_log("Stopping")
            # Now all that comes is taken at once: there are some seconds for it.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            received += rest(one)
        assert received.endswith(b"0\r\n\r\n")
        assert door.daemon.wait() == 0


# --- settings -----------------------------------------------------------------------------------


def test_without_doors_nothing_of_http_is_loaded(tmp_path: Path) -> None:
    with running_daemon(tmp_path, installed=True) as daemon:
        assert "aiohttp" not in Path(f"/proc/{daemon.pid}/maps").read_text()
    with http_daemon(tmp_path / "other") as door:
        assert door.ask("/").status == 200
        assert "aiohttp" in Path(f"/proc/{door.daemon.pid}/maps").read_text()


def test_several_places(tmp_path: Path) -> None:
    places = ("--http", "127.0.0.1:0", "--http", "127.0.0.2:0")
    with http_daemon(tmp_path, *places) as door:
        door.daemon.wait_for_log("http://127.0.0.2:")
        assert "Listening on http://127.0.0.1:" in door.daemon.log


@pytest.mark.parametrize(
    ("option", "value", "code", "message"),
    [
        ("--admin", "0.0.0.0:9080", 2, "--admin: 0.0.0.0 is not on the loopback interface"),
        ("--http", "TAKEN", 1, "cannot listen on TCP 127.0.0.1:"),
        ("--admin", "unix:/nonexistent/x", 1, "there is no directory /nonexistent"),
    ],
)
def test_what_cannot_be_is_told_at_the_start(
    tmp_path: Path, door: HttpDaemon, option: str, value: str, code: int, message: str
) -> None:
    value = value.replace("TAKEN", f"127.0.0.1:{door.http_port}")
    failing = Daemon(tmp_path, [option, value])
    failing.spawn()
    assert failing.wait() == code
    assert message in failing.log
    assert "Traceback" not in failing.log
