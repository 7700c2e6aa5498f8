"""What the local network is told of a publisher, as somebody sees it who knows nothing of ours.

What Guix announces, and looks for, is in its guix/scripts/publish.scm (`service-name`,
`publish-service-type`), guix/avahi.scm (no TXT records, all interfaces, IPv4 when it looks) and
guix/scripts/discover.scm.
"""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.network import Network
from guix_glue.cli.advertising import service_of
from tests.guix_glue.lan import address_of, lan, looking, plug_in, selfish_responder, unplug
from tests.guix_glue.publish.support import KEYS, publishing
from tests.integration.daemon import GUARD_S


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with lan() as made:
        yield made


def test_it_is_announced_as_guix_does_and_taken_back(net: Network, tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    (tmp_path / "two").mkdir()
    arguments = ("--items", tmp_path / "items", *KEYS, "--listen", "0.0.0.0", "--advertise")
    sofa, bed = net.host("sofa").command(), net.host("bed").command()
    with (
        looking(net.host("desk")) as seen,
        publishing(tmp_path, *arguments, prefix=sofa) as publisher,
    ):
        added = seen.next()
        name = f"guix-publish-{socket.gethostname().partition('.')[0]}"
        assert (added["change"], added["port"]) == ("Added", publisher.port)
        assert added["name"] == f"{name}._guix_publish._tcp.local."
        assert bytes.fromhex(added["text"]) in (b"", b"\0")
        assert address_of("sofa") in added["addresses"]
        publisher.wait_for_log(f"Advertising {name}")
        # Another machine of the same name is another server.
        with publishing(tmp_path / "two", *arguments, prefix=bed) as other:
            second = seen.next()
            assert second["port"] == other.port
            assert second["name"] != added["name"]
            assert publisher.stop(signal.SIGTERM) == 0
            assert "Traceback" not in publisher.log
            removed = seen.next()
            assert (removed["change"], removed["name"]) == ("Removed", added["name"])


def test_a_network_may_come_later(net: Network, tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    arguments = ("--items", tmp_path / "items", *KEYS, "--listen", "0.0.0.0", "--advertise")
    sofa = net.host("sofa")
    unplug(sofa)
    with (
        looking(net.host("desk")) as seen,
        publishing(tmp_path, *arguments, prefix=sofa.command()) as publisher,
    ):
        publisher.wait_for_log("once there is a network")
        plug_in(sofa, address_of("sofa"))
        assert address_of("sofa") in seen.next()["addresses"]


def test_where_it_cannot_be_announced_it_is_served(net: Network, tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    arguments = ("--items", tmp_path / "items", *KEYS, "--listen", "0.0.0.0", "--advertise")
    sofa = net.host("sofa")
    with (
        selfish_responder(sofa),
        publishing(tmp_path, *arguments, prefix=sofa.command()) as publisher,
    ):
        publisher.wait_for_log("Not advertised on the local network: Address already in use")
        asked = sofa.command("curl", "--fail", f"http://127.0.0.1:{publisher.port}/nix-cache-info")
        subprocess.run(asked, check=True, capture_output=True, timeout=GUARD_S)
        assert publisher.stop(signal.SIGTERM) == 0
        assert "Traceback" not in publisher.log


def test_what_nobody_else_reaches_is_not_announced(tmp_path: Path) -> None:
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as local,
        closing(socket.create_server(("0.0.0.0", 0))) as everywhere,
        closing(socket.socket(socket.AF_UNIX)) as unix,
    ):
        unix.bind(str(tmp_path / "socket"))
        assert service_of([local, unix], "host") is None
        service = service_of([unix, local, everywhere], "host.example.org")
        assert service is not None
        assert (service.kind, service.name) == ("_guix_publish._tcp", "guix-publish-host")
        assert service.port == everywhere.getsockname()[1]
        assert (service.addresses, dict(service.texts)) == ((), {})
        long = service_of([everywhere], "ä" * 60)
        assert long is not None
        assert len(long.name.encode()) == 63
