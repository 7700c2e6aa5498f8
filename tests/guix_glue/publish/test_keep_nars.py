"""A mirror that passes nars on, and keeps them: checked, shared, bounded."""

from __future__ import annotations

import gzip
import http.client
import os
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from guix_glue.formats.compression import Compression
from guix_glue.formats.narinfo import NarUrl
from guix_glue.formats.store_path import HASH_PART_LENGTH
from guix_glue.kept.directory import CacheDirectory
from guix_glue.upstream.kept_nars import KeptNars, NarKey
from tests.guix_glue.fetch.fakes import FakeServer, Reply, running_server, scripted_server
from tests.guix_glue.fetch.support import Made, make_item, narinfo_of, plain_url
from tests.guix_glue.publish.support import SAMPLES, Publisher, publishing, wait_until
from tests.integration.daemon import GUARD_S

TRUST = ("--acl", SAMPLES / "keys" / "acl")
LETTERS: Final = "0123456789abcdfghijklmnpqrsvwxyz"


def made_item(tmp_path: Path, number: int = 0, size: int = 100_000) -> Made:
    """An item of random bytes."""
    path = tmp_path / f"file-{number}"
    path.write_bytes(random.Random(number).randbytes(size))
    return make_item(path, f"{LETTERS[number] * HASH_PART_LENGTH}-item")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return made_item(tmp_path)


def narinfo_path(made: Made) -> str:
    return f"/{made.item.hash_part}.narinfo"


def gzipped(made: Made, server: FakeServer) -> None:
    """Have a server offer an item as gzip."""
    body = gzip.compress(made.nar)
    url = NarUrl(f"nar/gzip/{made.item.base_name}", "gzip", len(body), None)
    server.files[narinfo_path(made)] = narinfo_of(made, (url,))
    server.files[f"/{url.url}"] = body


@contextmanager
def keeping(tmp_path: Path, url: str, *more: str) -> Iterator[Publisher]:
    with publishing(tmp_path, *TRUST, "--upstream", url, "--keep-nars", *more) as mirror:
        yield mirror


def kept(tmp_path: Path) -> list[str]:
    directory = tmp_path / "cache" / "v1" / "nars"
    return sorted(os.listdir(directory)) if directory.exists() else []


def is_kept(tmp_path: Path, made: Made) -> bool:
    return any(name.startswith(made.item.hash_part) for name in kept(tmp_path))


def nothing_is_left(tmp_path: Path) -> bool:
    return os.listdir(tmp_path / "cache" / "v1" / "tmp") == []


