"""Servers on the same link, whose addresses have a zone; the local host stands for one."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.guix_glue.fetch.bringing import bring
from tests.guix_glue.fetch.support import make_item, narinfo_of, plain_url
from tests.guix_glue.servers.scripts import answer


@contextmanager
def listening(files: dict[str, bytes], heads: list[str]) -> Iterator[int]:
    """A server of files on ::1; gives its port."""

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                heads.append(connection.recv(1 << 16).decode())
                connection.sendall(answer(files[heads[-1].split(" ")[1]]))

    server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


@pytest.mark.parametrize("zone", ["%251", "%1"])
def test_a_zone_is_for_us_and_not_for_the_server(zone: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    made = make_item(tmp_path / "file")
    files = {
        f"/{made.item.hash_part}.narinfo": narinfo_of(made, [plain_url(made)]),
        f"/nar/{made.item.base_name}": made.nar,
    }
    heads: list[str] = []
    with listening(files, heads) as port:
        brought = bring(made, tmp_path / "item", f"http://[::1{zone}]:{port}")
        brought.assert_right(made, tmp_path / "item")
    hosts = [re.findall(r"^Host: (.*)\r$", head, re.MULTILINE) for head in heads]
    assert hosts == [[f"[::1]:{port}"]] * 2
