"""Daemons that ask each other for what they do not have: real ones, over TCP, TLS and Unix sockets.

The way of a block: here first, then from peers, checked, kept, and answered.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eris import BlockSize, Encoder, Reference, reference_of
from kapla.coap.blocks import block_query
from kapla.coap.frame import Code, FrameReader, Message, format_message
from tests.integration.commands import Kapla
from tests.integration.daemon import (
    GUARD_S,
    Daemon,
    RawPeer,
    program,
    running_daemon,
    stopped_daemon,
    wait_until,
)
from tests.integration.walkthrough import free_port
from tests.kapla.coap.harness import BLOCKS_PATH

SMALL, LARGE = b"s" * 1024, b"L" * 32768
LENT = 65000
PEERS = [(11, b"kapla"), (11, b"peers")]


def block(number: int, size: int = 1024) -> bytes:
    return number.to_bytes(4, "big") * (size // 4)


def put(daemon: Daemon, *blocks: bytes) -> None:
    """Store blocks, without a pin."""
    with daemon.connect() as peer:
        for one in blocks:
            assert peer.request(Code.PUT, b"t", BLOCKS_PATH, one).code == Code.CREATED


def ask(peer: RawPeer, reference: Reference, hops: int = 0) -> Message:
    """GET a block; `hops`: the Hop-Limit, if it is to have one."""
    options = [*BLOCKS_PATH, (15, block_query(reference))]
    return peer.request(Code.GET, b"t", [*options, (16, bytes([hops]))] if hops else options)


def get(daemon: Daemon, reference: Reference, hops: int = 0) -> Message:
    """GET a block as a program of this machine does."""
    with daemon.connect() as peer:
        return ask(peer, reference, hops)


def stat(daemon: Daemon) -> dict[str, Any]:
    with daemon.connect() as peer:
        answer = peer.request(Code.GET, b"t", [(11, b"kapla"), (11, b"stat")])
        return dict(json.loads(answer.payload))


def asked(daemon: Daemon) -> int:
    """How many blocks a daemon was asked for so far."""
    return int(stat(daemon)["requests"]["get"])


def connected(daemon: Daemon, count: int = 1) -> Daemon:
    """Wait until so many peers can be asked."""
    with daemon.connect() as peer:

        def ask_it() -> bool:
            told = json.loads(peer.request(Code.GET, b"t", PEERS).payload)
            return [one["state"] for one in told].count("connected") >= count

        wait_until(ask_it, f"{count} connected")
    return daemon


@contextmanager
def far_and_near(rights: str = "get", *args: str) -> Iterator[tuple[Daemon, Daemon]]:
    """A daemon, and one that dials it."""
    with (
        running_daemon(listen=[f"coap+tcp://127.0.0.1:0?{rights}"]) as far,
        running_daemon(
            None, "--peer", far.tcp_url, *args, listen=["coap+tcp://127.0.0.1:0?get"]
        ) as near,
    ):
        yield far, connected(near)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Daemon, Daemon]]:
    """`far_and_near` of all tests that leave them as they are, and have blocks of their own."""
    with far_and_near() as both:
        yield both


# --- here first, then peers -------------------------------------------------------------------


def test_what_is_not_here_comes_from_a_peer_and_stays() -> None:
    with far_and_near() as (far, near):
        put(far, SMALL, LARGE)
        for one in (SMALL, LARGE):
            answer = get(near, reference_of(one))
            assert (answer.code, answer.payload) == (Code.CONTENT, one)
        far.kill()
        for one in (SMALL, LARGE):
            answer = get(near, reference_of(one))
            assert (answer.code, answer.payload) == (Code.CONTENT, one)


def test_what_nobody_has_is_not_found_and_not_asked_for_again_at_once(
    pair: tuple[Daemon, Daemon],
) -> None:
    far, near = pair
    before = asked(far)
    missing = reference_of(b"nobody has it")
    with near.connect() as peer:
        for _ in range(20):
            assert ask(peer, missing).code == Code.NOT_FOUND
    assert asked(far) - before < 20


def test_without_peers_that_are_there_what_is_not_here_is_not_found() -> None:
    with running_daemon(None, "--peer", f"coap+tcp://127.0.0.1:{free_port()}") as daemon:
        daemon.wait_for_log("cannot be reached")
        assert get(daemon, reference_of(SMALL)).code == Code.NOT_FOUND


def test_strangers_cause_nobody_to_be_asked_loopback_or_not(pair: tuple[Daemon, Daemon]) -> None:
    far, near = pair
    one = block(1001)
    put(far, one)
    before = asked(far)
    with near.connect_tcp() as stranger:
        assert ask(stranger, reference_of(one)).code == Code.NOT_FOUND
        assert ask(stranger, reference_of(one), 4).code == Code.NOT_FOUND
    assert asked(far) == before
    # Once it is here, it is for all to whom this listener gives.
    assert get(near, reference_of(one)).code == Code.CONTENT
    with near.connect_tcp() as stranger:
        wait_until(lambda: ask(stranger, reference_of(one)).payload == one, "it")


def test_a_request_with_a_hop_limit_of_one_is_for_what_is_here(
    pair: tuple[Daemon, Daemon],
) -> None:
    far, near = pair
    one = block(1002)
    put(far, one)
    before = asked(far)
    assert get(near, reference_of(one), 1).code == Code.NOT_FOUND
    assert asked(far) == before
    assert get(near, reference_of(one), 2).payload == one


def test_a_fetch_counts_what_peers_have_only_if_it_says_so(pair: tuple[Daemon, Daemon]) -> None:
    far, near = pair
    put(far, block(1003))
    name = reference_of(block(1003))
    with near.connect() as peer:
        plain = peer.request(Code.FETCH, b"t", BLOCKS_PATH, name)
        assert (plain.code, plain.payload) == (Code.CONTENT, b"\0")
        further = peer.request(Code.FETCH, b"t", [*BLOCKS_PATH, (16, b"\4")], name)
        assert (further.code, further.payload) == (Code.CONTENT, b"\x80")


def test_a_peer_over_a_unix_socket_is_asked_too() -> None:
    with running_daemon() as far, running_daemon(None, "--peer", far.url) as near:
        put(far, SMALL)
        assert get(connected(near), reference_of(SMALL)).payload == SMALL


# --- what may be given on ---------------------------------------------------------------------


def test_what_a_peer_lends_is_lent_while_it_is_cached_and_nothing_else(
    pair: tuple[Daemon, Daemon],
) -> None:
    far, near = pair
    put(far, LARGE)
    content = far.directory / "content"
    content.write_bytes(SMALL * 3)
    kapla = Kapla(far.directory, far.url)
    urn = kapla.out("encode", "--lend", str(content)).strip()
    out = near.directory / "out"
    Kapla(near.directory, near.url).out("decode", urn, str(out))
    assert out.read_bytes() == content.read_bytes()
    assert get(near, reference_of(LARGE)).payload == LARGE
    encoder = Encoder(BlockSize.SMALL)
    names = [name for name, _ in [*encoder.feed(SMALL * 3), *encoder.finish()]]
    # Whoever asks as a peer does is told; a stranger of a listener that lends gets the same.
    assert [LENT in dict(get(near, name, 1).options) for name in names] == [True] * len(names)
    assert LENT not in dict(get(near, reference_of(LARGE), 1).options)


# --- whole contents ---------------------------------------------------------------------------


def test_a_decode_that_was_cut_off_goes_on_from_what_came(tmp_path: Path) -> None:
    content = b"".join(block(number, 32768) for number in range(200))
    (tmp_path / "content").write_bytes(content)
    with far_and_near() as (far, near):
        far_kapla, near_kapla = Kapla(far.directory, far.url), Kapla(near.directory, near.url)
        urn = far_kapla.out("encode", str(tmp_path / "content")).strip()
        # A part of it, as a decode that was interrupted has it.
        names = [reference_of(one) for one in _blocks(content)][:120]
        with near.connect() as peer:
            for name in names:
                assert ask(peer, name).code == Code.CONTENT
        before = asked(far)
        near.restart()
        connected(near)
        near_kapla.out("decode", urn, str(tmp_path / "out"))
        assert (tmp_path / "out").read_bytes() == content
        assert asked(far) - before <= 203 - 120 + 10


def _blocks(content: bytes) -> list[bytes]:
    encoder = Encoder(BlockSize.LARGE)
    return [data for _, data in [*encoder.feed(content), *encoder.finish()]]


def decode_while_it_restarts(one: Daemon, far: Daemon, near: Daemon, tmp_path: Path) -> None:
    """Decode through `near` what `far` has, and restart one of them after the first MiB."""
    content = b"".join(block(number) for number in range(4000))
    (tmp_path / "content").write_bytes(content)
    urn = Kapla(far.directory, far.url).out("encode", str(tmp_path / "content")).strip()
    kapla = Kapla(near.directory, near.url)
    with subprocess.Popen(
        kapla.command("decode", urn, "-"),
        env=kapla.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as decoding:
        assert decoding.stdout is not None
        begin = decoding.stdout.read(1024 * 1024)
        one.restart()
        rest, err = decoding.communicate(timeout=GUARD_S)
    assert decoding.returncode == 0, err
    assert begin + rest == content


def test_a_decode_goes_on_when_the_daemon_that_asks_is_restarted(tmp_path: Path) -> None:
    """What it waits for comes, or the connection ends: it is not told that there is nothing."""
    with far_and_near() as (far, near):
        decode_while_it_restarts(near, far, near, tmp_path)


def test_a_decode_goes_on_when_the_only_peer_is_restarted(tmp_path: Path) -> None:
    port = free_port()
    with (
        running_daemon(listen=[f"coap+tcp://127.0.0.1:{port}?get"]) as far,
        running_daemon(None, "--peer", f"coap+tcp://127.0.0.1:{port}") as near,
    ):
        connected(near)
        decode_while_it_restarts(far, far, near, tmp_path)


def test_what_a_daemon_that_stops_still_waits_for_has_no_answer() -> None:
    """So whoever asked asks again: an error would have been the last word."""
    with (
        hostile(ANSWERS["nothing"]) as mute,
        running_daemon(None, "--peer", mute.url) as near,
    ):
        connected(near)
        with near.connect() as peer:
            name = reference_of(block(1))
            peer.send_message(Code.GET, b"t", [*BLOCKS_PATH, (15, block_query(name))])
            wait_until(lambda: mute.asked > 0, "a question")
            assert near.stop() == 0
            assert b"t" not in [message.token for message in iter(peer.receive, None)]


# --- hostile peers ----------------------------------------------------------------------------


class Hostile:
    """A server that answers every GET as it is told to."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self._answer = answer
        self.asked = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"coap+tcp://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        # A thread that waits for the next connection is not woken by a close; and a signal has it
        # wait on, for whatever has the same number then.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(GUARD_S)
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=[connection], daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        reader = FrameReader(1 << 24)
        with connection:
            connection.settimeout(GUARD_S)
            connection.sendall(format_message(Code.CSM, options=[(2, b"\x10\0\0"), (4, b"")]))
            try:
                while data := connection.recv(1 << 16):
                    for code, token, *_ in reader.feed(data):
                        self._reply(connection, code, token)
            except OSError:
                return

    def _reply(self, connection: socket.socket, code: int, token: bytes) -> None:
        if code == Code.PING:
            connection.sendall(format_message(Code.PONG, token))
        elif code == Code.GET:
            self.asked += 1
            answer = self._answer(token)
            if answer is not None:
                connection.sendall(answer)
        elif code == Code.FETCH:
            connection.sendall(format_message(Code.METHOD_NOT_ALLOWED, token))


