"""Other programs as peers of a daemon: those that it dials give it blocks, those that dial it are
never asked, and none of them need know anything of peers.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from eris import BlockNotFound, BlockSize, Reference, StoreUnavailable, reference_of
from eris.base32 import format_base32
from kapla.client import RemoteStore
from kapla.coap.blocks import ENDPOINT_STORE_PATH, block_query, get_options
from kapla.coap.frame import Code, format_frame, parse_body
from kapla.urls import parse_store_url
from tests.integration.daemon import GUARD_S, Daemon, running_daemon, wait_until
from tests.integration.test_interop import coap_client, python_eris
from tests.integration.walkthrough import free_port

AIOCOAP_BLOCKS = Path(__file__).parent / "peers" / "aiocoap_blocks.py"
COAP_SERVER = "coap-server-notls"
HOP_LIMIT = 16

BLOCKS = [random.Random(size).randbytes(size) for size in BlockSize]
UNKNOWN = Reference(bytes(32))


class Server:
    """Another program that has blocks: where it is, and what it saw."""

    def __init__(self, port: int, seen: Callable[[], list[dict[int, str]]] = list) -> None:
        self.url = f"coap+tcp://127.0.0.1:{port}"
        self.seen = seen


@contextmanager
def python_eris_server(_: Path, blocks: list[bytes]) -> Iterator[Server]:
    with python_eris("serve") as peer:
        port = peer.read()
        for block in blocks:
            peer.put(block)
        yield Server(port)


@contextmanager
def aiocoap_server(directory: Path, blocks: list[bytes]) -> Iterator[Server]:
    for block in blocks:
        (directory / format_base32(reference_of(block))).write_bytes(block)
    with (
        open(directory / "seen", "w+") as seen,
        subprocess.Popen([sys.executable, AIOCOAP_BLOCKS, directory], stdout=seen) as process,
    ):

        def lines() -> list[str]:
            return (directory / "seen").read_text().splitlines()

        try:
            wait_until(lambda: bool(lines()), "aiocoap's server")
            yield Server(int(lines()[0]), lambda: [dict(json.loads(one)) for one in lines()[1:]])
        finally:
            process.kill()


@contextmanager
def libcoap_server(directory: Path, blocks: list[bytes]) -> Iterator[Server]:
    """It keeps what is put at a path, whatever the query says: one block."""
    if shutil.which(COAP_SERVER) is None:
        pytest.skip(f"{COAP_SERVER} is not installed (Debian: libcoap3-bin)")
    [block] = blocks
    port = free_port()
    with subprocess.Popen(
        [COAP_SERVER, "-A", "127.0.0.1", "-p", str(port), "-d", "1"], stdout=subprocess.DEVNULL
    ) as process:
        try:
            wait_until(lambda: is_open(port), "libcoap's server")
            (directory / "sent").write_bytes(block)
            url = f"coap+tcp://127.0.0.1:{port}/.well-known/eris/blocks"
            coap_client("-m", "put", "-f", str(directory / "sent"), url)
            yield Server(port)
        finally:
            process.kill()


def is_open(port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def dialling(server: Server) -> Iterator[Daemon]:
    """A daemon that has this server as its peer, and is connected to it."""
    with running_daemon(
        None, "--peer", server.url, listen=["coap+tcp://127.0.0.1:0?get&put"]
    ) as it:
        it.wait_for_log("is connected")
        yield it


def get_from(daemon: Daemon, reference: Reference, size: BlockSize) -> bytes:
    async def main() -> bytes:
        async with RemoteStore(parse_store_url(daemon.url)) as store:
            return await store.get(reference, size)

    return asyncio.run(main())


def is_kept(daemon: Daemon, block: bytes) -> bool:
    async def main() -> bool:
        async with RemoteStore(parse_store_url(daemon.url)) as store:
            return await store.find([reference_of(block)]) == [True]

    return asyncio.run(main())


# --- they are dialled ---------------------------------------------------------------------------

SERVERS = {"python-eris": python_eris_server, "aiocoap": aiocoap_server, "libcoap": libcoap_server}


@pytest.mark.parametrize("size", BlockSize, ids=lambda size: size.label)
@pytest.mark.parametrize("serving", SERVERS.values(), ids=SERVERS.keys())
def test_a_daemon_takes_a_block_from_another_program_and_keeps_it(
    serving: Any, size: BlockSize, tmp_path: Path
) -> None:
    block = os.urandom(size)
    with serving(tmp_path, [block]) as server, dialling(server) as daemon:
        assert get_from(daemon, reference_of(block), size) == block
        wait_until(lambda: is_kept(daemon, block), "the block in the store")


@pytest.mark.parametrize("name", ["python-eris", "aiocoap"])
def test_what_another_program_lacks_is_not_found(name: str, tmp_path: Path) -> None:
    with SERVERS[name](tmp_path, BLOCKS) as server, dialling(server) as daemon:
        with pytest.raises(BlockNotFound):
            get_from(daemon, UNKNOWN, BlockSize.SMALL)
        for block in BLOCKS:
            assert get_from(daemon, reference_of(block), BlockSize(len(block))) == block


def test_a_program_that_gives_another_block_than_was_asked_for_is_not_believed(
    tmp_path: Path,
) -> None:
    with libcoap_server(tmp_path, BLOCKS[:1]) as server, dialling(server) as daemon:
        with pytest.raises(StoreUnavailable):
            get_from(daemon, UNKNOWN, BlockSize.SMALL)
        assert not is_kept(daemon, BLOCKS[0])


def test_a_program_is_asked_with_a_hop_limit_that_it_need_not_know(tmp_path: Path) -> None:
    with aiocoap_server(tmp_path, BLOCKS) as server, dialling(server) as daemon:
        get_from(daemon, reference_of(BLOCKS[0]), BlockSize.SMALL)
        assert [options[HOP_LIMIT] for options in server.seen()] == ["04"]


# --- they dial ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a peer to ask, and blocks that only this peer has."""
    with ExitStack() as stack:
        server = stack.enter_context(python_eris_server(tmp_path_factory.mktemp("peer"), BLOCKS))
        yield stack.enter_context(dialling(server))


