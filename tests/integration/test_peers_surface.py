"""What hostile peers and strangers do to daemons that ask each other."""

from __future__ import annotations

import socket
import ssl
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eris import reference_of
from kapla.coap.frame import Code
from tests.integration.commands import Kapla
from tests.integration.daemon import GUARD_S, RawPeer, running_daemon
from tests.kapla.coap.harness import BLOCKS_PATH, LARGE, request_bytes

PINS = [(11, b".well-known"), (11, b"eris"), (11, b"pins")]
SCRUB = [(11, b".well-known"), (11, b"eris"), (11, b"scrub")]


@contextmanager
def dialled_by_unix() -> Iterator[tuple[str, socket.socket]]:
    """A socket that a daemon can dial: its URL, and where it comes."""
    with tempfile.TemporaryDirectory(prefix="kapla-") as name, socket.socket(socket.AF_UNIX) as one:
        path = Path(name) / "s"
        one.bind(str(path))
        one.listen()
        one.settimeout(GUARD_S)
        yield f"coap+unix://{path}", one


def test_what_answers_at_a_unix_socket_is_a_peer_and_not_who_made_that_socket() -> None:
    """The kernel says that it is us; it may be forwarded to another machine."""
    with dialled_by_unix() as (url, listening), running_daemon(None, "--peer", url) as daemon:
        content = daemon.directory / "content"
        content.write_bytes(b"content")
        Kapla(daemon.directory, daemon.url).out("encode", str(content))
        with RawPeer(listening.accept()[0]) as peer:
            assert peer.request(Code.GET, b"t", PINS).code == Code.FORBIDDEN
            assert peer.request(Code.GET, b"t", SCRUB).code == Code.FORBIDDEN
            assert peer.request(Code.POST, b"t", SCRUB).code == Code.FORBIDDEN


def test_whoever_breaks_tls_off_while_it_is_answered_is_not_in_the_log() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    get = request_bytes(Code.GET, [*BLOCKS_PATH, (15, reference_of(LARGE))])
    with running_daemon(None, listen=["coaps+tcp://127.0.0.1:0?get"]) as daemon:
        with daemon.connect() as peer:
            assert peer.request(Code.PUT, b"t", BLOCKS_PATH, LARGE).code == Code.CREATED
        before = daemon.log
        for number in range(20):
            where = ("127.0.0.1", daemon.tls_port)
            with RawPeer(context.wrap_socket(socket.create_connection(where, GUARD_S))) as peer:
                peer.send(get * (50, 1000)[number % 2])
                linger = struct.pack("ii", 1, 0)
                peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        assert daemon.stop() == 0
        said = daemon.log.removeprefix(before)
    assert [line.partition(": ")[2] for line in said.splitlines()] == ["Stopping"]