@contextmanager
def hostile(answer: Callable[[bytes], bytes | None]) -> Iterator[Hostile]:
    server = Hostile(answer)
    try:
        yield server
    finally:
        server.close()


ANSWERS: dict[str, Callable[[bytes], bytes | None]] = {
    "a wrong block": lambda token: format_message(Code.CONTENT, token, payload=b"x" * 1024),
    "nothing": lambda _: None,
    "half a block": lambda token: format_message(Code.CONTENT, token, payload=b"x" * 500),
    "an error": lambda token: format_message(Code.INTERNAL_SERVER_ERROR, token),
    "a lie about options": lambda token: format_message(Code.CONTENT, token, [(LENT, b"x" * 9)]),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_peer_that_harms_does_not_keep_the_others_blocks_away(
    kind: str, pair: tuple[Daemon, Daemon]
) -> None:
    far, _ = pair
    blocks = [block(number) for number in range(100)]
    with (
        hostile(ANSWERS[kind]) as bad,
        running_daemon(None, "--peer", bad.url, "--peer", far.tcp_url) as near,
    ):
        put(far, *blocks)
        connected(near, 2)
        with near.connect() as peer:
            for one in blocks:
                answer = ask(peer, reference_of(one))
                assert (answer.code, answer.payload) == (Code.CONTENT, one)


def test_a_wrong_block_is_never_given_on_nor_kept() -> None:
    with hostile(ANSWERS["a wrong block"]) as bad, running_daemon(None, "--peer", bad.url) as near:
        connected(near)
        answer = get(near, reference_of(SMALL))
        assert answer.code in (Code.NOT_FOUND, Code.SERVICE_UNAVAILABLE)
        assert stat(near)["blocks"] == {"1024": 0, "32768": 0}


def test_whoever_goes_while_peers_are_asked_leaves_nothing() -> None:
    with hostile(ANSWERS["nothing"]) as silent, running_daemon(None, "--peer", silent.url) as near:
        before = stat(connected(near))["connections"]["now"]
        for number in range(30):
            with near.connect() as peer:
                for one in range(20):
                    name = reference_of(block(100 * number + one))
                    peer.send_message(Code.GET, b"t", [*BLOCKS_PATH, (15, block_query(name))])
        # One that looked whether it is connected may have been counted still.
        wait_until(lambda: stat(near)["connections"]["now"] <= before, "an end of the connections")
        assert near.stop() == 0
        assert "did not end in time" not in near.log


# --- by key, over TLS -------------------------------------------------------------------------


def key_of(daemon: Daemon) -> str:
    """The key of a daemon, as `--print-key` tells it."""
    told = subprocess.run(
        [program("kaplad"), "--print-key"],
        env=daemon._env,
        capture_output=True,
        check=True,
        timeout=GUARD_S,
    )
    return told.stdout.decode().strip()


def test_whoever_dials_us_is_asked_if_its_key_is_known_and_else_not() -> None:
    port = free_port()
    with (
        stopped_daemon(listen=[f"coaps+tcp://127.0.0.1:{port}?lend"]) as server,
        stopped_daemon() as laptop,
        stopped_daemon() as stranger,
    ):
        server._args += ["--known-peer", key_of(laptop)]
        server.start()
        dial = ["--peer", f"coaps+tcp://127.0.0.1:{port}#{key_of(server)}"]
        for one in (laptop, stranger):
            one._args += dial
            one.start()
            content = one.directory / "content"
            content.write_bytes(b"of " + one.directory.name.encode())
            Kapla(one.directory, one.url).out("encode", "--lend", str(content))
            connected(one)
        connected(server)
        encoder = Encoder(BlockSize.SMALL)
        mine = [*encoder.feed(b"of " + laptop.directory.name.encode()), *encoder.finish()]
        assert get(server, mine[0][0]).payload == mine[0][1]
        before = asked(stranger)
        assert get(server, reference_of(b"nobody has it")).code == Code.NOT_FOUND
        assert asked(stranger) == before


def test_a_request_is_passed_on_for_peers_with_that_right_only(tmp_path: Path) -> None:
    port = free_port()
    with (
        running_daemon(listen=["coap+tcp://127.0.0.1:0?get"]) as last,
        stopped_daemon(listen=[f"coaps+tcp://127.0.0.1:{port}?get"]) as middle,
        stopped_daemon() as first,
        stopped_daemon() as other,
    ):
        put(last, SMALL, LARGE)
        settings = middle.directory / "kapla.toml"
        settings.write_text(
            f'[[peers]]\nurl = "{last.tcp_url}"\n'
            f'[[peers]]\nkey = "{key_of(first)}"\nrights = ["get", "relay"]\n'
            f'[[peers]]\nkey = "{key_of(other)}"\nrights = ["get"]\n'
        )
        middle._args += ["--config", str(settings)]
        middle.start()
        for one in (first, other):
            one._args += ["--peer", f"coaps+tcp://127.0.0.1:{port}#{key_of(middle)}"]
            one.start()
            connected(one)
        connected(middle, 3)
        assert get(other, reference_of(SMALL)).code == Code.NOT_FOUND
        assert get(first, reference_of(SMALL)).payload == SMALL
        # It is where it was passed on, too.
        wait_until(lambda: get(middle, reference_of(SMALL), 1).payload == SMALL, "it to be kept")
        assert get(first, reference_of(LARGE), 2).code == Code.NOT_FOUND
        assert get(first, reference_of(LARGE), 3).payload == LARGE


def test_peers_that_ask_each_other_come_to_an_end() -> None:
    ports = [free_port(), free_port()]
    with (
        stopped_daemon(listen=[f"coaps+tcp://127.0.0.1:{ports[0]}?get"]) as one,
        stopped_daemon(listen=[f"coaps+tcp://127.0.0.1:{ports[1]}?get"]) as other,
    ):
        for mine, port, theirs in ((one, ports[1], other), (other, ports[0], one)):
            settings = mine.directory / "kapla.toml"
            settings.write_text(
                f'[[peers]]\nurl = "coaps+tcp://127.0.0.1:{port}#{key_of(theirs)}"\n'
                'rights = ["get", "relay"]\n'
            )
            mine._args += ["--config", str(settings)]
        one.start()
        other.start()
        connected(one)
        connected(other)
        for number in range(20):
            assert get(one, reference_of(block(number))).code == Code.NOT_FOUND
            assert get(other, reference_of(block(number))).code == Code.NOT_FOUND
