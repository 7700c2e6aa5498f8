"""What a mirror gives away and puts up with: passwords, URLs of nars, nars that do not end."""

from __future__ import annotations

import base64
import socket
import struct
import threading
from pathlib import Path

import pytest

from guix_glue.formats.narinfo import NarUrl, format_unsigned, parse_narinfo
from guix_glue.kept.directory import CacheDirectory
from guix_glue.kept.records import format_checked, parse_checked
from guix_glue.servers.url import parse_server
from guix_glue.trust.signature import sign_text, verify_narinfo
from guix_glue.upstream.kept_narinfos import MirrorCache, Mirrored
from tests.guix_glue.fetch.fakes import (
    FakeServer,
    Reply,
    nar_without_an_end,
    running_server,
    scripted_server,
    self_signed,
)
from tests.guix_glue.fetch.support import KEY, Made, make_item, narinfo_of, plain_url
from tests.guix_glue.publish.support import (
    ACL,
    SAMPLES,
    Publisher,
    nothing_half_made,
    publishing,
    wait_until,
)
from tests.integration.daemon import GUARD_S

TRUST = ("--acl", SAMPLES / "keys" / "acl")
USER, PASSWORD = "alice-99", "s3cr3t-w0rd"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """An item that is a file of some 100 kB."""
    (tmp_path / "file").write_bytes(b"content " * 12_500)
    return make_item(tmp_path / "file")


def narinfo_path(made: Made) -> str:
    return f"/{made.item.hash_part}.narinfo"


def with_password(url: str) -> str:
    return url.replace("http://", f"http://{USER}:{PASSWORD}@")


def wait_for_hint(mirror: Publisher, made: Made) -> None:
    wait_until(
        lambda: mirror.request(narinfo_path(made)).narinfo().hint_urn is not None, "the hint"
    )


def authorizations(server: FakeServer) -> list[str | None]:
    return [headers.get("Authorization") for headers in server.headers]


# --- passwords ----------------------------------------------------------------------------------


