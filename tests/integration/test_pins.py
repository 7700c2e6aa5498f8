"""Pins over the wire, through a real daemon: who may have them, what they hold, what they lend."""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cbor2
import click
import pytest

from eris import reference_of
from kapla.cli import commands
from kapla.cli.outcome import CommandError
from kapla.coap.frame import Code, Message, Option
from tests.integration.daemon import Daemon, RawPeer, running_daemon, wait_until
from tests.integration.users import connected_as

BLOCKS: list[Option] = [(11, b".well-known"), (11, b"eris"), (11, b"blocks")]
ALICE, BOB = 12345, 12346
ADMIN_TCP = "coap+tcp://127.0.0.1:0?get&put&admin"


def make_blocks(count: int, seed: int = 0) -> dict[bytes, bytes]:
    source = random.Random(seed)
    blocks = [source.randbytes(1024) for _ in range(count)]
    return {reference_of(block): block for block in blocks}


class Peer:
    """A client of the pins of a daemon."""

    def __init__(self, raw: RawPeer) -> None:
        self.raw = raw

    def ask(
        self, code: int, where: str, asked: Mapping[str, object] | bytes | None = None
    ) -> Message:
        path, _, query = where.partition("?")
        options: list[Option] = [(11, b".well-known"), (11, b"eris")]
        options += [(11, part.encode()) for part in path.split("/")]
        options += [(15, query.encode())] if query else []
        payload = asked if isinstance(asked, bytes) else cbor2.dumps(asked or {})
        return self.raw.request(code, b"t", options, payload if code != Code.GET else b"")

    def post(self, what: str, **asked: object) -> dict[str, Any]:
        """Do something to a pin; it must work."""
        answer = self.ask(Code.POST, f"pins/{what}", asked)
        assert answer.code in (Code.CREATED, Code.CHANGED), answer
        assert (12, b"\x3c") in answer.options
        found: dict[str, Any] = cbor2.loads(answer.payload)
        return found

    def refused(self, what: str, **asked: object) -> int:
        """Do something to a pin that cannot be done; returns the code."""
        return self.ask(Code.POST, f"pins/{what}", asked).code

    def names(self) -> list[tuple[int, str]]:
        """Owner and name of all pins that this peer may see."""
        found, after = [], ""
        while True:
            answer = self.ask(Code.GET, f"pins{after}")
            assert answer.code == Code.CONTENT, answer
            page = cbor2.loads(answer.payload)
            found += [(pin["owner"], pin["name"]) for pin in page["pins"]]
            if "next" not in page:
                return found
            after = f"?after={page['next']}"

    def put(self, blocks: Mapping[bytes, bytes]) -> None:
        """Put blocks."""
        for block in blocks.values():
            assert self.raw.request(Code.PUT, b"t", BLOCKS, block).code == Code.CREATED

    def get(self, reference: bytes) -> Message:
        """Ask for a block."""
        return self.raw.request(Code.GET, b"t", [*BLOCKS, (15, reference)])

    def fetch(self, *references: bytes) -> bytes:
        """Which of these are there, as a bitmap."""
        answer = self.raw.request(Code.FETCH, b"t", BLOCKS, b"".join(references))
        assert answer.code == Code.CONTENT
        return answer.payload

    def pin(self, blocks: Mapping[bytes, bytes], **close: object) -> dict[str, Any]:
        """Put blocks under a pin, and close it."""
        self.post("open")
        self.put(blocks)
        return self.post("close", root=next(iter(blocks)), **close)


