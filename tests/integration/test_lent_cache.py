"""What is public and need not be kept is lent without a pin, by a real daemon."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kapla.coap.frame import Code
from tests.integration.daemon import Daemon, running_daemon
from tests.integration.here import User
from tests.integration.test_pins import Peer, make_blocks, peer_of

_random = random.Random(31)
STRANGERS = "coap+tcp://127.0.0.1:0"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running_daemon(tmp_path, listen=[STRANGERS]) as running:
        yield running
        assert "Traceback" not in running.log


@pytest.fixture
def me(daemon: Daemon, tmp_path: Path) -> User:
    return User(tmp_path, daemon.url)


def a_file(directory: Path, size: int = 50_000, name: str = "file") -> Path:
    path = directory / name
    path.write_bytes(_random.randbytes(size))
    return path


def test_what_is_public_is_given_to_strangers_and_kept_for_nobody(
    daemon: Daemon, me: User, tmp_path: Path
) -> None:
    public, private = a_file(tmp_path), a_file(tmp_path, name="private")
    urn = me.out("encode", "--no-pin", "--lend", public)
    own = me.out("encode", "--no-pin", private)
    assert me.out("pins", "--json") == ""
    stranger = User(daemon.directory, daemon.tcp_url)
    assert stranger("decode", urn, "-").stdout == public.read_bytes()
    stranger("decode", own, "-", code=4)
    daemon.restart()
    stranger = User(daemon.directory, daemon.tcp_url)
    assert stranger("decode", urn, "-").stdout == public.read_bytes()
    stranger("decode", own, "-", code=4)
    # Pinned, lent, and released: it is lent all the same.
    me("pin", urn, "--lend")
    me("unpin", urn)
    assert stranger("decode", urn, "-").stdout == public.read_bytes()


def test_what_is_copied_or_imported_is_lent_where_it_goes(
    daemon: Daemon, me: User, tmp_path: Path
) -> None:
    stranger = User(daemon.directory, daemon.tcp_url)
    (tmp_path / "there").mkdir()
    with running_daemon(tmp_path / "there") as source:
        there = User(tmp_path / "there", source.url)
        files = [a_file(tmp_path, name=str(number)) for number in range(4)]
        urns = [there.out("encode", file) for file in files]
        bundle = tmp_path / "two.eris"
        there("export", *urns[2:], bundle)
        me("copy", "--no-pin", "--lend", *urns[:2], "--from", source.url)
    me("import", "--no-pin", "--lend", bundle)
    for file, urn in zip(files, urns, strict=True):
        assert stranger("decode", urn, "-").stdout == file.read_bytes()
    assert me.out("pins", "--json") == ""


def test_a_daemon_that_lends_nothing_without_a_pin_is_told_of_once(tmp_path: Path) -> None:
    env = {"KAPLA_LEND_CACHE": "false"}
    (tmp_path / "there").mkdir()
    with (
        running_daemon(tmp_path, listen=[STRANGERS], env=env) as daemon,
        running_daemon(tmp_path / "there") as source,
    ):
        me, there = User(tmp_path, daemon.url), User(tmp_path / "there", source.url)
        files = [a_file(tmp_path, name=str(number)) for number in range(2)]
        urns = [there.out("encode", file) for file in files]
        there("export", *urns, tmp_path / "two.eris")
        for done in (
            me("encode", "--no-pin", "--lend", files[0]),
            me("copy", "--no-pin", "--lend", *urns, "--from", source.url),
            me("import", "--no-pin", "--lend", tmp_path / "two.eris"),
        ):
            assert done.stderr.count(b"lends nothing that is not pinned") == 1
        stranger = User(daemon.directory, daemon.tcp_url)
        for file, urn in zip(files, urns, strict=True):
            assert me("decode", urn, "-").stdout == file.read_bytes()
            stranger("decode", urn, "-", code=4)


def test_over_the_wire_it_is_told_how_much_is_lent(daemon: Daemon) -> None:
    lent, own = make_blocks(3, seed=1), make_blocks(2, seed=2)
    with peer_of(daemon) as me, daemon.connect_tcp() as raw:
        stranger = Peer(raw)
        assert me.refused("abandon", lend=True) == Code.NOT_FOUND
        me.post("open")
        me.put(lent)
        assert me.refused("abandon", lend=1) == Code.BAD_REQUEST
        assert stranger.fetch(*lent) == bytes(1)
        assert me.post("abandon", lend=True) == {"lent": 3}
        assert stranger.fetch(*lent, *own) == bytes([0b11100000])
        me.post("open")
        me.put(own)
        for asked in ({"lend": False}, {}):
            answer = me.ask(Code.POST, "pins/abandon", asked)
            assert (answer.code, answer.payload) == (Code.CHANGED, b"")
        assert stranger.fetch(*lent, *own) == bytes([0b11100000])
        assert me.names() == []


def test_what_is_lent_without_a_pin_goes_when_room_is_needed_and_stays_lent_where_it_is_read(
    tmp_path: Path,
) -> None:
    env = {"KAPLA_MAX_SIZE": "8MiB"}
    with running_daemon(tmp_path, listen=[STRANGERS], env=env) as daemon:
        me, stranger = User(tmp_path, daemon.url), User(daemon.directory, daemon.tcp_url)
        read, unread = a_file(tmp_path, 200_000), a_file(tmp_path, 200_000, "unread")
        urn, gone = (me.out("encode", "--no-pin", "--lend", file) for file in (read, unread))
        for number in range(10):
            assert stranger("decode", urn, "-").stdout == read.read_bytes()
            me("encode", "--no-pin", a_file(tmp_path, 3_000_000, str(number)))
        assert json.loads(me.out("stat", "--json"))["evicted_blocks"] > 200
        daemon.restart()
        stranger = User(daemon.directory, daemon.tcp_url)
        assert stranger("decode", urn, "-").stdout == read.read_bytes()
        me("decode", gone, "-", code=4)
