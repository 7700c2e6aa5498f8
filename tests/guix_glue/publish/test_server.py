"""A real server, as clients see it: what is served, and how HTTP is spoken."""

from __future__ import annotations

import hashlib
import random
import re
import signal
import socket
from pathlib import Path

import pytest

from guix_glue.formats.compression import Compression, decompressor
from guix_glue.local.archive import nar_hash
from guix_glue.trust.signature import verify_narinfo
from tests.guix_glue.publish.support import (
    ACL,
    KEYS,
    SAMPLES,
    Publisher,
    make_item,
    nar_of,
    publishing,
)
from tests.integration.daemon import wait_until

NAMES = ("notes.txt", "a+b=c?d", "link", "program", "tree-1.0")


def unpack(method: Compression, data: bytes) -> bytes:
    unpacking = decompressor(method)
    unpacked = b"".join(bytes(piece) for piece in unpacking.feed(data, 1 << 20))
    unpacking.finish()
    return unpacked


# --- items ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_an_item_in_every_compression(publisher: Publisher, items: Path, name: str) -> None:
    path = make_item(items, name)
    nar = nar_of(path)
    answer = publisher.baked(path)
    assert answer.headers["content-type"] == "application/x-nix-narinfo;charset=utf-8"
    assert answer.max_age == 2_592_000
    narinfo = answer.narinfo()
    verify_narinfo(narinfo, ACL)
    assert narinfo.item.path == f"/gnu/store/{path.name}"
    assert narinfo.item.nar_hash == hashlib.sha256(nar).digest()
    assert narinfo.item.nar_size == len(nar)
    assert [url.compression for url in narinfo.urls] == ["zstd", "lzip", "gzip"]
    for url in narinfo.urls:
        reply = publisher.request(f"/{url.url}")
        assert reply.status == 200
        assert reply.max_age == 2_592_000
        assert reply.headers["content-type"].startswith("application/octet-stream")
        assert len(reply.body) == url.file_size == int(reply.headers["content-length"])
        assert unpack(Compression(url.compression), reply.body) == nar


@pytest.mark.parametrize("name", NAMES)
def test_the_plain_nar_is_always_there(publisher: Publisher, items: Path, name: str) -> None:
    path = make_item(items, name)
    reply = publisher.request("/nar/" + path.name.replace("?", "%3F"))
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("application/x-nix-archive")
    assert reply.body == nar_of(path)
    assert nar_hash(str(path)) == (hashlib.sha256(reply.body).digest(), len(reply.body))


def test_what_is_compressed_already_is_offered_plain(publisher: Publisher, items: Path) -> None:
    answer = publisher.narinfo(make_item(items, "sample.tar.gz"))
    (url,) = answer.narinfo().urls
    assert (url.compression, url.file_size) == ("none", answer.narinfo().item.nar_size)
    # It will not change, but is only promised once there is a copy.
    item = make_item(items, "sample.tar.gz")
    wait_until(lambda: publisher.narinfo(item).max_age == 2_592_000, "a copy to be kept")
    assert publisher.narinfo(item).body == answer.body


def test_before_baking_there_is_the_plain_nar(tmp_path: Path) -> None:
    items = tmp_path / "items"
    items.mkdir()
    path = make_item(items, "large")
    path.write_bytes(random.Random(0).randbytes(10_000_000))
    with publishing(tmp_path, "--items", items, *KEYS, "-C", "lzip:9") as publisher:
        answer = publisher.narinfo(path)
        narinfo = answer.narinfo()
        verify_narinfo(narinfo, ACL)
        (url,) = narinfo.urls
        assert (url.compression, url.file_size) == ("none", narinfo.item.nar_size)
        assert narinfo.signed_urn is None
        assert answer.max_age == 300
        reply = publisher.request(f"/nar/lzip/{path.name}")
        assert reply.status == 404
        assert reply.max_age == 300
        # It is told to stop while it bakes.
        assert publisher.stop() == 0
        assert list((tmp_path / "cache" / "v1" / "tmp").iterdir()) == []


