"""Who a peer is, by the kernel's word, and what follows from it."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from kapla.coap.caller import NOBODY, Caller, caller_of
from kapla.coap.sockets import peer_uid
from kapla.storage.access import Rights
from tests.integration.users import connected_as


class Transport(asyncio.BaseTransport):
    """Of a socket."""

    def __init__(self, connection: socket.socket | None) -> None:
        super().__init__({"socket": connection})


def caller(connection: socket.socket | None, rights: Rights) -> Caller:
    return caller_of(peer_uid(Transport(connection)), rights)


def test_whoever_runs_the_daemon_administers_it_on_a_unix_socket() -> None:
    one, other = socket.socketpair()
    with one, other:
        found = caller(one, Rights(get=True))
    assert found == Caller(os.geteuid(), may_administer=True, may_pin=True)


@pytest.mark.parametrize(
    ("rights", "may_administer", "may_pin"),
    [
        (Rights(get=True, put=True), False, True),
        (Rights(get=True), False, False),
        (Rights(get=True, admin=True), True, True),
    ],
)
def test_others_have_pins_of_their_own_where_they_may_put(
    tmp_path: Path, rights: Rights, may_administer: bool, may_pin: bool
) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with connected_as(12345, path), server.accept()[0] as accepted:
            assert caller(accepted, rights) == Caller(12345, may_administer, may_pin)


def test_on_tcp_nobody_is_known_and_the_flag_acts_for_the_daemon() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()),
        server.accept()[0] as accepted,
    ):
        assert peer_uid(Transport(accepted)) is None
        assert caller(accepted, Rights(get=True, put=True, stat=True)) == NOBODY
        assert caller(accepted, Rights(admin=True)) == Caller(os.geteuid(), True, True)


def test_a_socket_that_tells_nothing_is_nobodys() -> None:
    one, other = socket.socketpair()
    one.close()
    other.close()
    assert caller(one, Rights(put=True)) == NOBODY
    assert caller(None, Rights(put=True)) == NOBODY
