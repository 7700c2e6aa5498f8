"""`kapla proxy` on the command line, and at work in front of servers of HTTP."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from guix_glue.cli.proxy import command
from guix_glue.cli.proxying import remarks_on
from guix_glue.errors import PublishError
from guix_glue.proxy.routes import nar_url
from guix_glue.serving.listening import bind_sockets
from guix_glue.trust.authorities import Authorities
from tests.guix_glue.fetch.fakes import FakeServer, running_server
from tests.guix_glue.fetch.support import (
    Made,
    assert_canonical,
    configuration,
    make_item,
    program_environment,
    publish,
    run_program,
)
from tests.guix_glue.proxy.running import ALONE, TRUST, proxying
from tests.guix_glue.publish.support import ACL, Publisher
from tests.guix_glue.samples import SAMPLES
from tests.integration.daemon import GUARD_S, running_daemon, wait_until
from tests.integration.here import User

NIX_KEY = (SAMPLES / "nix-2.8" / "public-key").read_text().strip()


def test_options_that_are_wrong(tmp_path: Path) -> None:
    one = ("--upstream", "http://x")
    for arguments, reason in (
        ((), "--upstream"),
        (("--upstream", "ftp://x"), "begins with http://, https://"),
        (("--upstream", "file:///srv"), "http:// and https:// only"),
        (("--upstream", "http://user:secret@"), "names no host"),
        ((*one, "--trusted-public-keys", "secret"), "name:base64"),
        ((*one, "--store-dir", "gnu"), "absolute path"),
        ((*one, "--spool-max", "much"), "a size is"),
        ((*one, "--priority", "-1"), "--priority"),
        ((*one, "--map", "secret", "--no-hints"), "exclude each other"),
        ((*one, "--max-connections", "0"), "--max-connections"),
    ):
        given = [*map(str, arguments), "--cache", str(tmp_path / "cache")]
        done = CliRunner().invoke(command, given, env=dict(ALONE))
        assert done.exit_code == 2, (done.exception, arguments)
        assert reason in " ".join(done.stderr.split()), arguments
        assert "secret" not in done.stderr
    assert not (tmp_path / "cache").exists()


def test_maps_of_the_environment_are_no_reason_to_stop(tmp_path: Path) -> None:
    given = ("--upstream", "http://x", "--no-hints", "--store-dir", "gnu", "--cache", str(tmp_path))
    done = CliRunner().invoke(command, given, env={**ALONE, "KAPLA_MAPS": "secret"})
    # What is looked at next.
    assert "absolute path" in " ".join(done.stderr.split())
    assert "exclude" not in done.stderr


@dataclass
class Stage:
    """A server, a proxy of it, and an item."""

    server: FakeServer
    proxy: Publisher
    made: Made
    log: Path

    def ask(self, path: str, method: str = "GET") -> bytes:
        return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("proxy")
    (directory / "file").write_bytes(bytes(range(256)) * 1000)
    made = make_item(directory / "file")
    log = directory / "requests"
    with running_server() as server:
        publish(server, made)
        server.files["/nix-cache-info"] = b"StoreDir: /gnu/store\nWantMassQuery: 0\nPriority: 100\n"
        more = ("--request-log", log, "--priority", "7", "--admin", "127.0.0.1:0")
        with proxying(directory, [server.url], *TRUST, *more) as proxy:
            yield Stage(server, proxy, made, log)


def test_an_item_by_http(stage: Stage) -> None:
    answer = stage.proxy.narinfo(stage.made.root.parent / stage.made.item.base_name)
    (url,) = answer.narinfo().urls
    assert (url.url, url.compression) == (nar_url(stage.made.item), "none")
    nar = stage.proxy.request(f"/{url.url}")
    assert nar.body == stage.made.nar
    assert int(nar.headers["content-length"]) == url.file_size
    head = stage.proxy.request(f"/{url.url}", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == nar.headers["content-length"]
    part = stage.proxy.request(f"/{url.url}", headers={"Range": "bytes=1000-1999"})
    assert (part.status, part.body) == (206, stage.made.nar[1000:2000])
    again = stage.proxy.request(f"/{url.url}", headers={"If-None-Match": nar.headers["etag"]})
    assert again.status == 304


def test_what_it_says_of_itself(stage: Stage) -> None:
    told = stage.proxy.request("/nix-cache-info").body.decode()
    assert told == "StoreDir: /gnu/store\nWantMassQuery: 0\nPriority: 7\n"
    assert "/gnu/store" in stage.proxy.request("/").body.decode()
    assert stage.proxy.request("/signing-key.pub").status == 404


def test_many_requests_on_one_connection(stage: Stage) -> None:
    part = stage.made.item.hash_part
    with stage.proxy.connect() as connection:
        wanted = [f"/{part}.narinfo", f"/{'0' * 32}.narinfo", "/nix-cache-info"] * 20
        connection.sendall(b"".join(map(stage.ask, wanted)))
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while data := connection.recv(1 << 16):
            received += data
    assert received.count(b"HTTP/1.1 200 ") == 40
    assert received.count(b"HTTP/1.1 404 ") == 20


def test_how_it_is_doing(stage: Stage) -> None:
    stage.proxy.request("/nix-cache-info")
    match = re.search(r"Telling of the proxy on (http://127\.0\.0\.1:\d+)", stage.proxy.log)
    assert match is not None

    def told(path: str) -> str:
        with urllib.request.urlopen(f"{match[1]}{path}", timeout=GUARD_S) as reply:
            text: bytes = reply.read()
            return text.decode()

    facts = json.loads(told("/status"))
    assert facts["requests"]["other"] > 0
    assert facts["statuses"]["2xx"] > 0
    assert facts["resting_servers"] == 0
    assert "kapla_proxy_resting_servers 0" in told("/metrics").splitlines()
    assert told("/healthz") == "ok\n"
    assert "resting servers" in told("/")


def test_our_own_fetcher_takes_it_as_any_other_server(stage: Stage, tmp_path: Path) -> None:
    with configuration() as config:
        options = f"substitute-urls={stage.proxy.url}\n"
        environment = program_environment(config, options) | {"ERIS_STORE_URL": "none"}
        target = tmp_path / "item"
        command = f"substitute {stage.made.item.path} {target}\n".encode()
        done = run_program(["--substitute"], command, environment)
    assert done.replies.startswith(b"success sha256:"), done
    assert_canonical(target, stage.made.item.nar_hash, len(stage.made.nar))


def test_what_nobody_signed_comes_by_the_word_of_a_map(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(256)) * 1000)
    made = make_item(tmp_path / "file")
    with running_daemon() as daemon, running_server() as server:
        urn = User(tmp_path, daemon.url).out("encode", "--packed", tmp_path / "file")
        (tmp_path / "map").write_text(f"{made.item.path} {urn}\n")
        publish(server, made)
        server.files["/nix-cache-info"] = b"StoreDir: /gnu/store\n"
        more = ("--eris-store-url", daemon.url, "--map", tmp_path / "map")
        with proxying(tmp_path, [server.url], *TRUST, *more) as proxy:
            narinfo = proxy.request(f"/{made.item.hash_part}.narinfo")
            assert b"ERIS" not in narinfo.body
            server.files.clear()
            assert proxy.request(f"/{nar_url(made.item)}").body == made.nar


def test_the_log_tells_of_requests_and_of_no_fault(stage: Stage) -> None:
    stage.proxy.request("/only-here")
    line = '"GET /only-here HTTP/1.1" 404'
    wait_until(lambda: line in stage.log.read_text(), "the line of a request")
    assert "of one server" in stage.proxy.log
    assert "No key" not in stage.proxy.log
    assert "Other machines" not in stage.proxy.log


@pytest.mark.parametrize(
    ("host", "reached"), [("127.0.0.1", False), ("::1", False), ("0.0.0.0", True), ("::", True)]
)
def test_who_serves_others_or_has_no_key_is_told_so(host: str, reached: bool) -> None:
    try:
        (listening,) = bind_sockets(host, 0)
    except PublishError as error:
        pytest.skip(f"{error}")
    with listening:
        remarks = list(remarks_on(Authorities(ACL), [listening]))
        assert [remark.startswith("Other machines") for remark in remarks] == [True] * reached
        first, *rest = remarks_on(Authorities(), [listening])
        assert first.startswith("No key of Guix or Nix is trusted here")
        assert rest == remarks
