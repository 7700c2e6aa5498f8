"""The logs of requests and of baking, as an administrator has them; and SIGHUP."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from guix_glue.publish.baking_log import Made, noted
from guix_glue.publish.queue import TryLater
from guix_glue.serving.journal import Journal
from tests.guix_glue.publish.support import KEYS, make_item, nar_of, publishing, wait_until

COMBINED = re.compile(
    r'(?P<client>\S+) - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\] "(?P<asked>[^"]*)"'
    r' (?P<status>\d{3}) (?P<bytes>\d+) "-" "(?P<agent>[^"]*)" \d+\.\d{6} (?P<whole>whole|cut)'
)


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def items(tmp_path: Path) -> Path:
    directory = tmp_path / "items"
    directory.mkdir()
    make_item(directory, "item").write_bytes(bytes(100_000))
    return directory


def test_requests_as_web_servers_log_them(tmp_path: Path, items: Path) -> None:
    log, item = tmp_path / "log", make_item(items, "item")
    with publishing(tmp_path, "--items", items, *KEYS, "--request-log", log) as publisher:
        publisher.request(f"/nar/{item.name}", headers={"User-Agent": 'Guile "1"'})
        publisher.request(f"/{item.name[:32]}.narinfo?password=secret", "HEAD")
        publisher.request("/urn:eris:AAAABBBBCCCC")
        with publisher.connect() as connection:
            connection.sendall(b"no request\r\n\r\n")
            assert connection.recv(1 << 16)
        publisher.stop()
    text = log.read_text()
    found = [match.groupdict() for match in map(COMBINED.fullmatch, text.splitlines()) if match]
    size = str(len(nar_of(item)))
    assert [(one["asked"], one["status"], one["bytes"], one["whole"]) for one in found] == [
        (f"GET /nar/{item.name} HTTP/1.1", "200", size, "whole"),
        (f"HEAD /{item.name[:32]}.narinfo HTTP/1.1", "200", "0", "whole"),
        ("GET /urn:eris:… HTTP/1.1", "404", "42", "whole"),
        ("- - HTTP/1.1", "400", "0", "whole"),
    ]
    assert found[0]["agent"] == r"Guile \x221\x22"
    assert {one["client"] for one in found} == {"127.0.0.1"}
    assert "secret" not in text
    assert "AAAABBBB" not in text


def test_a_reply_that_was_not_taken_is_told_of(tmp_path: Path, items: Path) -> None:
    log, item = tmp_path / "log", make_item(items, "large")
    item.write_bytes(bytes(30_000_000))
    options = ("--request-log", log, "--log-format", "json")
    with publishing(tmp_path, "--items", items, *KEYS, *options) as publisher:
        with publisher.connect() as connection:
            connection.sendall(f"GET /nar/{item.name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert connection.recv(1)
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        wait_until(lambda: log.read_text() != "", "the line")
    (entry,) = entries(log)
    assert entry["event"] == "request"
    assert (entry["status"], entry["whole"]) == (200, False)
    assert entry["bytes"] < 30_000_000
    assert entry["seconds"] >= 0


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_what_was_baked(tmp_path: Path, items: Path, *, as_json: bool) -> None:
    log, item = tmp_path / "log", make_item(items, "item")
    options: list[str | Path] = [
        "--baking-log",
        log,
        *(["--log-format", "json"] if as_json else []),
    ]
    baking = ("-C", "gzip", "-C", "zstd:1", "--eris", "--eris-level", "1")
    with publishing(tmp_path, "--items", items, *KEYS, *baking, *options) as publisher:
        urls = publisher.baked(item, urn=True).narinfo().urls
        publisher.stop()
    path, nar_size = f"/gnu/store/{item.name}", len(nar_of(item))
    if as_json:
        found = {
            entry["compression"]: (entry["item"], entry["bytes"], entry["nar_bytes"])
            for entry in entries(log)
        }
        assert {entry["result"] for entry in entries(log)} == {"done"}
    else:
        lines = [line.split(" ") for line in log.read_text().splitlines()]
        found = {
            kind: (path, None if size == "-" else int(size), int(nar))
            for _, path, kind, size, nar, _, result in lines
        }
    sizes = {url.compression: url.file_size for url in urls}
    assert found.pop("gzip:3") == (path, sizes["gzip"], nar_size)
    assert found.pop("zstd:1") == (path, sizes["zstd"], nar_size)
    ((kind, value),) = found.items()
    assert value == (path, None, nar_size)
    assert kind == "kapla-packed-1-level-1"


def test_what_was_not_baked(tmp_path: Path, items: Path) -> None:
    log, item = tmp_path / "log", make_item(items, "item")
    cache = tmp_path / "cache"
    options = ("--baking-log", log, "--log-format", "json")
    with publishing(tmp_path, "--items", items, *KEYS, *options) as publisher:
        # There is no room for it: something else is in its place.
        (cache / "v1" / "items" / item.name[:32]).write_bytes(b"")
        publisher.narinfo(item)
        wait_until(lambda: log.read_text() != "", "the line")
    (entry,) = entries(log)
    assert (entry["compression"], entry["bytes"]) == ("-", None)
    assert "exists" in entry["result"] or "directory" in entry["result"]


def test_what_was_not_tried_is_not_told_of(tmp_path: Path) -> None:
    """What fails for all is left alone, and thousands of items may wait for it."""
    failures = [TryLater(2.0), TryLater(reason="no room"), TryLater(2.0)]
    log = tmp_path / "log"

    async def bake(path: str) -> None:
        raise failures.pop(0)

    async def main(do: Callable[[str], Awaitable[None]]) -> None:
        while failures:
            with pytest.raises(TryLater):
                await do("/gnu/store/item")

    with closing(Journal(str(log), as_json=True, redact=str)) as journal:
        asyncio.run(main(noted(bake, Made, journal)))
    assert [entry["result"] for entry in entries(log)] == ["later: no room"]


def test_sighup_reopens_the_logs_and_ends_nothing(tmp_path: Path, items: Path) -> None:
    log, moved = tmp_path / "log", tmp_path / "log.1"
    # Both in one file, as it is with standard output.
    options = ("--request-log", log, "--baking-log", log, "--log-format", "json")
    with publishing(tmp_path, "--items", items, *KEYS, *options) as publisher:
        publisher.request("/before")
        wait_until(lambda: log.read_text() != "", "the first line")
        log.rename(moved)
        os.kill(publisher.pid, signal.SIGHUP)
        wait_until(log.exists, "the new file")
        publisher.request("/after")
        publisher.baked(make_item(items, "item"))
        assert publisher.stop() == 0
    assert [entry["path"] for entry in entries(moved)] == ["/before"]
    assert entries(log)[0]["path"] == "/after"
    assert {entry["event"] for entry in entries(log)} == {"request", "baked"}


def test_sighup_without_logs_ends_nothing_either(tmp_path: Path, items: Path) -> None:
    with publishing(tmp_path, "--items", items, *KEYS) as publisher:
        os.kill(publisher.pid, signal.SIGHUP)
        assert publisher.request("/nix-cache-info").status == 200
        assert publisher.stop() == 0


def test_a_full_disk_does_not_stop_the_service(tmp_path: Path, items: Path) -> None:
    options = ("--request-log", "/dev/full", "--baking-log", "/dev/full")
    with publishing(tmp_path, "--items", items, *KEYS, *options) as publisher:
        for _ in range(5):
            assert publisher.request("/nix-cache-info").status == 200
        publisher.baked(make_item(items, "item"))
        assert publisher.stop() == 0
        assert publisher.log.count("No space left") == 1