def test_a_password_goes_to_its_server_and_nowhere_else(made: Made, tmp_path: Path) -> None:
    nar = f"/nar/{made.item.base_name}"
    with running_server() as server, running_server() as other, running_server() as third:
        # Of the nars, the first is gone, the second redirects, to one that has it.
        urls = (
            NarUrl("nar/gone", "none", 1, None),
            NarUrl(f"{other.url}{nar}", "none", 2, None),
            plain_url(made),
        )
        server.files[f"/base{narinfo_path(made)}"] = narinfo_of(made, urls)
        server.files[f"/base{nar}"] = Reply(status=302, headers={"Location": f"{third.url}{nar}"})
        third.files[nar] = made.nar
        upstream = ("--upstream", with_password(f"{server.url}/base/"), "--eris")
        with publishing(tmp_path, *TRUST, *upstream, debug=True) as mirror:
            wait_for_hint(mirror, made)
            answer = mirror.request(narinfo_path(made))
            assert [url.url for url in answer.narinfo().urls] == [
                f"{server.url}/base/nar/gone",
                f"{other.url}{nar}",
                f"{server.url}/base{nar}",
            ]
            assert mirror.stop() == 0
            first_log = mirror.log
            # What was kept on disk has the password neither, nor does it need it.
            mirror.start()
            again = mirror.request(narinfo_path(made))
            assert again.body == answer.body
            assert mirror.stop() == 0
            shown = [
                first_log.encode(),
                mirror.log.encode(),
                answer.body,
                repr(answer.headers).encode(),
            ]
        assert server.requests == [
            f"/base{narinfo_path(made)}",
            "/base/nar/gone",
            f"/base{nar}",
        ]
        assert authorizations(server) == [BASIC] * 3
        assert authorizations(other) == authorizations(third) == [None]
        kept = [path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
        for text in (*shown, *kept):
            assert PASSWORD.encode() not in text
            assert USER.encode() not in text
            assert BASIC.encode() not in text


def test_a_server_that_fails_is_named_without_its_password(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        url = server.url
    with publishing(tmp_path, *TRUST, "--upstream", with_password(url), debug=True) as mirror:
        assert mirror.request(narinfo_path(made)).status == 503
        mirror.wait_for_log(f"{url} cannot be asked")
        assert PASSWORD not in mirror.log
    with running_server() as server:
        server.files[narinfo_path(made)] = Reply(status=500)
        arguments = (*TRUST, "--upstream", with_password(server.url))
        with publishing(tmp_path, *arguments, debug=True) as mirror:
            assert mirror.request(narinfo_path(made)).status == 503
            mirror.wait_for_log(f"{server.url} cannot be asked: the server answers 500")
            assert PASSWORD not in mirror.log


def test_what_an_older_version_kept_is_asked_for_again(made: Made, tmp_path: Path) -> None:
    # Which may have kept a password.
    with running_server() as server:
        server.files[narinfo_path(made)] = narinfo_of(made, (plain_url(made),))
        upstream = ("--upstream", server.url)
        with publishing(tmp_path, *TRUST, *upstream) as mirror:
            mirror.request(narinfo_path(made))
        (kept,) = (tmp_path / "cache" / "v1" / "upstream").iterdir()
        value = parse_checked(kept.read_bytes())
        assert value is not None
        value |= {"version": 1, "server": with_password(server.url)}
        kept.write_bytes(format_checked(value))
        with publishing(tmp_path, *TRUST, *upstream) as mirror:
            assert mirror.request(narinfo_path(made)).status == 200
        assert PASSWORD.encode() not in kept.read_bytes()
        assert len(server.requests) == 2


# --- URLs ---------------------------------------------------------------------------------------


def test_urls_of_nars_lead_where_a_client_of_the_server_would_go(
    made: Made, tmp_path: Path
) -> None:
    with running_server() as server:
        given = {
            "nar/x": f"{server.url}/a/nar/x",
            "/nar/x": f"{server.url}/a/nar/x",
            "//nar/x": f"{server.url}/a/nar/x",
            "nar/y?z=http://h/": f"{server.url}/a/nar/y?z=http://h/",
            "http://other.example/nar/x?y=1": "http://other.example/nar/x?y=1",
            "ftp://other.example/x": None,
            "http://user:password@other.example/x": None,
            "nar/ü": None,
            "nar/x#y": None,
        }
        urls = [NarUrl(url, "none", 1, None) for url in given]
        server.files[f"/a{narinfo_path(made)}"] = narinfo_of(made, urls)
        with publishing(tmp_path, *TRUST, "--upstream", f"{server.url}/a") as mirror:
            narinfo = mirror.request(narinfo_path(made)).narinfo()
            verify_narinfo(narinfo, ACL)
            assert [url.url for url in narinfo.urls] == [url for url in given.values() if url]


def test_a_narinfo_without_a_url_that_can_be_asked_for_is_not_served(
    made: Made, tmp_path: Path
) -> None:
    with running_server() as server:
        urls = (NarUrl("ftp://other.example/x", "none", 1, None),)
        server.files[narinfo_path(made)] = narinfo_of(made, urls)
        with publishing(tmp_path, *TRUST, "--upstream", server.url) as mirror:
            assert mirror.request(narinfo_path(made)).status == 404


@pytest.mark.parametrize(
    ("url", "status"),
    [("http://other.example/nar/x", 200), ("nar/x?http://", 404), ("ftp://other.example/x", 404)],
)
def test_signed_urls_stay_as_they_are_or_are_not_mirrored(
    made: Made, tmp_path: Path, url: str, status: int
) -> None:
    unsigned = f"{format_unsigned(made.item)}URL: {url}\nCompression: none\nFileSize: 1\n"
    text = f"{unsigned}Signature: {sign_text(KEY, unsigned, 'test')}\n".encode()
    with running_server() as server:
        server.files[narinfo_path(made)] = text
        with publishing(tmp_path, *TRUST, "--upstream", server.url) as mirror:
            answer = mirror.request(narinfo_path(made))
            assert answer.status == status
            assert status == 404 or answer.body == text


# --- redirects ----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["narinfo", "nar"])
def test_no_redirect_leads_from_https_to_http(made: Made, tmp_path: Path, what: str) -> None:
    path = narinfo_path(made) if what == "narinfo" else f"/nar/{made.item.base_name}"
    certificate = tmp_path / "certificate"
    with running_server(self_signed(certificate)) as server, running_server() as other:
        server.files[narinfo_path(made)] = narinfo_of(made, (plain_url(made),))
        server.files[path] = Reply(status=302, headers={"Location": f"{other.url}{path}"})
        other.files[narinfo_path(made)] = narinfo_of(made, (plain_url(made),))
        other.files[f"/nar/{made.item.base_name}"] = made.nar
        arguments = (*TRUST, "--upstream", server.url, "--eris")
        environment = {"SSL_CERT_FILE": str(certificate)}
        with publishing(tmp_path, *arguments, env=environment) as mirror:
            status = 503 if what == "narinfo" else 200
            assert mirror.request(narinfo_path(made)).status == status
            mirror.wait_for_log("cannot be asked" if what == "narinfo" else "Not baked")
            mirror.wait_for_log("from https to http")
        assert path in server.requests
        assert other.requests == []


def test_redirects_in_a_circle_end(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        path = narinfo_path(made)
        server.files[path] = Reply(status=301, headers={"Location": path})
        with publishing(tmp_path, *TRUST, "--upstream", server.url) as mirror:
            assert mirror.request(path).status == 503
            mirror.wait_for_log("again and again")
            # One item that cannot be had says nothing about the others.
            server.files[path] = narinfo_of(made, (plain_url(made),))
            assert mirror.request(path).status == 200
        assert len(server.requests) < 10


# --- times --------------------------------------------------------------------------------------


def test_a_narinfo_is_good_for_as_long_as_its_server_says(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        headers = {"Cache-Control": "x-max-age=5, max-age=7200"}
        body = narinfo_of(made, (plain_url(made),))
        server.files[narinfo_path(made)] = Reply(body, headers=headers)
        with publishing(tmp_path, *TRUST, "--upstream", server.url) as mirror:
            assert 5 < (mirror.request(narinfo_path(made)).max_age or 0) <= 7200


def test_what_was_known_is_answered_until_it_expires(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        server.files[narinfo_path(made)] = narinfo_of(made, (plain_url(made),))
        arguments = (*TRUST, "--upstream", server.url, "--ttl", "1d")
        with publishing(tmp_path, *arguments) as mirror:
            first = mirror.request(narinfo_path(made))
            # The server does not say: then it is what the administrator says.
            assert 80_000 < (first.max_age or 0) <= 86_400
        requests = len(server.requests)
    # The server is gone, and so is what was in memory.
    with publishing(tmp_path, *arguments) as mirror:
        assert mirror.request(narinfo_path(made)).body == first.body
    (kept,) = (tmp_path / "cache" / "v1" / "upstream").iterdir()
    value = parse_checked(kept.read_bytes())
    assert value is not None
    # Afterwards it is better than nothing, but not to be remembered.
    kept.write_bytes(format_checked(value | {"good_until": value["good_until"] - 86_400}))
    with publishing(tmp_path, *arguments) as mirror:
        answer = mirror.request(narinfo_path(made))
        assert (answer.body, answer.max_age) == (first.body, 0)
    assert requests == 1


@pytest.mark.parametrize(
    "damage",
    [
        {"good_until": float("inf")},
        {"good_until": "soon"},
        {"eris": ["no", "object"]},
        {"server": "ftp://x"},
        {"text": 5},
        {"version": None},
    ],
    ids=lambda damage: next(iter(damage)),
)
def test_one_damaged_record_is_asked_for_again_and_stops_no_other(
    made: Made, tmp_path: Path, damage: dict[str, object]
) -> None:
    directory = CacheDirectory(tmp_path / "cache")
    cache = MirrorCache(directory, "/gnu/store")
    narinfo = parse_narinfo(narinfo_of(made, (plain_url(made),)), store_dir="/gnu/store")
    cache.keep(Mirrored(parse_server("http://x"), narinfo, 1000.0))
    path = tmp_path / "cache" / "v1" / "upstream"
    good = path / made.item.hash_part
    value = parse_checked(good.read_bytes())
    assert value is not None
    other = path / ("0" * 32)
    other.write_bytes(format_checked(value | damage))
    (path / ("1" * 32)).mkdir()
    # The record of another item.
    (path / ("2" * 32)).write_bytes(good.read_bytes())
    cache = MirrorCache(directory, "/gnu/store")
    for number in range(3):
        assert cache.find(f"{number}" * 32) is None
    cache.expire(500.0)
    assert not other.exists()
    assert cache.find(made.item.hash_part) is not None
    cache.expire(2000.0)
    assert cache.find(made.item.hash_part) is None
    directory.close()


# --- sizes --------------------------------------------------------------------------------------


def unsigned_size(made: Made, size: int, nar: NarUrl) -> bytes:
    """A narinfo that says the size of its nar where no signature covers it."""
    lines = format_unsigned(made.item).splitlines(keepends=True)
    signed = "".join(line for line in lines if not line.startswith("NarSize:"))
    assert "NarSize" not in signed
    text = f"{signed}Signature: {sign_text(KEY, signed, 'test')}\nNarSize: {size}\n"
    return f"{text}URL: {nar.url}\nCompression: {nar.compression}\n".encode()


# A nar of one file that is as long as can be; a frame of zstd that stands for nothing.
ENDLESS = {
    "none": b"".join(
        struct.pack("<Q", len(word)) + word + bytes(-len(word) % 8)
        for word in (b"nix-archive-1", b"(", b"type", b"regular", b"contents")
    )
    + struct.pack("<Q", 1 << 40),
    "zstd": b"",
}
STEP = {"none": bytes(64 * 1024), "zstd": struct.pack("<II", 0x184D2A50, 65536) + bytes(65536)}


@pytest.mark.parametrize("method", ["none", "zstd"])
@pytest.mark.parametrize("signed", [True, False])
def test_a_nar_without_an_end_is_cut_off(
    made: Made, tmp_path: Path, method: str, *, signed: bool
) -> None:
    limit = len(made.nar) if signed else 1_000_000
    sent = 0
    cut_off = threading.Event()

    def script(connection: socket.socket) -> None:
        nonlocal sent
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + ENDLESS[method])
        try:
            while True:
                sent += connection.send(STEP[method])
        finally:
            cut_off.set()

    with running_server() as server, scripted_server(script) as endless:
        url = NarUrl(f"{endless}/x", method, None, None)
        text = narinfo_of(made, (url,)) if signed else unsigned_size(made, 1 << 61, url)
        server.files[narinfo_path(made)] = text
        arguments = ("--upstream", server.url, "--eris", "--max-unsigned-size", "1000000")
        with publishing(tmp_path, *TRUST, *arguments) as mirror:
            assert mirror.request(narinfo_path(made)).status == 200
            assert cut_off.wait(GUARD_S)
            mirror.wait_for_log("Not baked")
            assert mirror.request(narinfo_path(made)).narinfo().hint_urn is None
            nothing_half_made(tmp_path / "cache")
    # What the buffers of two sockets hold besides is some MiB.
    assert sent < limit + 32 * 1024 * 1024


def test_a_nar_whose_end_nobody_tells(made: Made, tmp_path: Path) -> None:
    script = nar_without_an_end(made.nar)
    with running_server() as server, scripted_server(script) as url:
        nar = NarUrl(f"{url}/nar", "none", None, None)
        server.files[narinfo_path(made)] = narinfo_of(made, (nar,))
        with publishing(tmp_path, *TRUST, "--upstream", server.url, "--eris") as mirror:
            wait_for_hint(mirror, made)


def test_an_unsigned_size_within_the_limit_is_taken(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        server.files[narinfo_path(made)] = unsigned_size(made, 5, plain_url(made))
        server.files[f"/nar/{made.item.base_name}"] = made.nar
        limit = ("--max-unsigned-size", str(len(made.nar)))
        with publishing(tmp_path, *TRUST, "--upstream", server.url, "--eris", *limit) as mirror:
            wait_for_hint(mirror, made)
