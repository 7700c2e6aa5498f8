"""What hostile peers and strangers do to daemons that ask each other."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kapla.coap.frame import Code
from tests.integration.commands import Kapla
from tests.integration.daemon import GUARD_S, RawPeer, running_daemon

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
