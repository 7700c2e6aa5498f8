"""What a service manager hands over: taken if it is for us, and refused if nobody can use it."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kapla.handed import Handed, HandedSocket, HandoverError, place_of, take_sockets

OURS = str(os.getpid())


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket that listens on TCP."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


def handed(one: socket.socket, names: str = "door") -> dict[str, str]:
    return {"LISTEN_PID": OURS, "LISTEN_FDS": "1", "LISTEN_FDNAMES": names, "HOME": "/"}


def take(one: socket.socket, names: str = "door") -> list[HandedSocket]:
    """Hand a copy over, inheritable as systemd does it."""
    number = os.dup(one.fileno())
    os.set_inheritable(number, True)
    try:
        return take_sockets(handed(one, names), first=number)
    except HandoverError:
        os.close(number)
        raise


def test_it_is_taken_and_no_child_gets_it(listening: socket.socket) -> None:
    [taken] = take(listening)
    with taken.socket:
        assert taken.name == "door"
        assert taken.socket.getsockname() == listening.getsockname()
        assert not taken.socket.get_inheritable()
        assert not taken.socket.getblocking()
        assert str(taken) == f"TCP 127.0.0.1:{listening.getsockname()[1]} (door)"


def test_the_variables_go_whoever_they_are_for() -> None:
    for process in (OURS, "1", "", "x"):
        environment = {"LISTEN_PID": process, "LISTEN_FDS": "0", "LISTEN_FDNAMES": "", "A": "b"}
        assert take_sockets(environment) == []
        assert environment == {"A": "b"}
    assert take_sockets({}) == []


@pytest.mark.parametrize("count", ["", "x", "-1", "65", "99999999999", "١"])
def test_a_count_that_is_none(count: str) -> None:
    with pytest.raises(HandoverError, match="LISTEN_FDS is"):
        take_sockets({"LISTEN_PID": OURS, "LISTEN_FDS": count})


@pytest.mark.parametrize("names", ["a:b", "", "x" * 300, "\n"])
def test_names_that_do_not_fit_are_left_out(listening: socket.socket, names: str) -> None:
    [taken] = take(listening, names)
    with taken.socket:
        assert taken.name == ""


def test_what_is_no_socket() -> None:
    with open(os.devnull) as file, pytest.raises(HandoverError, match="which was handed over"):
        take_sockets({"LISTEN_PID": OURS, "LISTEN_FDS": "1"}, first=file.fileno())


def test_a_descriptor_that_is_not_open() -> None:
    with pytest.raises(HandoverError, match="Bad file descriptor"):
        take_sockets({"LISTEN_PID": OURS, "LISTEN_FDS": "1"}, first=1_000_000)


def test_a_socket_of_another_kind() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        with pytest.raises(HandoverError, match="ListenStream="):
            take(one)


def test_a_socket_that_does_not_listen() -> None:
    with socket.socket() as one, pytest.raises(HandoverError, match="Accept=no"):
        take(one)


# --- whose they are ---------------------------------------------------------------------------


def test_each_is_claimed_once_by_its_address(listening: socket.socket) -> None:
    waiting = Handed([HandedSocket(listening)])
    address = listening.getsockname()
    assert waiting.claim_tcp(socket.AF_INET, ("127.0.0.1", 1)) is None
    assert waiting.claim_tcp(socket.AF_INET6, address) is None
    assert waiting.claim_unix(Path("/run/eris.sock")) is None
    assert [one.socket for one in waiting.left] == [listening]
    assert waiting.claim_tcp(socket.AF_INET, address) is listening
    assert waiting.claim_tcp(socket.AF_INET, address) is None
    assert not waiting.left


def test_a_unix_socket_is_claimed_by_any_name_of_its_place() -> None:
    with tempfile.TemporaryDirectory(prefix="kapla-") as name, socket.socket(socket.AF_UNIX) as one:
        real = Path(name, "real")
        real.mkdir()
        Path(name, "link").symlink_to("real")
        one.bind(str(real / "eris.sock"))
        assert place_of(one) == f"Unix socket {real}/eris.sock"
        waiting = Handed([HandedSocket(one)])
        assert waiting.claim_unix(Path(name, "eris.sock")) is None
        assert waiting.claim_unix(Path(name, "link", "eris.sock")) is one


def test_nobody_claims_a_name_without_a_path() -> None:
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as unnamed:
        one.bind(f"\0kapla-test-{OURS}")
        assert place_of(one) == f"Unix socket @kapla-test-{OURS}"
        assert place_of(unnamed) == "Unix socket without a path"
        waiting = Handed([HandedSocket(one), HandedSocket(unnamed)])
        assert waiting.claim_unix(Path(f"/kapla-test-{OURS}")) is None
        assert waiting.claim_unix(Path.cwd()) is None
