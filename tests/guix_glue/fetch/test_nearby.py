"""Servers that were found on the local network: few are asked, and for less than those named."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from eris import MemoryStore
from eris.transfer import put_content
from guix_glue.fetch.nearby import (
    FRESH_S,
    KEPT_S,
    MAX_NEARBY,
    Noted,
    NotedServers,
    choose,
    discovered_by_guix,
    nearby_server,
)
from guix_glue.formats.narinfo import NarUrl
from guix_glue.servers.url import Server, parse_server
from guix_glue.sources.order import ErisSource, sources_of
from guix_glue.sources.vouching import find_vouched, read_candidates
from guix_glue.trust.acl import Acl
from guix_glue.trust.authorities import Authorities
from tests.guix_glue.fetch.bringing import NOTHING, bring
from tests.guix_glue.fetch.fakes import FakeServer, Reply, running_server, scripted_server
from tests.guix_glue.fetch.support import (
    SAMPLES,
    STORE,
    Made,
    configuration,
    make_item,
    narinfo_of,
    plain_url,
    program_environment,
    publish,
    run_program,
)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    (tmp_path / "root").write_bytes(b"content" * 1000)
    return make_item(tmp_path / "root")


@pytest.fixture
def named() -> Iterator[FakeServer]:
    with running_server() as one:
        yield one


@pytest.fixture
def found() -> Iterator[FakeServer]:
    with running_server() as one:
        yield one


ACL = Acl.parse((SAMPLES / "keys/acl").read_bytes())
URNS = [asyncio.run(put_content(MemoryStore(), bytes([number]))).to_urn() for number in range(2)]


def narinfo_path(made: Made) -> str:
    return f"/{made.item.hash_part}.narinfo"


# --- which of them are asked ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "port"),
    [
        ("127.0.0.1", 80),
        ("::1", 80),
        ("::ffff:127.0.0.1", 80),
        ("0.0.0.0", 80),
        ("::", 80),
        ("224.0.0.251", 80),
        ("ff02::fb%1", 80),
        ("255.255.255.255", 80),
        ("198.51.100.7", 0),
        ("198.51.100.7", 65536),
        ("198.51.100.7", -1),
        ("example.org", 80),
        ("198.51.100.7/", 80),
        ("198.51.100.7 ", 80),
        ("", 80),
        ("fe80::1%a/b", 80),
        ("fe80::1%\n", 80),
    ],
)
def test_what_is_no_address_of_one_other_machine_is_not_asked(address: str, port: int) -> None:
    assert nearby_server(address, port) is None


def test_an_address_of_this_machine_is_not_asked() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.7", 9))
        except OSError:
            pytest.skip("this machine has no address but those of the loopback interface")
        own = probe.getsockname()[0]
    assert nearby_server(own, 8080) is None
    other = nearby_server("198.51.100.7", 8080)
    assert other is not None
    assert (other.url, other.nearby) == ("http://198.51.100.7:8080", True)


def test_few_are_asked_once_each_and_none_that_was_named() -> None:
    def server(number: int) -> Server:
        return replace(parse_server(f"http://198.51.100.{number}:8080"), nearby=True)

    assert choose([server(1), server(2), server(1)], [parse_server(server(2).url)]) == [server(1)]
    many = [server(number) for number in range(100)]
    chosen = choose(many, ())
    assert len(set(chosen)) == len(chosen) == MAX_NEARBY
    assert set(chosen) <= set(many)


# --- where they are noted ---------------------------------------------------------------------

ODD = (
    b"http://127.0.0.1:8080\nhttp://127.0.0.1\nhttp://[::1]:8080\nhttp://198.51.100.7:0\nhttp://198.51.100.7:99999\n"
    b"http://198.51.100.7:80/path\nhttp://user:secret@198.51.100.7:80\nhttps://198.51.100.7:443\n"
    b"http://example.org:80\nfile:///etc\n\xff\xfe\x00\n\n\r\nhttp://198.51.100.7:80?query\n"
    b"http://[fe80::1%25e/th]:80\nhttp://198.51.100.7:80\x1b[31m\n" + b"x" * 5000 + b"\n"
)


def test_odd_lines_of_the_file_of_guix_are_passed_over(tmp_path: Path) -> None:
    assert discovered_by_guix(str(tmp_path)) is None
    (tmp_path / "discover").mkdir()
    file = tmp_path / "discover/publish"
    file.write_bytes(ODD)
    assert discovered_by_guix(str(tmp_path)) == []
    file.write_bytes(ODD * 1000)
    assert discovered_by_guix(str(tmp_path)) == []
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(OSError, match="not a regular file"):
        discovered_by_guix(str(tmp_path))


def reachable(port: int) -> Server:
    server = nearby_server("198.51.100.7", port)
    if server is None:
        pytest.skip("this machine has no way to other machines")
    return server


def read_at(directory: Path, when: float) -> Noted | None:
    return NotedServers(str(directory), now=lambda: when).read()


def test_what_was_found_holds_for_a_while(tmp_path: Path) -> None:
    servers = (reachable(8080), reachable(80))
    directory = tmp_path / "a" / "cache"
    NotedServers(str(directory)).write(servers)
    status = (directory / "nearby").stat()
    assert status.st_mode & 0o777 == 0o600
    assert read_at(directory, status.st_mtime) == Noted(servers, is_fresh=True)
    assert read_at(directory, status.st_mtime + FRESH_S + 1) == Noted(servers, is_fresh=False)
    assert read_at(directory, status.st_mtime + KEPT_S + 1) is None
    assert read_at(directory, status.st_mtime - 10) is None


def test_that_nothing_was_found_holds_for_less(tmp_path: Path) -> None:
    NotedServers(str(tmp_path)).write([])
    written = (tmp_path / "nearby").stat().st_mtime
    assert read_at(tmp_path, written) == Noted((), is_fresh=True)
    assert read_at(tmp_path, written + FRESH_S) is None


def test_what_others_may_have_written_is_not_read(tmp_path: Path) -> None:
    noted = NotedServers(str(tmp_path))
    noted.write([])
    assert noted.read() is not None
    (tmp_path / "nearby").chmod(0o666)
    assert noted.read() is None
    (tmp_path / "nearby").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").chmod(0o600)
    (tmp_path / "nearby").symlink_to("elsewhere")
    assert noted.read() is None
    # And what cannot be written is not noted.
    NotedServers(str(tmp_path / "elsewhere")).write([])
    assert NotedServers(str(tmp_path / "elsewhere")).read() is None


# --- what they are granted --------------------------------------------------------------------


def test_one_that_was_found_comes_first(
    made: Made, named: FakeServer, found: FakeServer, tmp_path: Path
) -> None:
    for server in (named, found):
        publish(server, made)
    # No proxy is asked for it.
    environ = {"http_proxy": "http://127.0.0.1:1"}
    brought = bring(made, tmp_path / "item", named.url, nearby=[found.url], environ=environ)
    brought.assert_right(made, tmp_path / "item")
    assert f"/nar/{made.item.base_name}" in found.requests
    assert named.requests == []


def test_silent_ones_cost_little(made: Made, named: FakeServer, tmp_path: Path) -> None:
    publish(named, made)
    narinfo = narinfo_of(made, [plain_url(made), NarUrl("again", "gzip", 5, None)])

    def stall(connection: socket.socket) -> None:
        if b".narinfo" in connection.recv(1 << 16):
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(narinfo)}\r\n\r\n"
            connection.sendall(head.encode() + narinfo)
        connection.recv(1 << 16)
        connection.recv(1 << 16)

    with ExitStack() as stack:
        urls = [stack.enter_context(scripted_server(stall)) for _ in range(MAX_NEARBY)]
        brought = bring(made, tmp_path / "item", named.url, nearby=urls)
    brought.assert_right(made, tmp_path / "item")
    # Two of them, each for a fifth of the minute that others have.
    assert brought.took_s < 30
    assert brought.messages.count("download from ") == 2


def test_they_lead_to_nobody_else(
    made: Made, named: FakeServer, found: FakeServer, tmp_path: Path
) -> None:
    publish(named, made)
    with running_server() as spy:
        publish(spy, made)
        nar = f"/nar/{made.item.base_name}"
        elsewhere = [NarUrl(f"{spy.url}{nar}", "none", len(made.nar), None)]
        answers: list[dict[str, bytes | Reply]] = [
            {narinfo_path(made): Reply(status=302, headers={"Location": spy.url + "/x"})},
            {narinfo_path(made): narinfo_of(made, elsewhere)},
            {
                narinfo_path(made): narinfo_of(made, [plain_url(made)]),
                nar: Reply(status=301, headers={"Location": spy.url + nar}),
            },
        ]
        for number, files in enumerate(answers):
            found.files = files
            destination = tmp_path / f"item-{number}"
            bring(made, destination, named.url, nearby=[found.url]).assert_right(made, destination)
        assert spy.requests == []
    assert len(found.requests) == 4


def test_what_is_wrong_with_them_is_said_once(made: Made, tmp_path: Path) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(running_server()) for _ in range(4)]
        for server in servers:
            server.files[narinfo_path(made)] = b"nonsense"
        brought = bring(made, tmp_path / "item", nearby=[server.url for server in servers])
    assert brought.reply == NOTHING
    assert brought.messages.count("warning") == 1


def test_their_hints_are_not_followed(made: Made) -> None:
    def hints(*servers: Server) -> list[str]:
        found = [
            (server, {made.item.hash_part: narinfo_of(made, [plain_url(made)], hint=urn)})
            for server, urn in zip(servers, URNS, strict=False)
        ]
        candidates = read_candidates(made.item.path, STORE, found, lambda *_: None)
        (way,) = find_vouched(candidates, Authorities(ACL), lambda *_: None)
        tried = [one.source for one in sources_of(way, eris=True, trust_hints=True)]
        return [one.capability.to_urn() for one in tried if isinstance(one, ErisSource)]

    near, named = (parse_server(f"http://198.51.100.{number}") for number in (1, 2))
    near = replace(near, nearby=True)
    assert hints(named, near) == [URNS[0]]
    assert hints(near, named) == [URNS[1]]
    assert hints(near) == []


def test_a_lie_of_theirs_is_no_mismatch_for_the_daemon(
    made: Made, found: FakeServer, tmp_path: Path
) -> None:
    publish(found, made)
    found.files[f"/nar/{made.item.base_name}"] = made.nar.replace(b"content", b"c0ntent")
    brought = bring(made, tmp_path / "item", nearby=[found.url])
    assert brought.reply == NOTHING
    assert not (tmp_path / "item").exists()


def test_the_daemon_hands_on_what_guix_has_found(
    made: Made, named: FakeServer, tmp_path: Path
) -> None:
    publish(named, made)
    (tmp_path / "discover").mkdir()
    (tmp_path / "discover/publish").write_bytes(ODD)
    with configuration() as config:
        for said in ("true", "false", "yes"):
            options = f"substitute-urls={named.url}\ndiscover={said}\nuntrusted-discover=true"
            environment = program_environment(config, options)
            environment["GUIX_STATE_DIRECTORY"] = str(tmp_path)
            done = run_program(["--query"], f"have {made.item.path} \n".encode(), environment)
            assert (done.replies.decode(), done.code) == (f"{made.item.path}\n\n", 0)
            assert "warning" not in done.messages


@pytest.mark.parametrize(
    ("arguments", "said", "warned"),
    [
        ((), "true", True),
        ((), "false", False),
        (("--no-discover",), "true", False),
    ],
)
def test_the_file_of_guix_is_read_if_it_is_wanted(
    arguments: tuple[str, ...],
    said: str,
    warned: bool,
    made: Made,
    named: FakeServer,
    tmp_path: Path,
) -> None:
    publish(named, made)
    (tmp_path / "discover/publish").mkdir(parents=True)
    with configuration() as config:
        environment = program_environment(config, f"substitute-urls={named.url}\ndiscover={said}")
        environment["GUIX_STATE_DIRECTORY"] = str(tmp_path)
        commands = f"have {made.item.path} \n".encode()
        done = run_program(["--query", *arguments], commands, environment)
    assert done.replies.decode() == f"{made.item.path}\n\n"
    assert ("what guix discover has found cannot be read" in done.messages) is warned
