"""The list of all blocks, over the wire: in pages, and for administrators only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eris import encode
from eris.model import BlockSize
from kapla.coap.frame import Code, OptionNumber
from kapla.coap.list_pages import parse_page
from tests.integration.daemon import Daemon, RawPeer, running_daemon
from tests.integration.users import connected_as

PATH = [(OptionNumber.URI_PATH, name) for name in (b".well-known", b"eris", b"list")]
SHORT_PATH = PATH[-1:]
_, BLOCKS = encode(
    b"".join(number.to_bytes(4, "big") for number in range(300_000)), block_size=BlockSize.SMALL
)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One with more than a page of blocks, whose TCP listener is for administrators."""
    with running_daemon(listen=("coap+tcp://127.0.0.1:0?get&admin",)) as running:
        with running.connect() as peer:
            put = [(OptionNumber.URI_PATH, b"blocks")]
            for number, block in enumerate(BLOCKS.values()):
                peer.send_message(Code.PUT, number.to_bytes(2, "big"), put, block)
                if number % 100 == 99:
                    peer.responses(100)
            peer.responses(len(BLOCKS) % 100)
        yield running


def query(text: str) -> tuple[int, bytes]:
    return (OptionNumber.URI_QUERY, text.encode())


def everything(peer: RawPeer, path: list[tuple[OptionNumber, bytes]]) -> list[bytes]:
    found: list[bytes] = []
    after = b""
    for _ in range(10):
        more = [query(f"after={after.hex()}")] if after else []
        answer = peer.request(Code.GET, options=[*path, *more])
        assert answer.code == Code.CONTENT
        references, following = parse_page(answer.payload)
        if not following:
            return found
        assert following > after
        after = following
        found += references
    raise AssertionError("the list has no end")


def test_whoever_runs_the_daemon_gets_every_block_once_in_pages(daemon: Daemon) -> None:
    with daemon.connect() as peer:
        for path in (PATH, SHORT_PATH):
            found = everything(peer, path)
            assert len(found) == len(BLOCKS) > 1000
            assert set(found) == set(BLOCKS)


def test_on_tcp_the_flag_decides(daemon: Daemon) -> None:
    with daemon.connect_tcp() as peer:
        assert set(everything(peer, PATH)) == set(BLOCKS)
    with (
        running_daemon(listen=("coap+tcp://127.0.0.1:0?get&put&stat",)) as other,
        other.connect_tcp() as peer,
    ):
        answer = peer.request(Code.GET, options=PATH)
        assert answer.code == Code.FORBIDDEN
        assert b"administrators" in answer.payload
        core = peer.request(Code.GET, options=core_path())
        assert b"/list" not in core.payload


def core_path() -> list[tuple[int, bytes]]:
    return [(OptionNumber.URI_PATH, b".well-known"), (OptionNumber.URI_PATH, b"core")]


def test_other_users_of_the_socket_do_not_get_it(daemon: Daemon) -> None:
    with connected_as(12345, daemon.socket) as connection:
        peer = RawPeer(connection)
        assert peer.request(Code.GET, options=PATH).code == Code.FORBIDDEN


@pytest.mark.parametrize(
    "queries",
    [
        ["after="],
        ["after=00"],
        ["after=zz00000000000000"],
        ["after=0000000000000000ff"],
        ["after=00 0000000000000 0"],
        ["0000000000000000"],
        ["before=0000000000000000"],
        ["after=0000000000000000", "after=0000000000000000"],
    ],
)
def test_a_place_that_is_none_is_refused(daemon: Daemon, queries: list[str]) -> None:
    with daemon.connect() as peer:
        answer = peer.request(Code.GET, options=[*PATH, *map(query, queries)])
        assert answer.code == Code.BAD_REQUEST


@pytest.mark.parametrize("place", ["7fffffffffffffff", "8000000000000000", "ffffffffffffffff"])
def test_behind_the_last_block_is_the_end(daemon: Daemon, place: str) -> None:
    with daemon.connect() as peer:
        answer = peer.request(Code.GET, options=[*PATH, query(f"after={place}")])
        assert (answer.code, answer.payload) == (Code.CONTENT, b"")


def test_other_methods_and_formats_are_refused(daemon: Daemon) -> None:
    with daemon.connect() as peer:
        assert peer.request(Code.PUT, options=PATH).code == Code.METHOD_NOT_ALLOWED
        accept = (OptionNumber.ACCEPT, b"\x32")
        assert peer.request(Code.GET, options=[*PATH, accept]).code == Code.NOT_ACCEPTABLE
