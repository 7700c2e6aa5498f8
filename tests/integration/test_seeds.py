"""Seeds of a real daemon: who may be one, who is given what they make, and that nothing is kept."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eris import BlockSize, Encoder, reference_of
from eris.model import NULL_CONVERGENCE_SECRET
from kapla.coap.blocks import block_query, pack_bitmap
from kapla.coap.frame import Code, Message
from kapla.http.wire.batch import BatchReader, format_request
from kapla.http.wire.n2r import format_n2r
from tests.integration.daemon import Daemon, RawPeer, running_daemon, wait_until
from tests.integration.here import User
from tests.integration.http_daemon import HttpDaemon
from tests.integration.seed import SEED, PlayedSeed, seeding
from tests.integration.users import connected_as
from tests.kapla.coap.harness import BLOCKS_PATH

LENT = 65000
SOMEBODY = 12345
STORED, LENT_ONE = b"stored".ljust(1024), b"lent".ljust(1024)
MADE = [f"made {number}".encode().ljust(1024, b".") for number in range(20)]
LARGE = b"L" * 32768
NOWHERE = reference_of(b"nowhere")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("seeds") / "kapla.toml"
    found.write_text(f"seed-users = [{SOMEBODY}]\n")
    return found


@pytest.fixture(scope="module")
def daemon(file: Path) -> Iterator[Daemon]:
    """With a listener that lends, and a door by HTTP; one block is stored."""
    with running_daemon(
        None,
        *("--config", str(file), "--http", "127.0.0.1:0"),
        listen=["coap+tcp://127.0.0.1:0"],
    ) as running:
        with running.connect() as peer:
            assert peer.request(Code.PUT, b"t", BLOCKS_PATH, STORED).code == Code.CREATED
        yield running


@pytest.fixture(scope="module")
def seed(daemon: Daemon) -> Iterator[PlayedSeed]:
    """One that all share who do it no harm."""
    with seeding(daemon, [*MADE, LARGE]) as played:
        yield played


def ask(peer: RawPeer, block: bytes, hops: int = 0) -> Message:
    name = (15, block_query(reference_of(block)))
    return peer.request(Code.GET, b"t", [*BLOCKS_PATH, name, *_hop_limit(hops)])


def find(peer: RawPeer, *blocks: bytes, hops: int = 0) -> Message:
    names = b"".join(map(reference_of, blocks))
    return peer.request(Code.FETCH, b"f", [*BLOCKS_PATH, *_hop_limit(hops)], names)


def _hop_limit(hops: int) -> list[tuple[int, bytes]]:
    return [(16, bytes([hops]))] if hops else []


def told(peer: RawPeer, name: bytes) -> dict[str, Any]:
    answer = peer.request(Code.GET, b"s", [(11, b"kapla"), (11, name)])
    return dict(json.loads(answer.payload))


def stat(daemon: Daemon) -> dict[str, Any]:
    with daemon.connect() as peer:
        return told(peer, b"stat")


def is_made(answer: Message, block: bytes) -> bool:
    return (answer.code, answer.payload) == (Code.CONTENT, block)


# --- what a seed has ----------------------------------------------------------------------------


def test_a_program_is_given_what_a_seed_makes_and_nothing_is_kept(
    daemon: Daemon, seed: PlayedSeed
) -> None:
    before = stat(daemon)
    seed.asked.clear()
    with daemon.connect() as peer:
        for block in (MADE[0], LARGE):
            assert is_made(ask(peer, block), block)
        assert seed.asked == [(reference_of(MADE[0]), True), (reference_of(LARGE), True)]
        # What is stored is asked of nobody, and what nobody has is not found.
        assert is_made(ask(peer, STORED), STORED)
        assert len(seed.asked) == 2
        assert ask(peer, b"nowhere").code == Code.NOT_FOUND
        origin = told(peer, b"origin")
    assert origin == {
        "here": {"blocks": 1, "bytes": 1024},
        "seeds": {"blocks": 2, "bytes": 1024 + 32768},
        "peers": {},
        "put": {"blocks": 0, "bytes": 0},
    }
    after = stat(daemon)
    for name in ("blocks", "bytes", "database_bytes", "new_blocks"):
        assert after[name] == before[name], name
    assert after["seeds"]["now"] == 1
    assert after["seeds"]["blocks"] - before["seeds"]["blocks"] == 2
    assert after["seeds"]["asked"] - before["seeds"]["asked"] == 3


def test_it_is_asked_each_time_in_the_slow_lane_too(daemon: Daemon, seed: PlayedSeed) -> None:
    with daemon.connect() as peer:
        options = [*BLOCKS_PATH, (15, block_query(reference_of(MADE[1]))), (17, b"\x2a")]
        for _ in range(2):
            seed.was_asked.clear()
            assert is_made(peer.request(Code.GET, b"t", options), MADE[1])
            assert seed.was_asked.is_set()


def test_whoever_is_only_lent_to_is_given_it_and_may_give_it_on(
    daemon: Daemon, seed: PlayedSeed
) -> None:
    with daemon.connect_tcp() as peer:
        plain, marked = ask(peer, MADE[2]), ask(peer, MADE[2], hops=1)
        assert is_made(plain, MADE[2])
        assert is_made(marked, MADE[2])
        assert [[number for number, _ in one.options] for one in (plain, marked)] == [[], [LENT]]
        # What is stored and not lent is not there.
        assert ask(peer, STORED).code == Code.NOT_FOUND


def test_a_fetch_counts_it_only_if_it_has_a_hop_limit(daemon: Daemon, seed: PlayedSeed) -> None:
    blocks = (STORED, MADE[3], b"nowhere")
    with daemon.connect() as program, daemon.connect_tcp() as stranger:
        assert find(program, *blocks).payload == pack_bitmap([True, False, False])
        assert find(stranger, *blocks).payload == pack_bitmap([False, False, False])
        assert seed.sought == []
        assert find(program, *blocks, hops=1).payload == pack_bitmap([True, True, False])
        assert find(stranger, *blocks, hops=1).payload == pack_bitmap([False, True, False])
        assert seed.sought == [
            *map(reference_of, blocks[1:]),
            *map(reference_of, blocks),
        ]


def test_the_world_is_given_it_by_http_and_is_never_near(daemon: Daemon, seed: PlayedSeed) -> None:
    door = HttpDaemon(daemon)
    seed.asked.clear()
    reply = door.ask(format_n2r(reference_of(MADE[4])))
    assert (reply.status, reply.body) == (200, MADE[4])
    assert door.ask(format_n2r(NOWHERE)).status == 404
    names = [reference_of(block) for block in (MADE[5], STORED, LARGE)]
    batch = door.ask("/kapla/blocks", method="POST", body=format_request(names))
    reader = BatchReader(names)
    reader.feed(batch.body)
    assert [block for _, block in reader.entries()] == [MADE[5], None, LARGE]
    assert not any(is_near for _, is_near in seed.asked)


def test_commands_use_it_and_know_that_it_is_not_stored(daemon: Daemon, tmp_path: Path) -> None:
    user = User(tmp_path, daemon.url)
    content = random.Random(17).randbytes(100_000)
    encoder = Encoder(BlockSize.SMALL, NULL_CONVERGENCE_SECRET)
    blocks = dict([*encoder.feed(content), *encoder.finish()])
    urn = encoder.read_capability.to_urn()
    with seeding(daemon, blocks.values()):
        assert user("decode", urn, "-").stdout == content
        assert user.out("verify", urn) == f"{len(blocks)} blocks, 0 missing, 0 bad"
        assert f"{len(blocks)} blocks" in user.out("explain", urn)
        told_of_here = user("verify", "--here", urn, code=4).stdout.decode()
        assert told_of_here.endswith("1 block, 1 missing, 0 bad\n")
        [line] = [one for one in user.out("stat").splitlines() if one.startswith("seeds:")]
        assert line.split()[1] in ("1", "2")
    user("decode", urn, "-", code=4)


def test_several_are_asked_one_after_the_other(daemon: Daemon, seed: PlayedSeed) -> None:
    other = b"of another".ljust(1024)
    with seeding(daemon, [other]), daemon.connect() as peer:
        assert is_made(ask(peer, other), other)
        assert is_made(ask(peer, MADE[6]), MADE[6])
        assert find(peer, other, MADE[6], b"x", hops=1).payload == pack_bitmap([True, True, False])


def test_one_that_goes_leaves_nothing(daemon: Daemon, seed: PlayedSeed) -> None:
    mine = b"for a moment".ljust(1024)
    with daemon.connect() as peer:
        with seeding(daemon, [mine]):
            assert is_made(ask(peer, mine), mine)
        assert ask(peer, mine).code == Code.NOT_FOUND


def test_one_that_is_killed_in_the_middle_costs_nothing(daemon: Daemon) -> None:
    mine = b"not in time".ljust(1024)
    with seeding(daemon, [mine]) as dying, daemon.connect() as peer:
        dying.dies = True
        assert ask(peer, mine).code == Code.NOT_FOUND
        assert dying.was_asked.is_set()


def test_what_it_asks_itself_it_is_not_asked(daemon: Daemon) -> None:
    with daemon.connect() as peer:
        assert peer.request(Code.POST, b"p", SEED).code == Code.CHANGED
        assert peer.request(Code.POST, b"q", SEED).code == Code.CHANGED
        assert is_made(ask(peer, STORED), STORED)
        assert ask(peer, b"nowhere").code == Code.NOT_FOUND


# --- who may be one -----------------------------------------------------------------------------


def test_nobody_is_one_over_tcp_nor_says_more_than_that(daemon: Daemon) -> None:
    before = stat(daemon)["seeds"]["refused"]
    with daemon.connect_tcp() as peer:
        answer = peer.request(Code.POST, b"t", SEED)
        assert answer.code == Code.FORBIDDEN
        assert answer.payload == b"seeds are programs of this machine: connect to the Unix socket"
        assert peer.request(Code.GET, b"t", SEED).code == Code.METHOD_NOT_ALLOWED
    with daemon.connect() as peer:
        assert peer.request(Code.POST, b"t", SEED, b"\xa0").code == Code.BAD_REQUEST
    assert stat(daemon)["seeds"]["refused"] == before + 1


def test_other_users_are_one_if_they_are_named_as_long_as_they_are(
    daemon: Daemon, file: Path
) -> None:
    with connected_as(SOMEBODY + 1, daemon.socket) as connection:
        answer = RawPeer(connection).request(Code.POST, b"t", SEED)
        assert answer.code == Code.FORBIDDEN
        assert b"named in seed-users" in answer.payload
    with connected_as(SOMEBODY, daemon.socket) as connection:
        played = PlayedSeed(RawPeer(connection), [MADE[7]])
        with daemon.connect() as peer:
            assert is_made(ask(peer, MADE[7]), MADE[7])
        file.write_text('seed-users = ["root"]\n')
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.wait_for_log("Settings: seed-users is root now")
        played.wait()
        assert played.ended is not None
        assert played.ended.code == Code.ABORT
        assert b"seed-users" in played.ended.payload


def test_one_that_gives_a_wrong_block_is_sent_away_and_the_block_not_given_on() -> None:
    with running_daemon() as daemon, seeding(daemon, MADE) as seed, daemon.connect() as peer:
        seed.lies = True
        assert ask(peer, MADE[0]).code == Code.NOT_FOUND
        seed.wait()
        assert seed.ended is not None
        assert seed.ended.payload == b"a block was wrong"
        with daemon.connect() as again:
            answer = again.request(Code.POST, b"t", SEED)
            assert answer.code == Code.SERVICE_UNAVAILABLE
            assert b"after a minute" in answer.payload
        facts = told(peer, b"stat")["seeds"]
        assert (facts["now"], facts["wrong"], facts["blocks"]) == (0, 1, 0)
        assert "gave a wrong block" in daemon.log
        assert daemon.stop() == 0


# --- seeds and peers ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(daemon: Daemon) -> Iterator[Daemon]:
    """A daemon that has the other one as a peer."""
    with running_daemon(None, "--peer", daemon.tcp_url) as far:
        with far.connect() as peer:

            def is_connected() -> bool:
                answer = peer.request(Code.GET, b"p", [(11, b"kapla"), (11, b"peers")])
                return bool(json.loads(answer.payload)[0]["state"] == "connected")

            wait_until(is_connected, "its peer")
        yield far


def test_a_daemon_elsewhere_finds_it_and_keeps_and_lends_it(
    daemon: Daemon, seed: PlayedSeed, pair: Daemon
) -> None:
    with pair.connect() as peer:
        assert find(peer, MADE[8], b"x", hops=4).payload == pack_bitmap([True, False])
        assert is_made(ask(peer, MADE[8]), MADE[8])
        assert told(peer, b"origin")["peers"] != {}

        def is_lent() -> bool:
            return bool(told(peer, b"status")["keeping"]["lent_blocks"])

        wait_until(is_lent, "what a peer lent")


def test_a_seed_is_asked_before_peers_and_they_have_what_it_does_not_bring(
    daemon: Daemon, pair: Daemon
) -> None:
    stored = [f"at the peer {number}".encode().ljust(1024) for number in range(3)]
    with daemon.connect() as peer:
        for block in stored:
            assert peer.request(Code.PUT, b"t", [(11, b"blocks")], block).code == Code.CREATED
        _lend(peer, stored)
    with seeding(pair, stored[:1]) as mine, pair.connect() as peer:
        assert is_made(ask(peer, stored[0]), stored[0])
        assert told(peer, b"origin")["peers"] == {}
        # It does not answer: a peer does.
        mine.is_silent = True
        assert is_made(ask(peer, stored[1]), stored[1])
        mine.close()
    with seeding(pair, []) as dying, pair.connect() as peer:
        dying.dies = True
        assert is_made(ask(peer, stored[2]), stored[2])
        assert dying.was_asked.is_set()


def _lend(peer: RawPeer, blocks: list[bytes]) -> None:
    """Let all blocks that are there be given to others."""
    pins = BLOCKS_PATH[:-1]
    opened = peer.request(Code.POST, b"o", [*pins, (11, b"pins"), (11, b"open")])
    assert opened.code == Code.CREATED, opened
    assert find(peer, *blocks).payload == pack_bitmap([True] * len(blocks))
    named = b"\xa2\x64name\x61p\x64lend\xf5"
    closed = peer.request(Code.POST, b"c", [*pins, (11, b"pins"), (11, b"close")], named)
    assert closed.code == Code.CHANGED, closed


def test_a_daemon_stops_at_once_though_a_seed_is_there() -> None:
    with running_daemon() as daemon, seeding(daemon, MADE) as seed:
        assert daemon.stop() == 0
        seed.wait()
        assert seed.ended is not None
        assert seed.ended.code == Code.RELEASE
        assert "did not end in time" not in daemon.log