def test_a_fixed_output_by_its_hash(tmp_path: Path) -> None:
    sample = (SAMPLES / "narinfo" / "uncached-none" / "fixed-hello.txt.narinfo").read_text()
    match = re.match(r"StorePath: /gnu/store/(.*)\n", sample)
    assert match
    items = tmp_path / "items"
    items.mkdir()
    (items / match[1]).write_bytes(b"fixed output\n")
    with publishing(tmp_path, "--items", items, *KEYS) as publisher:
        place = "sha256/1q75lkb8cn0m7dcngfzg06wr2002w5nvj4fi5ba615fh42gnwqqz"
        reply = publisher.request(f"/file/fixed-hello.txt/{place}")
        assert (reply.status, reply.body) == (200, b"fixed output\n")
        assert reply.headers["content-type"] == "application/octet-stream;charset=ISO-8859-1"
        assert publisher.request(f"/file/fixed-hello.txt/{place}", "HEAD").body == b""
        # Which the directory of items could not say either.
        for no_name in ("..%2F..%2Fetc", ".hidden", "%FF"):
            assert publisher.request(f"/file/{no_name}/{place}").status == 404
        missing = publisher.request(f"/file/other-name/{place}")
        assert (missing.status, missing.body) == (
            404,
            f"Resource not found: /file/other-name/{place}".encode(),
        )


# --- other pages ------------------------------------------------------------------------------


def test_the_cache_info_is_that_of_the_stock_server(publisher: Publisher) -> None:
    reply = publisher.request("/nix-cache-info")
    assert reply.body == (SAMPLES / "nix-cache-info").read_bytes()
    assert reply.headers["content-type"] == "text/plain;charset=utf-8"


def test_the_signing_key(publisher: Publisher) -> None:
    reply = publisher.request("/signing-key.pub")
    assert reply.body == (SAMPLES / "keys" / "signing-key.pub").read_bytes()


@pytest.mark.parametrize("path", ["/", "/index.html"])
def test_the_landing_page(publisher: Publisher, path: str) -> None:
    reply = publisher.request(path)
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html;charset=utf-8"
    assert b"guix archive --authorize" in reply.body


@pytest.mark.parametrize(
    "path",
    ["/x", "/00000000000000000000000000000000.narinfo", "/nar/gzip/x", "/log/x", "/%2e%2e/x?a=b"],
)
def test_what_is_not_there(publisher: Publisher, path: str) -> None:
    reply = publisher.request(path)
    assert reply.status == 404
    assert reply.body == f"Resource not found: {path.partition('?')[0]}".encode()
    assert reply.headers["content-type"] == "text/plain;charset=utf-8"
    assert int(reply.headers["content-length"]) == len(reply.body)
    if path.endswith(".narinfo"):
        assert reply.max_age == 3600


# --- HTTP -------------------------------------------------------------------------------------


def read_reply(connection: socket.socket, buffer: bytearray) -> tuple[int, bytes]:
    """Read one reply that has a Content-Length."""
    while b"\r\n\r\n" not in buffer:
        data = connection.recv(1 << 16)
        assert data, "the connection was closed"
        buffer += data
    head, _, _ = bytes(buffer).partition(b"\r\n\r\n")
    match = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    assert match, head
    end = len(head) + 4 + int(match[1])
    while len(buffer) < end:
        data = connection.recv(1 << 16)
        assert data, "the connection was closed"
        buffer += data
    body = bytes(buffer[len(head) + 4 : end])
    del buffer[:end]
    return int(head.split()[1]), body


def test_a_thousand_requests_before_the_first_reply_is_read(
    publisher: Publisher, items: Path
) -> None:
    path = make_item(items, "notes.txt")
    expected = publisher.baked(path).body
    wanted = [path.name[:32] if n % 3 == 0 else f"{n:032d}" for n in range(1000)]
    request = "GET /{}.narinfo HTTP/1.1\r\nHost: x\r\nUser-Agent: GNU Guile\r\n\r\n"
    with publisher.connect() as connection:
        connection.sendall("".join(map(request.format, wanted)).encode())
        buffer = bytearray()
        for hash_part in wanted:
            status, body = read_reply(connection, buffer)
            if hash_part == path.name[:32]:
                assert (status, body) == (200, expected)
            else:
                assert status == 404
                assert body == f"Resource not found: /{hash_part}.narinfo".encode()
        assert not buffer


