"""The real program beside a real `kaplad`, as the Guix daemon would run it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

import eris_fs
from guix_glue.formats.narinfo import NarUrl
from guix_glue.formats.store_path import format_hash
from guix_glue.trust.acl import LARGEST_ACL
from kapla.client import default_store_urls, open_store
from tests.guix_glue.fetch.fakes import (
    FakeServer,
    Reply,
    running_server,
    scripted_server,
    self_signed,
)
from tests.guix_glue.fetch.support import (
    SAMPLES,
    Done,
    Made,
    assert_canonical,
    configuration,
    make_item,
    make_tree,
    narinfo_of,
    plain_url,
    program_environment,
    publish,
    run_program,
    start_program,
    with_unsigned_size,
)
from tests.integration.commands import stalling_store
from tests.integration.daemon import GUARD_S, Daemon, program, running_daemon
from tests.integration.users import as_a_user


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("item") / "tree"
    make_tree(root, big=3_000_000)
    return make_item(root)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """For all tests that leave it as it is."""
    with running_daemon() as one:
        yield one


@pytest.fixture
def own_daemon() -> Iterator[Daemon]:
    with running_daemon() as one:
        yield one


@pytest.fixture
def config() -> Iterator[Path]:
    with configuration() as directory:
        yield directory


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with running_server() as one:
        yield one


def put_tree(daemon: Daemon, root: Path) -> str:
    async def put() -> str:
        async with open_store(default_store_urls(daemon.url)) as store:
            return (await eris_fs.put_tree(store, root)).to_urn()

    return asyncio.run(put())


def command_for(made: Made, destination: Path) -> bytes:
    return f"substitute {made.item.path} {destination}\n".encode()


def options_for(*urls: str) -> str:
    return f"print-extended-build-trace=1\nsubstitute-urls={' '.join(urls)}\ndeduplicate=yes"


def fetch(made: Made, destination: Path, config: Path, server: FakeServer, *arguments: str) -> Done:
    """Fetch one item with the program, which must succeed."""
    environment = program_environment(config, options_for(server.url))
    done = run_program(["--substitute", *arguments], command_for(made, destination), environment)
    expected = f"success {format_hash(made.item.nar_hash)} {made.item.nar_size}\n"
    assert (done.replies.decode(), done.code) == (expected, 0), done
    assert_canonical(destination, made.item.nar_hash, made.item.nar_size)
    return done


def nars_asked(server: FakeServer) -> bool:
    return any(path.startswith("/nar/") for path in server.requests)


def test_an_item_out_of_a_real_daemon(
    made: Made, daemon: Daemon, config: Path, server: FakeServer, tmp_path: Path
) -> None:
    publish(server, made, urn=put_tree(daemon, made.root))
    done = fetch(made, tmp_path / "item", config, server, "--eris-store-url", daemon.url)
    assert not nars_asked(server)
    assert f"@ download-succeeded {tmp_path}/item urn:eris:B" in done.messages
    # The second of two stores will do, too.
    gone = f"coap+unix://{config}/gone.sock"
    fetch(
        made,
        tmp_path / "two",
        config,
        server,
        "--eris-store-url",
        gone,
        "--eris-store-url",
        daemon.url,
    )
    assert not nars_asked(server)


def test_a_frozen_store_does_not_hide_the_next_one(
    made: Made, own_daemon: Daemon, config: Path, server: FakeServer, tmp_path: Path
) -> None:
    publish(server, made, urn=put_tree(own_daemon, made.root))
    with running_daemon() as frozen:
        os.kill(frozen.pid, signal.SIGSTOP)
        stores = f"{frozen.url} {own_daemon.url}"
        arguments = ("--eris-store-url", stores, "--eris-timeout", "2")
        fetch(made, tmp_path / "item", config, server, *arguments)
        assert not nars_asked(server)
        # Where all are frozen there are the nars.
        os.kill(own_daemon.pid, signal.SIGSTOP)
        arguments = ("--eris-store-url", stores, "--eris-timeout", "0.5")
        done = fetch(made, tmp_path / "again", config, server, *arguments)
        assert nars_asked(server)
        assert "failed: " in done.messages
        os.kill(own_daemon.pid, signal.SIGCONT)
        os.kill(frozen.pid, signal.SIGCONT)


@pytest.mark.parametrize(("value", "asked"), [("none", False), ("", True), (" ", True)])
def test_no_store_is_not_the_same_as_nothing_said(
    value: str, asked: bool, made: Made, daemon: Daemon, config: Path, server: FakeServer
) -> None:
    """Where there is a local daemon, for other things."""
    publish(server, made, urn=put_tree(daemon, made.root))
    environment = program_environment(config, options_for(server.url))
    environment |= {"XDG_RUNTIME_DIR": str(daemon.directory), "ERIS_STORE_URL": value}

    def run(destination: Path, *arguments: str) -> str:
        command = [*as_a_user(), program("kapla"), "substitute", "--substitute", "--reply-fd=1"]
        done = subprocess.run(
            [*command, *arguments],
            input=command_for(made, destination),
            env=environment,
            capture_output=True,
            check=True,
            timeout=2 * GUARD_S,
        )
        assert done.stdout.startswith(b"success "), done
        return done.stderr.decode()

    assert "left out" not in run(config / "item")
    assert nars_asked(server) is not asked
    # What is given says more than the environment.
    server.requests.clear()
    run(config / "again", "--eris-store-url", "none")
    assert nars_asked(server)


def test_the_store_may_be_named_by_the_environment(
    made: Made, daemon: Daemon, config: Path, server: FakeServer, tmp_path: Path
) -> None:
    publish(server, made, urn=put_tree(daemon, made.root))
    environment = program_environment(config, options_for(server.url))
    environment["ERIS_STORE_URL"] = daemon.url
    done = run_program(["--substitute"], command_for(made, tmp_path / "item"), environment)
    assert done.replies.startswith(b"success ")
    assert not nars_asked(server)


def test_a_daemon_that_is_killed_half_way(
    made: Made, own_daemon: Daemon, config: Path, server: FakeServer, tmp_path: Path
) -> None:
    publish(server, made, urn=put_tree(own_daemon, made.root))
    arguments = ["--substitute", "--eris-store-url"]
    environment = program_environment(config, options_for(server.url))
    with (
        stalling_store(own_daemon.directory / "p.sock", own_daemon.socket, 1_500_000) as between,
        start_program([*arguments, between.url], environment) as running,
    ):
        running.send(command_for(made, tmp_path / "item"))
        assert between.stalled.wait(GUARD_S)
        own_daemon.kill()
        # As the kernel does for the daemon where nothing stands between.
        for connection in between._sockets:
            connection.shutdown(socket.SHUT_RDWR)
        done = running.finish()
    assert done.replies.startswith(b"success "), done
    assert_canonical(tmp_path / "item", made.item.nar_hash, made.item.nar_size)
    assert nars_asked(server)


def test_a_block_that_is_damaged_in_the_database(
    made: Made, own_daemon: Daemon, config: Path, server: FakeServer, tmp_path: Path
) -> None:
    publish(server, made, urn=put_tree(own_daemon, made.root))
    own_daemon.stop()
    with closing(sqlite3.connect(own_daemon.store)) as connection, connection:
        changed = connection.execute(
            "UPDATE blocks SET block = zeroblob(32768) WHERE id ="
            " (SELECT max(id) FROM blocks WHERE length(block) = 32768)"
        )
        assert changed.rowcount == 1
    own_daemon.start()
    done = fetch(made, tmp_path / "item", config, server, "--eris-store-url", own_daemon.url)
    assert nars_asked(server)
    assert "failed: " in done.messages


def test_a_hint_that_lies(
    made: Made, daemon: Daemon, config: Path, server: FakeServer, tmp_path: Path
) -> None:
    make_tree(tmp_path / "lie")
    publish(server, made, hint=put_tree(daemon, tmp_path / "lie"))
    store = ("--eris-store-url", daemon.url)
    done = fetch(made, tmp_path / "item", config, server, *store, "--trust-hints")
    assert nars_asked(server)
    assert "failed: " in done.messages
    done = fetch(made, tmp_path / "other", config, server, *store)
    assert "failed: " not in done.messages


def test_stores_that_make_no_sense_or_are_not_there(
    made: Made, config: Path, server: FakeServer, tmp_path: Path
) -> None:
    publish(server, made, urn=eris_urn(made.root))
    stores = ("ftp://secret.example/", f"coap+unix://{quote(f'{config}/s', '')}/hidden")
    arguments = [part for url in stores for part in ("--eris-store-url", url)]
    done = fetch(made, tmp_path / "item", config, server, *arguments)
    assert "store 1 is left out" in done.messages
    assert "cannot connect" in done.messages
    assert "secret" not in done.messages
    assert "hidden" not in done.messages


def eris_urn(root: Path) -> str:
    from eris import MemoryStore

    return asyncio.run(eris_fs.put_tree(MemoryStore(), root)).to_urn()


def test_sigkill_leaves_nothing_but_what_is_at_the_destination(
    made: Made, config: Path, tmp_path: Path
) -> None:
    half_way = threading.Event()

    def script(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        length = f"Content-Length: {len(made.nar)}\r\n\r\n".encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + length + made.nar[: len(made.nar) // 2])
        half_way.set()
        connection.recv(1 << 16)

    (tmp_path / "store").mkdir()
    before = sorted(path for path in config.rglob("*"))
    destination = tmp_path / "store/item"
    with running_server() as server, scripted_server(script) as url:
        publish(server, made, NarUrl(f"{url}/nar", "none", None, None))
        environment = program_environment(config, options_for(server.url))
        with start_program(["--substitute"], environment) as running:
            running.send(command_for(made, destination))
            assert half_way.wait(GUARD_S)
            done = running.kill(signal.SIGKILL)
    assert done.code == -signal.SIGKILL
    assert {path.name for path in (tmp_path / "store").iterdir()} <= {"item"}
    assert sorted(path for path in config.rglob("*")) == before


def test_several_items_by_one_process(config: Path, server: FakeServer, tmp_path: Path) -> None:
    commands, expected = b"", b""
    for number in range(3):
        root = tmp_path / f"root-{number}"
        root.write_bytes(bytes([number]) * 10_000)
        made = make_item(root, f"{number:032d}-item")
        publish(server, made)
        if number == 1:
            server.files[f"/nar/{made.item.base_name}"] = b"garbage"
            expected += b"not-found\n"
        else:
            shown = format_hash(made.item.nar_hash)
            expected += f"success {shown} {made.item.nar_size}\n".encode()
        commands += command_for(made, tmp_path / f"item-{number}")
    commands += b"nonsense\nsubstitute /x /y\n"
    expected += b"not-found\n" * 2
    environment = program_environment(config, options_for(server.url))
    done = run_program(["--substitute"], commands, environment)
    assert (done.replies, done.code) == (expected, 0)


def test_a_query_is_always_answered(made: Made, config: Path, server: FakeServer) -> None:
    publish(server, made)
    gone = "http://127.0.0.1:1"
    environment = program_environment(config, options_for(gone, "nonsense", server.url))
    commands = b"frobnicate\n\xff\xff\nhave \ninfo /etc/passwd \nsubstitute /a /b\n"
    done = run_program(["--query"], commands + f"have {made.item.path} \n".encode(), environment)
    assert (done.replies, done.code) == (b"\n" * 5 + f"{made.item.path}\n\n".encode(), 0)
    assert "substitute URL 2 is left out" in done.messages
    assert f"{gone}: connection failed: Connection refused" in done.messages


@pytest.mark.parametrize(
    ("name", "value", "warning"),
    [
        ("KAPLA_TRUST_HINTS", "perhaps", "hints are not followed"),
        ("KAPLA_TRUST_HINTS", "", ""),
        ("NIX_STORE_DIR", "gnu/store", "no key is authorized"),
        ("GUIX_CONFIGURATION_DIRECTORY", "etc", "no key is authorized"),
        ("GUIX_STATE_DIRECTORY", "var", "no key is authorized"),
        ("ERIS_STORE_URL", "nonsense", "store 1 is left out"),
        ("_NIX_OPTIONS", "\udcff\n=\nsubstitute-urls=\udcff", "substitute URL 1 is left out"),
    ],
)
@pytest.mark.parametrize("mode", ["query", "substitute"])
def test_nothing_in_the_environment_ends_the_dialogue(
    mode: str, name: str, value: str, warning: str, made: Made, config: Path, server: FakeServer
) -> None:
    publish(server, made)
    environment = program_environment(config, options_for(server.url)) | {name: value}
    commands, answer = {
        "query": (f"have {made.item.path} \n".encode(), b"\n"),
        "substitute": (command_for(made, config / "item"), b"not-found\n"),
    }[mode]
    done = run_program([f"--{mode}"], commands, environment)
    assert done.code == 0
    assert warning in done.messages
    found = name in ("KAPLA_TRUST_HINTS", "ERIS_STORE_URL")
    assert (done.replies == answer) is not found


@pytest.mark.parametrize(("value", "followed"), [("1", True), ("yes", True), ("0", False)])
def test_hints_may_be_wanted_by_the_environment(
    value: str,
    followed: bool,
    made: Made,
    daemon: Daemon,
    config: Path,
    server: FakeServer,
    tmp_path: Path,
) -> None:
    publish(server, made, hint=put_tree(daemon, made.root))
    environment = program_environment(config, options_for(server.url))
    environment |= {"KAPLA_TRUST_HINTS": value, "ERIS_STORE_URL": daemon.url}
    done = run_program(["--substitute"], command_for(made, tmp_path / "item"), environment)
    assert done.replies.startswith(b"success ")
    assert nars_asked(server) is not followed


def test_only_a_deriver_that_is_signed_is_told(
    made: Made, config: Path, server: FakeServer
) -> None:
    deriver = f"{made.item.hash_part}-app-1.2.3.drv"
    with_deriver = replace(made, item=replace(made.item, deriver=deriver))
    name = f"/{made.item.hash_part}.narinfo"
    publish(server, with_deriver)
    signed = server.files[name]
    publish(server, made)
    unsigned = server.files[name]
    assert isinstance(unsigned, bytes)
    added = unsigned + f"Deriver: {deriver}\n".encode()
    for text, told in ((signed, f"/gnu/store/{deriver}"), (added, "")):
        server.files[name] = text
        environment = program_environment(config, options_for(server.url))
        done = run_program(["--query"], f"info {made.item.path} \n".encode(), environment)
        size = made.item.nar_size
        expected = f"{made.item.path}\n{told}\n0\n{size}\n{size}\n\n"
        assert done.replies.decode() == expected


def test_a_size_that_nobody_signed_is_told_if_it_would_be_fetched(
    made: Made, config: Path, server: FakeServer
) -> None:
    publish(server, made)
    server.files[f"/{made.item.hash_part}.narinfo"] = with_unsigned_size(made)
    environment = program_environment(config, options_for(server.url))
    command = f"have {made.item.path} \n".encode()
    for most, answer in (
        (made.item.nar_size, f"{made.item.path}\n\n".encode()),
        (made.item.nar_size - 1, b"\n"),
    ):
        arguments = ["--query", "--max-unsigned-size", str(most)]
        assert run_program(arguments, command, environment).replies == answer


def test_a_redirect_from_https_to_http_is_not_followed(
    made: Made, config: Path, server: FakeServer, tmp_path: Path
) -> None:
    name = f"/nar/{made.item.base_name}"
    publish(server, made)
    context = self_signed(config / "certificate")
    with running_server(context) as secure:
        publish(secure, made)
        environment = program_environment(config, options_for(secure.url))
        environment["SSL_CERT_FILE"] = str(config / "certificate")
        secure.files[name] = Reply(b"", 302, {"Location": f"{server.url}{name}"})
        command = command_for(made, tmp_path / "item")
        done = run_program(["--substitute"], command, environment)
        assert done.replies == b"not-found\n"
        assert "redirects from https to http" in done.messages
        assert not server.requests
        secure.files[name] = Reply(b"", 302, {"Location": f"{secure.url}/x"})
        secure.files["/x"] = made.nar
        done = run_program(["--substitute"], command, environment)
        assert done.replies.startswith(b"success ")


def test_an_answer_comes_while_the_daemon_waits(
    made: Made, config: Path, server: FakeServer
) -> None:
    publish(server, made)
    environment = program_environment(config, options_for(server.url))
    with start_program(["--query"], environment) as running:
        for _ in range(2):
            running.send(f"have {made.item.path} \n".encode())
            assert running.reply() == f"{made.item.path}\n".encode()
            assert running.reply() == b"\n"
        assert running.finish().code == 0
    assert len(server.requests) == 1


def test_without_an_acl_nobody_is_believed_and_none_is_made(
    made: Made, config: Path, server: FakeServer
) -> None:
    publish(server, made)
    (config / "acl").unlink()
    environment = program_environment(config, options_for(server.url))
    environment["GUIX_ALLOW_UNAUTHENTICATED_SUBSTITUTES"] = "yes"
    done = run_program(["--query"], f"have {made.item.path} \n".encode(), environment)
    assert (done.replies, done.code) == (b"\n", 0)
    assert "there is no /" in done.messages
    assert "GUIX_ALLOW_UNAUTHENTICATED_SUBSTITUTES is ignored" in done.messages
    assert not (config / "acl").exists()


@pytest.mark.parametrize("acl", [b"", b"((((", b"(public-key)", b"\0" * 100])
def test_an_acl_that_is_damaged(acl: bytes, made: Made, server: FakeServer) -> None:
    publish(server, made)
    with configuration(acl) as config:
        environment = program_environment(config, options_for(server.url))
        done = run_program(["--query"], f"have {made.item.path} \n".encode(), environment)
    assert (done.replies, done.code) == (b"\n", 0)
    assert "no key is authorized" in done.messages


@pytest.mark.parametrize(("size", "counts"), [(LARGEST_ACL, True), (LARGEST_ACL + 1, False)])
def test_an_acl_counts_whole_or_not_at_all(
    size: int, made: Made, server: FakeServer, *, counts: bool
) -> None:
    publish(server, made)
    acl = (SAMPLES / "keys" / "acl").read_bytes()
    with configuration(acl.rjust(size, b"\n")) as config:
        environment = program_environment(config, options_for(server.url))
        done = run_program(["--query"], f"have {made.item.path} \n".encode(), environment)
    assert (made.item.path.encode() in done.replies) == counts
    assert ("acl cannot be read: File too large" not in done.messages) == counts


def test_by_hand(made: Made, config: Path, server: FakeServer) -> None:
    publish(server, made)
    server.files[f"/{made.item.hash_part}.narinfo"] = narinfo_of(made, [plain_url(made)])
    command = [program("kapla"), "substitute", "--query"]
    environment = program_environment(config, "")

    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*command, *arguments],
            input=f"have {made.item.path}\n".encode(),
            env=environment,
            capture_output=True,
            check=False,
            timeout=2 * GUARD_S,
        )

    done = run()
    assert done.returncode == 2
    assert b"descriptor 4, for replies, is not open" in done.stderr
    done = run("--reply-fd", "1", "--substitute-urls", f"{server.url} {os.sep}nonsense")
    assert done.returncode == 0
    assert done.stdout == f"{made.item.path}\n\n".encode()
    command.pop()
    done = run()
    assert done.returncode == 2
    assert b"--query" in done.stderr
