"""Sizes that nobody signs: whoever is fastest and lies would have every nar refused."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guix_glue.formats.narinfo import parse_narinfo
from guix_glue.trust.acl import Acl
from guix_glue.trust.authorities import Authorities
from guix_glue.trust.nix_keys import NixPublicKey
from tests.guix_glue.fetch.fakes import FakeServer, running_server, scripted_server
from tests.guix_glue.fetch.support import Made, make_item, narinfo_of, plain_url, with_unsigned_size
from tests.guix_glue.proxy.running import Inside, inside
from tests.guix_glue.proxy.support import run
from tests.guix_glue.publish.support import ACL
from tests.guix_glue.samples import SAMPLES

NIX = SAMPLES / "nix-2.8"
KEY = NixPublicKey.parse((NIX / "public-key").read_text())
SOURCE = (NIX / "zyc9q74r4mipj51zwbw8i08sqc02xapc.narinfo").read_text()


def busy_first(text: bytes) -> Callable[[socket.socket], None]:
    """A server that has no time when it is asked for the first time."""
    answers = [b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"]

    def script(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n"
            connection.sendall(answers.pop() if answers else head.encode() + text)

    return script


async def told_size(proxy: Inside, hash_part: str, store_dir: str) -> int:
    text = await proxy.text(f"/{hash_part}.narinfo")
    return parse_narinfo(text.encode(), store_dir=store_dir).item.nar_size


def with_size(text: str, size: int) -> bytes:
    lines = text.splitlines(keepends=True)
    return "".join(f"NarSize: {size}\n" if "NarSize" in one else one for one in lines).encode()


@pytest.fixture
def liar() -> Iterator[FakeServer]:
    with running_server() as server:
        yield server


@pytest.fixture
def made(tmp_path: Path) -> Made:
    (tmp_path / "file").write_bytes(b"content")
    return make_item(tmp_path / "file")


def test_a_path_that_proves_itself(liar: FakeServer, tmp_path: Path) -> None:
    bare = "".join(one for one in SOURCE.splitlines(keepends=True) if not one.startswith("Sig"))
    hash_part = "zyc9q74r4mipj51zwbw8i08sqc02xapc"
    liar.files[f"/{hash_part}.narinfo"] = with_size(bare, 7)
    keys = Authorities(Acl(), (KEY,))

    async def main(honest: str) -> None:
        urls, store = [liar.url, honest], "/nix/store"
        async with inside(tmp_path, urls, authorities=keys, store_dir=store) as proxy:
            assert await told_size(proxy, hash_part, store) == 696

    with scripted_server(busy_first(SOURCE.encode())) as honest:
        run(main(honest))


def test_a_size_behind_the_signature(made: Made, liar: FakeServer, tmp_path: Path) -> None:
    hash_part = made.item.hash_part
    liar.files[f"/{hash_part}.narinfo"] = with_size(with_unsigned_size(made).decode(), 7)

    async def main(honest: str) -> None:
        for urls, size in (([liar.url, honest], made.item.nar_size), ([liar.url], 7)):
            directory = tmp_path / str(size)
            directory.mkdir()
            async with inside(directory, urls, authorities=Authorities(ACL)) as proxy:
                assert await told_size(proxy, hash_part, "/gnu/store") == size

    with scripted_server(busy_first(narinfo_of(made, [plain_url(made)]))) as honest:
        run(main(honest))