def test_nars_and_files_between_other_requests(publisher: Publisher, items: Path) -> None:
    path = make_item(items, "tree-1.0")
    narinfo = publisher.baked(path).narinfo()
    zstd = publisher.request(f"/{narinfo.urls[0].url}").body
    paths = [f"/nar/{path.name}", f"/nar/zstd/{path.name}", "/nix-cache-info"] * 5
    with publisher.connect() as connection:
        request = "GET {} HTTP/1.1\r\nHost: x\r\n\r\n"
        connection.sendall("".join(map(request.format, paths)).encode())
        buffer = bytearray()
        for _ in range(5):
            assert read_reply(connection, buffer) == (200, nar_of(path))
            assert read_reply(connection, buffer) == (200, zstd)
            assert read_reply(connection, buffer)[0] == 200


@pytest.mark.parametrize("what", ["narinfo", "plain", "zstd", "missing", "key"])
def test_head_is_get_without_the_body(publisher: Publisher, items: Path, what: str) -> None:
    path = make_item(items, "tree-1.0")
    publisher.baked(path)
    where = {
        "narinfo": f"/{path.name[:32]}.narinfo",
        "plain": f"/nar/{path.name}",
        "zstd": f"/nar/zstd/{path.name}",
        "missing": "/missing",
        "key": "/signing-key.pub",
    }[what]
    got = publisher.request(where)
    with publisher.connect() as connection:
        for _ in range(2):
            connection.sendall(f"HEAD {where} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        connection.sendall(b"GET /nix-cache-info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b""
        while data := connection.recv(1 << 16):
            received += data
    first, second, rest = received.split(b"\r\n\r\n", 2)
    for head in (first, second):
        assert head.startswith(b"HTTP/1.1 %d " % got.status)
        assert b"content-length: %d" % len(got.body) in head.lower()
    assert rest.startswith(b"HTTP/1.1 200 OK")


def test_a_baked_nar_in_parts(publisher: Publisher, items: Path) -> None:
    path = make_item(items, "tree-1.0")
    publisher.baked(path)
    where = f"/nar/zstd/{path.name}"
    whole = publisher.request(where)
    size, tag = len(whole.body), whole.headers["etag"]
    assert whole.headers["accept-ranges"] == "bytes"
    first = publisher.request(where, headers={"Range": f"bytes=0-{size // 2}"})
    rest = {"Range": f"bytes={size // 2 + 1}-", "If-Range": tag}
    second = publisher.request(where, headers=rest)
    assert (first.status, second.status) == (206, 206)
    assert first.body + second.body == whole.body
    assert second.headers["content-range"] == f"bytes {size // 2 + 1}-{size - 1}/{size}"
    assert second.headers["etag"] == tag
    assert second.max_age == whole.max_age
    assert publisher.request(where, headers={**rest, "If-Range": '"other"'}) == whole
    missing = publisher.request(where, headers={"Range": f"bytes={size}-"})
    assert (missing.status, missing.headers["content-range"]) == (416, f"bytes */{size}")
    # HEAD is of the whole; and who has it needs nothing.
    head = publisher.request(where, "HEAD", {"Range": "bytes=0-1"})
    assert (head.status, head.headers, head.body) == (200, whole.headers, b"")
    for method in ("GET", "HEAD"):
        known = publisher.request(where, method, {"If-None-Match": f'"x", {tag}'})
        assert (known.status, known.headers["etag"], known.body) == (304, tag, b"")
    other = publisher.request(f"/nar/lzip/{path.name}").headers["etag"]
    assert other != tag


def test_parts_between_other_requests(publisher: Publisher, items: Path) -> None:
    path = make_item(items, "tree-1.0")
    publisher.baked(path)
    where = f"/nar/gzip/{path.name}"
    whole = publisher.request(where)
    part = f"GET {where} HTTP/1.1\r\nHost: x\r\nRange: bytes=3-9\r\n\r\n"
    known = f"GET {where} HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\n\r\n"
    page = "GET /nix-cache-info HTTP/1.1\r\nHost: x\r\n\r\n"
    with publisher.connect() as connection:
        connection.sendall(f"{part}{known}{page}{part}".encode())
        buffer = bytearray()
        assert read_reply(connection, buffer) == (206, whole.body[3:10])
        while b"\r\n\r\n" not in buffer:
            buffer += connection.recv(1 << 16)
        head, _, rest = bytes(buffer).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 304 ")
        buffer[:] = rest
        assert read_reply(connection, buffer)[0] == 200
        assert read_reply(connection, buffer) == (206, whole.body[3:10])
        assert not buffer


def test_a_plain_nar_has_no_parts(publisher: Publisher, items: Path) -> None:
    path = make_item(items, "tree-1.0")
    reply = publisher.request(f"/nar/{path.name}", headers={"Range": "bytes=0-1"})
    assert (reply.status, reply.body) == (200, nar_of(path))
    assert reply.headers["accept-ranges"] == "none"


def test_a_tag_is_that_of_the_bytes(tmp_path: Path) -> None:
    items = tmp_path / "items"
    items.mkdir()
    path = make_item(items, "item")
    path.write_bytes(bytes(10_000))
    where = f"/nar/gzip/{path.name}"
    with publishing(tmp_path, "--items", items, *KEYS) as publisher:
        publisher.baked(path)
        before = publisher.request(where).headers["etag"]
    with publishing(tmp_path, "--items", items, *KEYS) as publisher:
        assert publisher.request(where).headers["etag"] == before
        # Other bytes of the same size, as another version of a library might make of it.
        (baked,) = (tmp_path / "cache").rglob("*.nar")
        baked.write_bytes(b"x" * baked.stat().st_size)
        reply = publisher.request(where, headers={"Range": "bytes=1-2", "If-Range": before})
        assert reply.status == 200
        assert reply.headers["etag"] != before


@pytest.mark.parametrize(
    ("version", "header", "stays"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: close\r\n", False),
        ("1.0", "", False),
        ("1.0", "Connection: keep-alive\r\n", True),
    ],
)
def test_the_connection_stays_or_ends_as_asked(
    publisher: Publisher, items: Path, version: str, header: str, *, stays: bool
) -> None:
    nar = nar_of(make_item(items, "tree-1.0"))
    name = make_item(items, "tree-1.0").name
    with publisher.connect() as connection:
        request = f"GET /nar/{name} HTTP/{version}\r\nHost: x\r\n{header}\r\n".encode()
        buffer = bytearray()
        connection.sendall(request)
        assert read_reply(connection, buffer) == (200, nar)
        if stays:
            connection.sendall(request)
            assert read_reply(connection, buffer) == (200, nar)
        else:
            assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /\xff<script> HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: x\r\nx: " + b"y" * 10_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_request(items: Path, tmp_path: Path, sent: bytes) -> None:
    with publishing(tmp_path, "--items", items, *KEYS) as publisher:
        with publisher.connect() as connection:
            connection.sendall(sent)
            received = connection.recv(1 << 16)
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 400 ")
        assert body == b"Bad request"
        assert b"\r\nServer: kapla\r\n" in head + b"\r\n"
        assert publisher.stop() == 0
        # Strangers fill no logs.
        assert "ERROR" not in publisher.log
        assert "Traceback" not in publisher.log


def test_what_serves_is_not_told(publisher: Publisher) -> None:
    for path in ("/", "/missing", "/nix-cache-info"):
        assert publisher.request(path).headers["server"] == "kapla"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(publisher: Publisher, method: str) -> None:
    reply = publisher.request("/nix-cache-info", method)
    assert reply.status == 405
    assert reply.headers["allow"] == "GET, HEAD"


def test_an_item_that_is_another_than_the_store_says_breaks_off(tmp_path: Path) -> None:
    items = tmp_path / "items"
    items.mkdir()
    path = make_item(items, "changing")
    path.mkdir()
    (path / "file").write_bytes(b"1" * 100_000)
    with publishing(tmp_path, "--items", items, *KEYS) as publisher:
        # Not by its narinfo: then it would be baked, before the change or after it.
        size = int(publisher.request(f"/nar/{path.name}", "HEAD").headers["content-length"])
        (path / "file").write_bytes(b"1" * 90_000)
        with publisher.connect() as connection:
            connection.sendall(f"GET /nar/{path.name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            received = b""
            try:
                while data := connection.recv(1 << 16):
                    received += data
            except ConnectionResetError:
                pass
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert b"content-length: %d" % size in head.lower()
        assert len(body) < size
        publisher.wait_for_log("broken off")


def test_it_ends_by_sigterm_with_a_client_connected(publisher: Publisher, tmp_path: Path) -> None:
    items = tmp_path / "items"
    items.mkdir()
    make_item(items, "x").write_bytes(b"x")
    with publishing(tmp_path, "--items", items, *KEYS) as one, one.connect() as connection:
        connection.sendall(b"GET /nix-cache-info HTTP/1.1\r\nHost: x\r\n\r\n")
        read_reply(connection, bytearray())
        assert one.stop(signal.SIGTERM) == 0
        assert connection.recv(1) == b""
