"""Servers that are odd, half dead or hostile: each works or is refused with a word; none hangs."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from guix_glue.fetch.settings import FetchSettings
from guix_glue.formats.narinfo import NarUrl
from tests.guix_glue.fetch.bringing import NOTHING, Brought, bring
from tests.guix_glue.fetch.fakes import Script, running_server, scripted_server
from tests.guix_glue.fetch.support import Made, make_item, narinfo_of, publish

FLOOD = b"".join(b"X-%d: y\r\n" % number for number in range(20_000))


@pytest.fixture
def made(tmp_path: Path) -> Made:
    (tmp_path / "file").write_bytes(b"content")
    return make_item(tmp_path / "file")


def sends(answer: Callable[[bytes], bytes], *, stays: bool = False) -> Callable[[bytes], Script]:
    """A server that sends this of a body, whatever it is asked, and closes or says no more."""

    def of(body: bytes) -> Script:
        def script(connection: socket.socket) -> None:
            connection.recv(1 << 16)
            connection.sendall(answer(body))
            if stays:
                while connection.recv(1 << 16):
                    pass

        return script

    return of


def chunked(body: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    chunks = b"%x;ext=1\r\n%b\r\n%b" % (len(body), body, end)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks


def plain(body: bytes, more: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"HTTP/%b 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (version, more, len(body), body)


WORKS = {
    "closes after each answer": sends(plain),
    "says that it will": sends(lambda body: plain(body, b"Connection: close\r\n")),
    "HTTP/1.0": sends(lambda body: plain(body, version=b"1.0")),
    "HTTP/1.0 without a length": sends(lambda body: b"HTTP/1.0 200 OK\r\n\r\n" + body),
    "no reason": sends(
        lambda body: b"HTTP/1.1 200\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    ),
    "informs first": sends(lambda body: b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" * 3 + plain(body)),
    "chunks": sends(chunked),
    "trailers": sends(lambda body: chunked(body, b"0\r\nExpires: never\r\nX: y\r\n\r\n")),
}
CUT = "HTTP/1.0 without a length, cut"
REFUSED = {
    "closes at once": lambda body: lambda connection: None,
    "closes after the head": sends(lambda body: plain(body)[: -len(body)]),
    "closes within the head": sends(lambda body: plain(body)[:20]),
    "closes within the body": sends(lambda body: plain(body)[:-1]),
    "closes within a chunk": sends(lambda body: chunked(body)[:-8]),
    CUT: sends(lambda body: b"HTTP/1.0 200 OK\r\n\r\n" + body[:-9]),
    "two lengths": sends(lambda body: plain(body, b"Content-Length: %d\r\n" % (len(body) - 1))),
    "a negative length": sends(
        lambda body: b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + body
    ),
    "a huge length": sends(
        lambda body: b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n" + body
    ),
    "a length and chunks": sends(
        lambda body: chunked(body).replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n", 1)
    ),
    "no chunk": sends(lambda body: chunked(body).replace(b"\r\n\r\n", b"\r\n\r\nzz", 1)),
    "a flood of headers": sends(lambda body: plain(body, FLOOD)),
    "a flood of trailers": sends(lambda body: chunked(body, b"0\r\n" + FLOOD * 12 + b"\r\n")),
    "one long header": sends(lambda body: plain(body, b"X: " + b"y" * 1_000_000 + b"\r\n")),
    "informs for ever": sends(lambda body: b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, stays=True),
    "another protocol": sends(lambda body: b"SSH-2.0-x\r\n"),
    "HTTP/2": sends(lambda body: b"\0\0\x12\4\0\0\0\0\0" + bytes(18)),
    "switches protocols": sends(
        lambda body: b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", stays=True
    ),
    "nothing at all": sends(lambda body: b"", stays=True),
    "half a head": sends(lambda body: plain(body)[:20], stays=True),
    "half a body": sends(lambda body: plain(body)[:-1], stays=True),
    "not modified": sends(lambda body: b"HTTP/1.1 304 Not Modified\r\n\r\n"),
}


def bring_narinfo(made: Made, destination: Path, of: Callable[[bytes], Script]) -> Brought:
    with running_server() as server:
        publish(server, made)
        text = narinfo_of(
            made, [NarUrl(f"{server.url}/nar/{made.item.base_name}", "none", None, None)]
        )
        with scripted_server(of(text)) as url:
            return bring(made, destination, url)


def bring_nar(made: Made, destination: Path, of: Callable[[bytes], Script]) -> Brought:
    with running_server() as server, scripted_server(of(made.nar)) as url:
        publish(server, made, NarUrl(f"{url}/nar", "none", None, None))
        # Silence is waited for twice; it need not be as long as in earnest.
        return bring(made, destination, server.url, settings=FetchSettings(nar_stall_s=2.0))


@pytest.mark.parametrize("way", [bring_narinfo, bring_nar])
@pytest.mark.parametrize("kind", WORKS)
def test_what_is_odd_and_works(
    kind: str, way: Callable[..., Brought], made: Made, tmp_path: Path
) -> None:
    way(made, tmp_path / "item", WORKS[kind]).assert_right(made, tmp_path / "item")


@pytest.mark.parametrize("way", [bring_narinfo, bring_nar])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_wrong_is_refused_with_a_word(
    kind: str, way: Callable[..., Brought], made: Made, tmp_path: Path
) -> None:
    brought = way(made, tmp_path / "item", REFUSED[kind])
    assert brought.reply == NOTHING, brought
    if (kind, way) != (CUT, bring_narinfo):
        # What is cut so is a narinfo, only none that is signed.
        assert "kapla substitute: warning: " in brought.messages
    for hidden in ("Error", "Traceback", "Exception", "aiohttp", "b'"):
        assert hidden not in brought.messages
    assert not (tmp_path / "item").exists()


def test_garbage_behind_an_answer_does_not_matter(made: Made, tmp_path: Path) -> None:
    of = sends(lambda body: plain(body) + b"garbage\r\n\r\n")
    bring_narinfo(made, tmp_path / "item", of).assert_right(made, tmp_path / "item")
