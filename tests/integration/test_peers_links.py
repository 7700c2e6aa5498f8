"""Connections between daemons: made, kept, lost, made again, and what `kapla peers` tells of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from kapla.coap.frame import Code
from kapla.identity.pair import load_or_make
from tests.integration.commands import Kapla
from tests.integration.daemon import Daemon, RawPeer, running_daemon, wait_until
from tests.integration.walkthrough import free_port

PEERS = [(11, b"kapla"), (11, b"peers")]
NOBODY = "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"


def peers_of(daemon: Daemon) -> list[dict[str, Any]]:
    """What `kapla peers` tells."""
    told = Kapla(daemon.directory, daemon.url)("peers", "--json")
    return [json.loads(line) for line in told.stdout.splitlines()]


def told(daemon: Daemon, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What is told of the one peer, once this holds."""
    found: list[dict[str, Any]] = []
    with RawPeer.unix(daemon.socket) as asking:

        def holds() -> bool:
            found[:] = json.loads(asking.request(Code.GET, b"t", PEERS).payload)
            return condition(found[0])

        wait_until(holds, "its peer")
    return found[0]


def is_connected(peer: dict[str, Any]) -> bool:
    return bool(peer["state"] == "connected")


@contextmanager
def server_and_dialler() -> Iterator[tuple[Daemon, Daemon]]:
    """A daemon, and one that dials it. Neither is started."""
    listen = f"coap+tcp://127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        one, two = (
            Daemon(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kapla-"))), args)
            for args in ([], ["--peer", listen])
        )
        one._listen.append(listen)
        stack.callback(one.kill)
        stack.callback(two.kill)
        yield one, two


def test_whichever_end_starts_first_they_connect_and_find_each_other_again() -> None:
    with server_and_dialler() as (server, dialler):
        dialler.start()
        dialler.wait_for_log("cannot be reached: Connection refused")
        server.start()
        dialler.wait_for_log("is connected")
        server.kill()
        dialler.wait_for_log("is gone: ")
        server.start()
        told(dialler, is_connected)
        # Whoever dials comes back too.
        dialler.kill()
        dialler.start()
        told(dialler, is_connected)
        assert dialler.log.count("cannot be reached") == 1
        assert dialler.stop() == 0
        assert server.stop() == 0


def test_a_server_that_stops_says_so_and_is_waited_for() -> None:
    with server_and_dialler() as (server, dialler):
        server.start()
        dialler.start()
        told(dialler, is_connected)
        assert server.stop() == 0
        peer = told(dialler, lambda peer: peer["state"] == "waiting")
        assert peer["why"]
        assert peer["next_try_s"] >= 0
        # Whoever waits for a try stops at once.
        assert dialler.stop() == 0
        assert "did not end in time" not in dialler.log


def test_it_is_told_how_it_stands_with_each() -> None:
    with server_and_dialler() as (server, dialler):
        server.start()
        dialler.start()
        told(dialler, lambda peer: peer["rtt_s"] is not None)
        [peer] = peers_of(dialler)
        port = server.tcp_port
        assert 0 < peer.pop("rtt_s") < 30
        assert peer == {
            "name": None,
            "found": False,
            "key": None,
            "url": f"TCP 127.0.0.1:{port}",
            "rights": ["lend"],
            "state": "connected",
            "direction": "dialled",
            "connections": 1,
            "address": f"127.0.0.1:{port}",
            "why": None,
            "next_try_s": None,
            "rate": 0,
            "hit_ratio": None,
            "breaker": None,
            "breaker_s": None,
            "blocks_in": 0,
            "bytes_in": 0,
            "blocks_out": 0,
            "bytes_out": 0,
        }
        # Whom nobody named is no peer: the server knows nothing of it.
        assert peers_of(server) == []
        shown = Kapla(dialler.directory, dialler.url)("peers").stdout.decode().splitlines()
        assert [line.split()[:2] for line in shown] == [["STATE", "WAY"], ["connected", "dialled"]]
        assert f"TCP 127.0.0.1:{port}" in shown[1]


def test_those_who_dial_us_and_have_not_are_away_and_all_are_told_of(tmp_path: Path) -> None:
    ports = range(20_000, 20_060)
    file = tmp_path / "kapla.toml"
    file.write_text(
        f'[[peers]]\nkey = "{NOBODY}"\nname = "nobody"\n'
        + "".join(
            f'[[peers]]\nurl = "coap+unix:///nowhere/{port}"\nname = "{"ü" * 95}{port}"\n'
            for port in ports
        )
    )
    with running_daemon(None, "--config", str(file)) as daemon:
        nobody, *others = peers_of(daemon)
        assert (nobody["state"], nobody["key"], nobody["name"]) == ("away", NOBODY, "nobody")
        assert [peer["name"][-5:] for peer in others] == [str(port) for port in ports]
        shown = Kapla(daemon.directory, daemon.url)("peers").stdout.decode().splitlines()
        assert shown[1].split()[0] == "away"
        assert len(shown) == 2 + len(ports)


@contextmanager
def keyed_pair() -> Iterator[tuple[Daemon, Daemon]]:
    """Two daemons with keys that know and dial each other."""
    with ExitStack() as stack:
        keys, ports, daemons = [], [free_port(), free_port()], []
        for port in ports:
            state = stack.enter_context(tempfile.TemporaryDirectory(prefix="kapla-"))
            keys.append(load_or_make(Path(state) / "kapla" / "identity.pem").public)
            daemon = Daemon(Path(state), env={"XDG_STATE_HOME": state})
            daemon._listen.append(f"coaps+tcp://127.0.0.1:{port}")
            daemons.append(daemon)
        for place, daemon in enumerate(daemons):
            other = 1 - place
            daemon._args += ["--peer", f"coaps+tcp://127.0.0.1:{ports[other]}#{keys[other]}"]
            stack.callback(daemon.kill)
            daemon.start()
        one, two = daemons
        yield one, two


def test_two_that_dial_each_other_are_one_peer_by_two_connections_of_which_none_is_closed() -> None:
    with keyed_pair() as (one, two):
        for daemon in (one, two):
            peer = told(daemon, lambda peer: peer["connections"] == 2)
            assert peer["state"] == "connected"
            assert str(peer["key"]).startswith("ed25519:")
        assert "is gone" not in one.log + two.log
        # Whatever ends one of them, both are there again, and the peer all the while.
        assert two.stop() == 0
        told(one, lambda peer: peer["connections"] == 0)
        two.start()
        for daemon in (one, two):
            told(daemon, lambda peer: peer["connections"] == 2)
        assert one.log.count("is gone") == 1
        assert one.stop() == two.stop() == 0


def test_nobody_is_a_peer_of_oneself() -> None:
    with tempfile.TemporaryDirectory(prefix="kapla-") as state:
        key = load_or_make(Path(state) / "kapla" / "identity.pem").public
        daemon = Daemon(Path(state), ["--known-peer", str(key)], {"XDG_STATE_HOME": state})
        daemon.spawn()
        assert daemon.wait() == 2
        assert f"peers: {key} is this daemon's own key" in daemon.log
