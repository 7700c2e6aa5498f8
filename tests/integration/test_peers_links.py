"""Connections between daemons: made, kept, lost, made again, and what `kapla peers` tells of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kapla.coap.frame import Code
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
    """A daemon that is not started, and one that dials it and is."""
    port = free_port()
    listen = f"coap+tcp://127.0.0.1:{port}"
    with running_daemon(listen=[listen]) as server:
        server.kill()
        with running_daemon(None, "--peer", listen) as dialler:
            yield server, dialler


def test_whichever_end_starts_first_they_connect_and_find_each_other_again() -> None:
    with server_and_dialler() as (server, dialler):
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
        told(dialler, is_connected)
        assert server.stop() == 0
        peer = told(dialler, lambda peer: peer["state"] == "waiting")
        assert peer["why"]
        assert peer["next_try_s"] >= 0


def test_a_daemon_that_waits_for_peers_stops_at_once() -> None:
    with running_daemon(None, "--peer", f"coap+tcp://127.0.0.1:{free_port()}") as dialler:
        dialler.wait_for_log("cannot be reached")
        told(dialler, lambda peer: peer["state"] == "waiting")
        assert dialler.stop() == 0
        assert "did not end in time" not in dialler.log


def test_it_is_told_how_it_stands_with_each() -> None:
    with server_and_dialler() as (server, dialler):
        server.start()
        told(dialler, lambda peer: peer["rtt_s"] is not None)
        [peer] = peers_of(dialler)
        port = server.tcp_port
        assert 0 < peer.pop("rtt_s") < 30
        assert peer == {
            "name": None,
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


def test_those_who_dial_us_and_have_not_are_away() -> None:
    with running_daemon(None, "--known-peer", NOBODY) as daemon:
        [peer] = peers_of(daemon)
        assert (peer["state"], peer["key"]) == ("away", NOBODY)
        shown = Kapla(daemon.directory, daemon.url)("peers").stdout.decode().splitlines()
        assert shown[1].split()[0] == "away"
        assert NOBODY in shown[1]


def test_a_daemon_without_peers_tells_of_none() -> None:
    with running_daemon() as daemon:
        kapla = Kapla(daemon.directory, daemon.url)
        assert kapla.out("peers") == kapla.out("peers", "--json") == ""


def test_strangers_are_not_told() -> None:
    with running_daemon(listen=["coap+tcp://127.0.0.1:0?get&put"]) as daemon:
        with RawPeer.tcp("127.0.0.1", daemon.tcp_port) as stranger:
            assert stranger.request(Code.GET, b"t", PEERS).code == Code.FORBIDDEN
        kapla = Kapla(daemon.directory, daemon.tcp_url)
        assert b"needs the flag stat" in kapla("peers", code=6).stderr


@pytest.mark.parametrize("query", [b"after=x", b"after=-1", b"before=1", b"after=1234567"])
def test_a_page_is_asked_for_by_a_number(query: bytes) -> None:
    with running_daemon() as daemon, RawPeer.unix(daemon.socket) as asking:
        asked = asking.request(Code.GET, b"t", [*PEERS, (15, query)])
        assert asked.code == Code.BAD_REQUEST


def test_many_peers_with_long_names_are_all_told_of(tmp_path: Path) -> None:
    ports = range(20_000, 20_200)
    file = tmp_path / "kapla.toml"
    file.write_text(
        "".join(
            f'[[peers]]\nurl = "coap+unix:///nowhere/{port}"\nname = "{"ü" * 95}{port}"\n'
            for port in ports
        )
    )
    with running_daemon(None, "--config", str(file)) as daemon:
        found = peers_of(daemon)
        assert [peer["name"][-5:] for peer in found] == [str(port) for port in ports]