@contextmanager
def peer_of(daemon: Daemon, uid: int | None = None, *, at: Path | None = None) -> Iterator[Peer]:
    """A peer on a Unix socket of the daemon: whoever runs the tests, or somebody else."""
    with ExitStack() as stack:
        path = at or daemon.socket
        if uid is None:
            yield Peer(stack.enter_context(RawPeer.unix(path)))
        else:
            yield Peer(RawPeer(stack.enter_context(connected_as(uid, path))))


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One that lends on TCP."""
    with running_daemon(listen=["coap+tcp://127.0.0.1:0"]) as running:
        yield running
        assert "Traceback" not in running.log


@pytest.fixture
def me(daemon: Daemon) -> Iterator[Peer]:
    with peer_of(daemon) as peer:
        yield peer


# --- lending ----------------------------------------------------------------------------------


def test_a_stranger_gets_what_is_lent_and_nothing_else(daemon: Daemon, me: Peer) -> None:
    lent, own = make_blocks(3, seed=1), make_blocks(2, seed=2)
    me.pin(lent, name="lent", lend=True)
    me.pin(own, name="own")
    absent = bytes(32)
    with daemon.connect_tcp() as raw:
        stranger = Peer(raw)
        assert [stranger.get(name).payload for name in lent] == list(lent.values())
        not_lent, not_there = stranger.get(next(iter(own))), stranger.get(absent)
        assert not_lent == not_there
        assert not_there.code == Code.NOT_FOUND
        assert stranger.fetch(*lent, *own, absent) == bytes([0b11100000])
        assert raw.request(Code.PUT, b"t", BLOCKS, bytes(1024)).code == Code.FORBIDDEN
        # As soon as it is so.
        me.post("change", name="own", lend=True)
        assert stranger.fetch(*own, absent) == bytes([0b11000000])
        me.post("change", name="lent", lend=False)
        assert stranger.get(next(iter(lent))) == not_there
        me.post("release", name="own")
        assert stranger.fetch(*lent, *own) == bytes(1)
    # Here all is there, as before.
    assert me.fetch(*lent, *own) == bytes([0b11111000])


def test_what_is_lent_stays_so_over_a_restart() -> None:
    lent = make_blocks(2, seed=3)
    with running_daemon(listen=["coap+tcp://127.0.0.1:0"]) as daemon:
        daemon.wait_for_log("nothing is lent yet")
        # By the port that it got.
        port = daemon.tcp_url.rpartition(":")[2]
        assert f":{port} lends blocks, and nothing is lent yet" in daemon.log
        with peer_of(daemon) as peer:
            peer.pin(lent, name="lent", lend=True)
        before = len(daemon.log)
        daemon.restart()
        with daemon.connect_tcp() as raw:
            assert Peer(raw).fetch(*lent) == bytes([0b11000000])
        assert "nothing is lent yet" not in daemon.log[before:]


def test_without_a_lending_listener_nothing_is_said_of_lending() -> None:
    with running_daemon(listen=["coap+tcp://127.0.0.1:0?get"]) as daemon:
        assert daemon.stop() == 0
        assert "lent" not in daemon.log


def test_those_who_are_lent_to_hold_no_more_than_that() -> None:
    lent, own = make_blocks(2, seed=4), make_blocks(2, seed=5)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lending = directory / "lending.sock"
        listen = [f"coap+unix://{lending}?lend&put"]
        daemon = stack.enter_context(running_daemon(listen=listen))
        me = stack.enter_context(peer_of(daemon))
        me.pin(lent, name="lent", lend=True)
        me.put(own)
        other = stack.enter_context(peer_of(daemon, ALICE, at=lending))
        other.post("open")
        assert other.fetch(*own, *lent) == bytes([0b00110000])
        # This would hold, and tell of, what it cannot even see.
        answer = other.ask(Code.FETCH, "pins/open", b"".join(own))
        assert answer.code == Code.FORBIDDEN
        assert other.post("close", name="mine", lend=True)["small"] == len(lent)
        assert other.fetch(*own) == bytes(1)


# --- whose ------------------------------------------------------------------------------------


def test_pins_are_each_users_own(daemon: Daemon, me: Peer) -> None:
    with peer_of(daemon, ALICE) as alice, peer_of(daemon, BOB) as bob:
        blocks = make_blocks(3, seed=6)
        root = next(iter(blocks))
        assert alice.pin(blocks, name="notes")["owner"] == ALICE
        assert bob.pin(blocks, name="notes")["owner"] == BOB
        assert alice.names() == [(ALICE, "notes")]
        # To others a pin does not exist: neither by its name nor by its root, nor by its owner.
        bob.post("change", name="notes", keep=True)
        assert bob.refused("release", name="notes", owner=ALICE) == Code.NOT_FOUND
        assert bob.refused("release", root=root, owner=ALICE) == Code.NOT_FOUND
        assert bob.refused("change", name="notes", owner=ALICE, lend=True) == Code.NOT_FOUND
        assert bob.refused("release", name="none", owner=ALICE) == Code.NOT_FOUND
        bob.post("release", root=root)
        assert alice.names() == [(ALICE, "notes")]
        # Whoever runs the daemon sees everybody's, and may release them.
        assert (ALICE, "notes") in me.names()
        assert me.refused("release", name="notes") == Code.NOT_FOUND
        assert me.post("release", name="notes", owner=ALICE)["name"] == "notes"
        assert alice.names() == []


def test_commands_name_the_owner_of_somebody_elses_pin(daemon: Daemon, me: Peer) -> None:
    blocks = make_blocks(3, seed=60)

    def run(name: str, *arguments: str) -> None:
        command = commands.load(name)
        assert isinstance(command, click.Command)
        command.main([*arguments, "--store-url", daemon.url], standalone_mode=False)

    with peer_of(daemon, ALICE) as alice:
        alice.pin(blocks, name="of alice")
        with pytest.raises(CommandError, match="or it is not yours"):
            run("unpin", "of alice")
        with pytest.raises(CommandError, match="you may not change pins of that user"):
            run("unpin", "of alice", "--owner", str(BOB))
        run("lend", "of alice", "--owner", str(ALICE))
        assert me.post("change", name="of alice", owner=ALICE)["lend"]
        run("unpin", "of alice", "--owner", str(ALICE))
        assert alice.names() == []
    for nobody in ("no such user", "99999999999999", "-1", ""):
        with pytest.raises(click.BadParameter, match="there is no user"):
            run("unpin", "of alice", "--owner", nobody)


def test_an_open_pin_is_gone_on_with_by_its_owner_alone(daemon: Daemon) -> None:
    blocks = make_blocks(2, seed=7)
    with peer_of(daemon, ALICE) as alice:
        token = alice.post("open")["token"]
        alice.put(blocks)
    with peer_of(daemon, BOB) as bob:
        assert bob.refused("open", token=token) == Code.NOT_FOUND
        assert bob.refused("open", token=bytes(16)) == Code.NOT_FOUND
    with peer_of(daemon, ALICE) as alice:
        wait_until(lambda: alice.refused("open", token=token) == Code.CREATED, "the old one's end")
        assert alice.post("close", name="again")["small"] == len(blocks)
        alice.post("release", name="again")


def test_who_comes_back_before_the_old_connection_has_ended_takes_over(daemon: Daemon) -> None:
    blocks = make_blocks(2, seed=8)
    with peer_of(daemon, ALICE) as old, peer_of(daemon, ALICE) as new, peer_of(daemon, BOB) as bob:
        token = old.post("open")["token"]
        old.put(blocks)
        assert bob.refused("open", token=token) == Code.NOT_FOUND
        # Nor does it cost her the pin that somebody else has seen its token.
        assert old.refused("open") == Code.CONFLICT
        assert new.post("open", token=token)["token"] == token
        # The old one has no pin any more.
        assert old.refused("close", name="old") == Code.NOT_FOUND
        assert new.post("close", name="new")["small"] == len(blocks)
        new.post("release", name="new")


def test_a_connection_has_one_open_pin(me: Peer) -> None:
    me.post("open", bytes=5000)
    assert me.refused("open") == Code.CONFLICT
    assert me.ask(Code.POST, "pins/abandon").code == Code.CHANGED
    assert me.ask(Code.POST, "pins/abandon").code == Code.CHANGED
    assert me.refused("close", name="x") == Code.NOT_FOUND
    me.post("open")
    assert me.ask(Code.POST, "pins/abandon").code == Code.CHANGED


def test_what_is_lacking_is_told_and_comes_later(me: Peer) -> None:
    blocks = make_blocks(9, seed=9)
    names = list(blocks)
    me.put(dict(list(blocks.items())[:4]))
    me.post("open")
    answer = me.ask(Code.FETCH, "pins/open", b"".join(names))
    assert (answer.code, answer.payload) == (Code.CONTENT, bytes([0b11110000, 0]))
    answer = me.ask(Code.POST, "pins/close", {"root": names[0]})
    assert (answer.code, answer.payload) == (Code.CONFLICT, b"5 blocks are missing")
    summary = me.post("close", root=names[0], incomplete=True)
    assert (summary["small"], summary["missing"]) == (4, 5)
    assert len(summary["name"]) == 52
    me.put(blocks)
    assert me.post("release", root=names[0])["small"] == 9


# --- where ------------------------------------------------------------------------------------

WAYS = [
    (Code.GET, "pins"),
    (Code.POST, "pins/open"),
    (Code.FETCH, "pins/open"),
    (Code.POST, "pins/close"),
    (Code.POST, "pins/abandon"),
    (Code.POST, "pins/change"),
    (Code.POST, "pins/release"),
]


def test_there_are_none_on_tcp_without_the_flag(daemon: Daemon) -> None:
    listen = ["coap+tcp://127.0.0.1:0?get&lend&put&stat"]
    with running_daemon(listen=listen) as second:
        for one in (daemon, second):
            with one.connect_tcp() as raw:
                assert {Peer(raw).ask(*way).code for way in WAYS} == {Code.FORBIDDEN}


def test_with_the_flag_they_are_the_daemons_on_tcp() -> None:
    blocks = make_blocks(2, seed=10)
    with (
        running_daemon(listen=[ADMIN_TCP]) as daemon,
        daemon.connect_tcp() as raw,
        peer_of(daemon, ALICE) as alice,
    ):
        alice.pin(blocks, name="hers")
        stranger = Peer(raw)
        assert stranger.pin(blocks, name="mine")["owner"] == os.geteuid()
        assert sorted(stranger.names()) == sorted([(os.geteuid(), "mine"), (ALICE, "hers")])
        stranger.post("release", name="hers", owner=ALICE)
        assert alice.names() == []


def test_a_unix_socket_that_takes_nothing_has_pins_for_its_daemon_only() -> None:
    with tempfile.TemporaryDirectory() as directory:
        giving = Path(directory) / "giving.sock"
        with (
            running_daemon(listen=[f"coap+unix://{giving}?get"]) as daemon,
            peer_of(daemon, at=giving) as me,
            peer_of(daemon, ALICE, at=giving) as alice,
        ):
            assert {alice.ask(*way).code for way in WAYS} == {Code.FORBIDDEN}
            assert me.names() == []
            me.post("open")


def test_long_names_come_in_pages_too(me: Peer) -> None:
    names = sorted(f"{number:03}" + "é" * 126 for number in range(90))
    for name in names:
        me.post("open")
        me.post("close", name=name, incomplete=True)
    found = [name for _, name in me.names() if name.endswith("é")]
    assert found == names
    for name in names:
        me.post("release", name=name)


# --- how fast ---------------------------------------------------------------------------------


def test_who_puts_at_full_speed_is_read_later_and_others_are_not() -> None:
    large = bytes(32768)
    with (
        running_daemon(env={"KAPLA_MAX_PUT_RATE": "32K"}) as daemon,
        peer_of(daemon, ALICE) as alice,
        peer_of(daemon) as me,
    ):
        for number in range(6):
            alice.raw.send_message(Code.PUT, b"p", BLOCKS, bytes([number]) + large[1:])
        # Two were saved up; each of the others takes a second.
        alice.raw.responses(2)
        me.put({b"": bytes(1024)})
        answer = me.raw.request(Code.GET, b"t", [(11, b"kapla"), (11, b"stat")])
        assert json.loads(answer.payload)["requests"]["put"] < 7