def miss(daemon: Daemon) -> None:
    """Have the daemon ask whom it may ask."""
    with pytest.raises(BlockNotFound):
        get_from(daemon, Reference(os.urandom(32)), BlockSize.SMALL)


def test_whoever_has_no_name_is_never_asked(daemon: Daemon) -> None:
    block = BLOCKS[0]
    with daemon.connect_tcp() as stranger:
        for _ in range(3):
            miss(daemon)
            get_from(daemon, reference_of(block), BlockSize.SMALL)
            wait_until(lambda: is_kept(daemon, block), "the block in the store")
            query = block_query(reference_of(block))
            frame = format_frame(
                Code.GET, b"g", get_options(ENDPOINT_STORE_PATH, query, BlockSize.SMALL)
            )
            stranger.send(frame)
            # The next message that is no signal: a request to us would come before.
            answer = stranger.response()
            assert (answer.code, answer.token) == (Code.CONTENT, b"g")


def test_a_stranger_does_not_cause_asking(daemon: Daemon) -> None:
    with daemon.connect_tcp() as stranger:
        query = block_query(reference_of(BLOCKS[1]))
        options = get_options(ENDPOINT_STORE_PATH, query, BlockSize.LARGE)
        parsed, _ = parse_body(options, 0, len(options))
        assert stranger.request(Code.GET, b"g", parsed).code == Code.NOT_FOUND


def test_python_eris_works_on_a_daemon_with_peers(daemon: Daemon) -> None:
    block = os.urandom(1024)
    with python_eris(daemon.tcp_url) as client:
        client.put(block)
        miss(daemon)
        assert client.get(reference_of(block), 1024) == block
        assert client.get(UNKNOWN, 1024) is None


def test_libcoap_works_on_a_daemon_with_peers(daemon: Daemon, tmp_path: Path) -> None:
    block = os.urandom(32768)
    (tmp_path / "sent").write_bytes(block)
    url = f"{daemon.tcp_url}/.well-known/eris/blocks"
    assert "2.01" in coap_client("-m", "put", "-f", str(tmp_path / "sent"), url)
    miss(daemon)
    coap_client("-o", str(tmp_path / "got"), f"{url}?{format_base32(reference_of(block))}")
    assert (tmp_path / "got").read_bytes() == block


def test_aiocoap_works_on_a_daemon_with_peers(daemon: Daemon) -> None:
    aiocoap: Any = __import__("aiocoap")
    block = os.urandom(1024)
    url = f"{daemon.tcp_url}/.well-known/eris/blocks"

    async def main() -> None:
        context = await aiocoap.Context.create_client_context(transports=["tcpclient"])
        try:
            put = aiocoap.Message(code=aiocoap.PUT, uri=url, payload=block)
            assert (await context.request(put).response).code == aiocoap.CREATED
            await asyncio.to_thread(miss, daemon)
            got = f"{url}?{format_base32(reference_of(block))}"
            answer = await context.request(aiocoap.Message(code=aiocoap.GET, uri=got)).response
            assert answer.payload == block
        finally:
            await context.shutdown()

    asyncio.run(asyncio.wait_for(main(), GUARD_S))
