"""`kapla publish` on the command line: what it refuses, root given up, sockets handed over."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from guix_glue.cli.publish import command
from tests.guix_glue.publish.support import KEYS, SAMPLES, make_item, publishing, wait_until
from tests.integration.daemon import GUARD_S, program

NIX_KEY = SAMPLES / "nix-2.8" / "secret-key"


def refused(*arguments: str | Path, env: Mapping[str, str] | None = None) -> str:
    """What the command says that does not start."""
    done = subprocess.run(
        [program("kapla"), "publish", *map(str, arguments)],
        capture_output=True,
        env={**os.environ, **(env or {})},
        timeout=GUARD_S,
        check=False,
    )
    assert done.returncode not in (0, -9), done
    assert b"Traceback" not in done.stderr, done
    return " ".join(done.stderr.decode().split())


def test_options_that_are_wrong(tmp_path: Path) -> None:
    alone = ("--items", tmp_path, *KEYS, "--listen", "127.0.0.1", "--port", "0")
    for arguments, reason in (
        (("--ttl", "5"), "is no duration"),
        (("--negative-ttl", "5min"), "m months of 30 days"),
        (("--nar-path", "/"), "is no path"),
        (("-C", "brotli"), "brotli"),
        (("-C", "zstd", "-C", "zstd:19"), "zstd is given with two levels"),
        (("-C", "gzip:1", "-C", "none", "-C", "5"), "gzip is given with two levels"),
        (("--upstream", "ftp://x"), "begins with http://, https://"),
        (("--upstream", "file:///srv"), "http:// and https:// only"),
        (("--upstream", "http://user:secret@"), "names no host"),
        (("--max-unsigned-size", "5"), "is for --upstream"),
        (("--upstream", "http://x", "--cache-bypass-threshold", "1M"), "of this machine"),
        (("--cache-bypass-threshold", "much"), "a size is"),
        (("--keep-nars",), "is for --upstream"),
        (("--upstream", "http://x", "--keep-nars-max", "5G"), "is for --keep-nars"),
        (("--upstream", "http://x", "--keep-nars", "--keep-nars-max", "5 cows"), "a size is"),
        (("--max-connections", "0"), "--max-connections"),
        (("--upstream", "http://x", "--items", "/"), "exclude each other"),
        (("--store-dir", "gnu"), "absolute path"),
        (("--priority", "-1"), "--priority"),
        (("--store-dir", "/srv"), "--items serves a directory"),
        (("--items", tmp_path / "none"), "does not exist"),
        (("--eris=ftp://x",), "URL"),
        (("--eris=http://x coap+tcp://x?get",), "only read"),
        (("--eris", "--eris-format", "tar"), "'packed', 'standard'"),
        (("--eris", "--eris-level", "0"), "--eris-level"),
        (("--eris", "--eris-format", "standard", "--eris-level", "3"), "is for packed trees"),
        (("--eris-format", "packed"), "are for --eris"),
        (("--eris-level", "3"), "are for --eris"),
        (("--deltas", "3"), "is for --eris STORE-URL"),
        (("--eris", "--deltas", "0"), "is for --eris STORE-URL"),
        (("--eris=coap+unix:///s", "--eris-format=standard", "--deltas", "1"), "packed trees"),
        (("--eris=coap+unix:///s", "--deltas", "9"), "--deltas"),
        ((*alone, "--advertise"), "no other machine"),
    ):
        given = [*map(str, arguments), "--cache", str(tmp_path / "cache")]
        done = CliRunner().invoke(command, given)
        assert done.exit_code == 2, (done.exception, arguments)
        assert reason in " ".join(done.stderr.split()), arguments
        assert "secret" not in done.stderr
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [
        ("--upstream", "http://127.0.0.1:9", "http://user:secret@"),
        ("--upstream", "http://127.0.0.1:9", "file:///srv"),
        ("--eris", "coap+unix:///nowhere", "http://user:secret@x"),
    ],
)
def test_a_url_of_a_list_that_is_wrong_is_left_out(
    option: str, good: str, bad: str, tmp_path: Path
) -> None:
    acl = SAMPLES / "keys" / "acl"
    what: list[str | Path] = (
        ["--acl", acl] if option == "--upstream" else ["--items", tmp_path, *KEYS]
    )
    with publishing(tmp_path, *what, f"{option}={bad} {good}") as publisher:
        assert publisher.log.count(f"{option}: URL 1 is left out: ") == 1
        assert "secret" not in publisher.log
        assert publisher.request("/nix-cache-info").status == 200
    assert f"for {option}" in refused(*what, f"{option}={bad} {bad}").replace("'", "")


def test_without_keys_the_option_is_named(tmp_path: Path) -> None:
    environment = {"GUIX_CONFIGURATION_DIRECTORY": str(tmp_path)}
    text = refused("--items", tmp_path, "--cache", tmp_path / "cache", env=environment)
    assert f"{tmp_path}/signing-key.pub (--public-key): No such file" in text


def test_without_a_store_of_nix_the_way_out_is_named(tmp_path: Path) -> None:
    environment = {
        "GUIX_STATE_DIRECTORY": str(tmp_path / "guix"),
        "NIX_STATE_DIR": str(tmp_path / "nix"),
    }
    text = refused("--nix-key", NIX_KEY, "--cache", tmp_path / "cache", env=environment)
    assert "there is no store of Nix here" in text
    assert "--items" in text


def test_users_of_guix_are_not_told_of_a_store_of_nix(tmp_path: Path) -> None:
    (tmp_path / "nix" / "db").mkdir(parents=True)
    (tmp_path / "nix" / "db" / "db.sqlite").touch()
    environment = {"NIX_STATE_DIR": str(tmp_path / "nix")}
    served = ("--store-dir", "/nix/store", "--nix-key", NIX_KEY, "--cache", tmp_path / "cache")
    text = refused(*served, "--advertise", env=environment)
    assert "--advertise tells users of Guix" in text


def test_months_are_explained() -> None:
    assert "MONTHS of 30 days" in " ".join(CliRunner().invoke(command, "--help").stdout.split())


def test_for_nix(tmp_path: Path) -> None:
    items = tmp_path / "items"
    items.mkdir()
    item = make_item(items, "item")
    item.write_bytes(b"x")
    with publishing(tmp_path, "--items", items, "--nix-key", NIX_KEY) as publisher:
        narinfo = publisher.baked(item, store_dir="/nix/store").narinfo("/nix/store")
        assert narinfo.signature is None
        assert len(narinfo.nix_signatures) == 1
        info = publisher.request("/nix-cache-info").body
        assert info.startswith(b"StoreDir: /nix/store\nWantMassQuery: 1\n")
        public = (SAMPLES / "nix-2.8" / "public-key").read_bytes().strip()
        assert publisher.request("/signing-key.pub").body.strip() == public
    with publishing(tmp_path, "--items", items, "--nix-key", NIX_KEY, *KEYS) as publisher:
        narinfo = publisher.narinfo(item).narinfo("/nix/store")
        assert narinfo.signature is not None
        assert len(narinfo.nix_signatures) == 1


def test_a_compression_given_twice_is_one(tmp_path: Path) -> None:
    items = tmp_path / "items"
    items.mkdir()
    item = make_item(items, "item")
    item.write_bytes(b"x")
    twice = ("-C", "zstd", "-C", "zstd:3")
    with publishing(tmp_path, "--items", items, *KEYS, *twice) as publisher:
        assert [url.compression for url in publisher.baked(item).narinfo().urls] == ["zstd"]


def test_sockets_of_the_service_manager(tmp_path: Path) -> None:
    make_item(tmp_path, "item").write_bytes(b"x")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        # What a service manager does: the socket is descriptor 3, and the variables name us.
        start = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3, True); os.environ.update("
            "LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); os.execv(sys.argv[2], sys.argv[2:])"
        )
        command = [sys.executable, "-c", start, str(listening.fileno()), program("kapla")]
        options = ["publish", "--items", tmp_path, "--cache", tmp_path / "cache", *KEYS]
        process = subprocess.Popen(
            [*command, *map(str, options)],
            pass_fds=[listening.fileno()],
            stderr=subprocess.PIPE,
        )
        try:
            # The connection waits until it is accepted.
            with socket.create_connection(("127.0.0.1", port), GUARD_S) as connection:
                connection.sendall(b"GET /nix-cache-info HTTP/1.0\r\n\r\n")
                assert connection.recv(1 << 16).startswith(b"HTTP/1.0 200 OK")
            process.terminate()
            assert process.wait(GUARD_S) == 0
        finally:
            process.kill()
            _, stderr = process.communicate()
        assert f"Listening on http://127.0.0.1:{port}".encode() in stderr


def test_two_servers_on_one_cache(tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    arguments = ("--items", tmp_path / "items", *KEYS)
    with publishing(tmp_path, *arguments):
        text = refused(*arguments, "--cache", tmp_path / "cache", "--port", "0")
        assert "another server is using it" in text


def test_what_is_large_is_not_offered_until_it_is_baked(tmp_path: Path) -> None:
    items = tmp_path / "items"
    items.mkdir()
    small, large, packed = (make_item(items, name) for name in ("small", "large", "large.tar.gz"))
    small.write_bytes(b"x")
    for item in (large, packed):
        item.write_bytes(b"x" * 100_000)
    threshold = ("--cache-bypass-threshold", "10K", "--ttl", "1d")
    with publishing(tmp_path, "--items", items, *KEYS, *threshold) as publisher:
        assert publisher.narinfo(small).status == 200
        assert publisher.request(f"/nar/{small.name}").status == 200
        # What is not compressed is kept too.
        assert publisher.narinfo(packed).status == 404
        assert publisher.request(f"/nar/{large.name}").status == 404
        first = publisher.narinfo(large)
        assert (first.status, first.max_age, first.headers["x-baking"]) == (404, 300, "1")
        assert first.body == f"We're baking it: /gnu/store/{large.name}".encode()
        wait_until(lambda: publisher.narinfo(large).status == 200, "it to be baked")
        assert [url.compression for url in publisher.narinfo(large).narinfo().urls] == ["gzip"]
        assert publisher.request(f"/nar/{large.name}").status == 200
        wait_until(lambda: publisher.narinfo(packed).status == 200, "the other one to be kept")