def test_what_was_passed_on_is_served_when_the_server_is_gone(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        gzipped(made, server)
        with keeping(tmp_path, server.url) as mirror:
            narinfo = mirror.request(narinfo_path(made))
            (url,) = narinfo.narinfo().urls
            assert url.url == f"nar/gzip/{made.item.base_name}"
            first = mirror.request(f"/{url.url}")
            assert first.status == 200
            assert first.body == server.files[f"/{url.url}"]
            assert url.file_size == len(first.body)
            wait_until(lambda: kept(tmp_path) != [], "the nar to be kept")
            assert mirror.request(f"/{url.url}").body == first.body
            # Only what the item has.
            assert mirror.request(f"/nar/zstd/{made.item.base_name}").status == 404
            assert mirror.request(f"/nar/gzip/{made.item.base_name}-x").status == 404
        assert server.requests == [narinfo_path(made), f"/{url.url}"]
        address = server.url
    with keeping(tmp_path, address) as mirror:
        assert mirror.request(narinfo_path(made)).body == narinfo.body
        assert mirror.request(f"/{url.url}").body == first.body
    assert nothing_is_left(tmp_path)


def test_what_is_kept_has_one_tag_and_can_be_gone_on_with(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        gzipped(made, server)
        path = f"/nar/gzip/{made.item.base_name}"
        with keeping(tmp_path, server.url) as mirror:
            whole = mirror.request(path).body
            wait_until(lambda: kept(tmp_path) != [], "the nar to be kept")
            tags = {mirror.request(path, "HEAD").headers["etag"] for _ in range(3)}
            assert len(tags) == 1
            headers = {"Range": "bytes=1000-", "If-Range": tags.pop()}
            rest = mirror.request(path, headers=headers)
            assert (rest.status, rest.body) == (206, whole[1000:])


def test_the_urn_is_made_of_what_is_kept(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        gzipped(made, server)
        path = f"/nar/gzip/{made.item.base_name}"
        with keeping(tmp_path, server.url) as mirror:
            mirror.request(narinfo_path(made))
            assert mirror.request(path).status == 200
            wait_until(lambda: kept(tmp_path) != [], "the nar to be kept")
        with keeping(tmp_path, server.url, "--eris") as mirror:
            wait_until(
                lambda: mirror.request(narinfo_path(made)).narinfo().hint_urn is not None, "a hint"
            )
        assert server.requests.count(path) == 1


@pytest.mark.parametrize("fault", ["torn", "other", "longer", "not gzip", "none"])
def test_a_nar_that_is_not_whole_and_right_is_not_kept(
    made: Made, tmp_path: Path, fault: str
) -> None:
    with running_server() as server:
        gzipped(made, server)
        path = f"/nar/gzip/{made.item.base_name}"
        good = server.files[path]
        assert isinstance(good, bytes)
        damaged = bytearray(good)
        damaged[len(good) // 2] ^= 1
        server.files[path] = {
            "torn": Reply(good[:-1], with_length=False),
            "other": Reply(bytes(damaged)),
            "longer": Reply(good + b"x"),
            "not gzip": Reply(bytes(len(good))),
            "none": Reply(status=404),
        }[fault]
        with keeping(tmp_path, server.url) as mirror:
            mirror.request(narinfo_path(made))
            # Nobody takes it for whole; the client may see for itself what the server has.
            with suppress(http.client.IncompleteRead, ConnectionError):
                answer = mirror.request(path)
                assert answer.status == 302
                assert answer.headers["location"] == server.url + path
            mirror.wait_for_log("is not kept")
            assert kept(tmp_path) == []
            wait_until(lambda: nothing_is_left(tmp_path), "what came to be removed")
            # Whoever tries again is not cut off again, and the server is not asked for nothing.
            asked = server.requests.count(path)
            for _ in range(2):
                answer = mirror.request(path)
                assert (answer.status, answer.headers["location"]) == (302, server.url + path)
            assert server.requests.count(path) == asked


@pytest.mark.parametrize("with_length", [True, False])
def test_a_nar_that_was_compressed_anew(made: Made, tmp_path: Path, with_length: bool) -> None:
    with running_server() as server:
        gzipped(made, server)
        path = f"/nar/gzip/{made.item.base_name}"
        with keeping(tmp_path, server.url) as mirror:
            mirror.request(narinfo_path(made))
            # Longer, as of another version of a library.
            body = gzip.compress(made.nar[:1000]) + gzip.compress(made.nar[1000:])
            url = NarUrl(path[1:], "gzip", len(body), None)
            server.files[narinfo_path(made)] = narinfo_of(made, (url,))
            server.files[path] = Reply(body, with_length=with_length)
            # Where the server says how long it is nobody is sent anything of it.
            with nullcontext() if with_length else suppress(http.client.IncompleteRead):
                assert mirror.request(path).status == 302
            # What was told of it is asked for anew.
            assert mirror.request(path).body == body
            wait_until(lambda: kept(tmp_path) != [], "the nar to be kept")
            assert mirror.request(narinfo_path(made)).narinfo().urls[0].file_size == len(body)


def test_a_disk_that_is_too_small(made: Made, tmp_path: Path, tiny_disk: Path) -> None:
    large = made_item(tmp_path, 1, 1_000_000)
    with running_server() as server:
        for item in (made, large):
            server.files[narinfo_path(item)] = narinfo_of(item, (plain_url(item),))
            server.files[f"/nar/{item.item.base_name}"] = item.nar
        with keeping(tmp_path, server.url) as mirror:
            # Found out before anything is sent, and no reason not to keep others.
            path = f"/nar/{large.item.base_name}"
            for _ in range(2):
                answer = mirror.request(path)
                assert (answer.status, answer.headers["location"]) == (302, server.url + path)
            mirror.wait_for_log("is not kept: No space left on device")
            assert mirror.request(f"/nar/{made.item.base_name}").body == made.nar
            wait_until(partial(is_kept, tmp_path, made), "it to be kept")
            assert path not in server.requests
            assert nothing_is_left(tmp_path)


def test_what_was_promised_is_kept_without_the_option(made: Made, tmp_path: Path) -> None:
    other = made_item(tmp_path, 1)
    with running_server() as server:
        for item in (made, other):
            gzipped(item, server)
        path, not_kept = (f"/nar/gzip/{item.item.base_name}" for item in (made, other))
        with keeping(tmp_path, server.url) as mirror:
            for item in (made, other):
                (url,) = mirror.request(narinfo_path(item)).narinfo().urls
                assert url.url == f"nar/gzip/{item.item.base_name}"
            assert mirror.request(path).status == 200
            wait_until(lambda: kept(tmp_path) != [], "the nar to be kept")
        with publishing(tmp_path, *TRUST, "--upstream", server.url) as mirror:
            assert mirror.request(path).body == server.files[path]
            answer = mirror.request(not_kept)
            assert (answer.status, answer.headers["location"]) == (302, server.url + not_kept)
            # Nothing more is promised, nor kept.
            (url,) = mirror.request(narinfo_path(made)).narinfo().urls
            assert url.url == server.url + path
            assert len(kept(tmp_path)) == 1


class HalfAndHalf:
    """A server that sends the first half of a nar, and the rest when it is told to."""

    def __init__(self, nar: bytes) -> None:
        self.requests = 0
        self.half_sent = threading.Event()
        self.go_on = threading.Event()
        self.ended = threading.Event()
        self._nar = nar

    def __call__(self, connection: socket.socket) -> None:
        connection.recv(1 << 16)
        self.requests += 1
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(self._nar)}\r\n\r\n".encode()
        connection.sendall(head + self._nar[: len(self._nar) // 2])
        self.half_sent.set()
        try:
            # Told to go on, or the other side hangs up.
            connection.settimeout(0.02)
            while not self.go_on.is_set():
                try:
                    if not connection.recv(1):
                        return
                except TimeoutError:
                    pass
            connection.settimeout(GUARD_S)
            connection.sendall(self._nar[len(self._nar) // 2 :])
        finally:
            self.ended.set()


def test_two_clients_at_once_are_one_download(made: Made, tmp_path: Path) -> None:
    script = HalfAndHalf(made.nar)
    request = f"GET /nar/{made.item.base_name} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with running_server() as server, scripted_server(script) as url:
        nar = NarUrl(f"{url}/nar", "none", len(made.nar), None)
        server.files[narinfo_path(made)] = narinfo_of(made, (nar,))
        with keeping(tmp_path, server.url) as mirror:
            mirror.request(narinfo_path(made))
            with mirror.connect() as one, mirror.connect() as other, mirror.connect() as third:
                files = []
                for connection in (one, other, third):
                    connection.sendall(request)
                    files.append(connection.makefile("rb"))
                    # All of them have their first half before the second is there.
                    while files[-1].readline().strip():
                        pass
                    files[-1].read(len(made.nar) // 2)
                # One that goes is nothing to the others.
                third.shutdown(socket.SHUT_RDWR)
                assert script.half_sent.wait(GUARD_S)
                script.go_on.set()
                for file in files[:2]:
                    rest = file.read(len(made.nar) - len(made.nar) // 2)
                    assert rest == made.nar[len(made.nar) // 2 :]
            wait_until(lambda: kept(tmp_path) != [], "the nar to be kept")
    assert script.requests == 1


def test_a_download_that_nobody_waits_for_ends(made: Made, tmp_path: Path) -> None:
    script = HalfAndHalf(made.nar)
    request = f"GET /nar/{made.item.base_name} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with running_server() as server, scripted_server(script) as url:
        nar = NarUrl(f"{url}/nar", "none", len(made.nar), None)
        server.files[narinfo_path(made)] = narinfo_of(made, (nar,))
        with keeping(tmp_path, server.url) as mirror:
            mirror.request(narinfo_path(made))
            with mirror.connect() as one:
                one.sendall(request)
                assert one.recv(1 << 16).startswith(b"HTTP/1.1 200")
            # It goes; the mirror sees that when it has more to send, or at once.
            script.go_on.set()
            assert script.ended.wait(GUARD_S)
            wait_until(lambda: nothing_is_left(tmp_path), "the download to be removed")
            # And the next client gets all of it.
            assert mirror.request(f"/nar/{made.item.base_name}").body == made.nar


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    items = [made_item(tmp_path, number) for number in range(4)]
    room = str(3 * len(items[0].nar) + 1000)
    with running_server() as server:
        for made in items:
            server.files[narinfo_path(made)] = narinfo_of(made, (plain_url(made),))
            server.files[f"/nar/{made.item.base_name}"] = made.nar
        with keeping(tmp_path, server.url, "--keep-nars-max", room) as mirror:
            for made in (*items[:3], items[0], items[3]):
                mirror.request(narinfo_path(made))
                assert mirror.request(f"/nar/{made.item.base_name}").body == made.nar
                wait_until(partial(is_kept, tmp_path, made), "it to be kept")
            assert [name[0] for name in kept(tmp_path)] == ["0", "2", "3"]
        with keeping(tmp_path, server.url, "--keep-nars-max", "1000") as mirror:
            # What cannot be kept is where it was.
            (url,) = mirror.request(narinfo_path(items[1])).narinfo().urls
            assert url.url == f"{server.url}/nar/{items[1].item.base_name}"
            answer = mirror.request(f"/nar/{items[1].item.base_name}")
            assert (answer.status, answer.headers["location"]) == (302, url.url)


def test_what_was_not_used_expires(made: Made, tmp_path: Path) -> None:
    directory = CacheDirectory(tmp_path / "cache")
    nars = KeptNars(directory, 1_000_000)
    keys = [NarKey.of(made.item, method) for method in (Compression.NONE, Compression.GZIP)]
    for key in keys:
        name = directory.new_name()
        with directory.create(name) as file:
            file.write(b"x")
        nars.keep(name, key)
    for kept_name in kept(tmp_path):
        os.utime(tmp_path / "cache" / "v1" / "nars" / kept_name, (1000, 1000))
    # Looking at it is a use.
    with nars.open(keys[0]) or pytest.fail("it is there"):
        pass
    nars.expire(2000)
    assert [nars.size(key) for key in keys] == [1, None]
    directory.close()


def test_the_directory_may_go_at_any_time(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        gzipped(made, server)
        path = f"/nar/gzip/{made.item.base_name}"
        with keeping(tmp_path, server.url) as mirror:

            def is_kept_again() -> bool:
                # For a moment a client may still be given what another one's download brings.
                mirror.request(narinfo_path(made))
                assert mirror.request(path).body == server.files[path]
                return kept(tmp_path) != []

            for _ in range(2):
                wait_until(is_kept_again, "the nar to be kept")
                os.rename(tmp_path / "cache", tmp_path / f"away-{os.urandom(4).hex()}")
            # Where it cannot be made again the client is sent to the server.
            (tmp_path / "cache").touch()
            wait_until(lambda: mirror.request(path).status == 302, "the client to be sent there")
