"""Other programs that speak ERIS over CoAP: python-eris 1.0.0 both ways, libcoap's client."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eris import BlockNotFound, BlockSize, ReadCapability, get_content, put_content, reference_of
from eris.base32 import format_base32
from kapla.client import RemoteStore
from kapla.urls import parse_store_url
from tests.integration.daemon import GUARD_S, Daemon, running_daemon

PEER = Path(__file__).parent / "peers" / "python_eris.py"
COAP_CLIENT = "coap-client-notls"

BLOCKS = [random.Random(size).randbytes(size) for size in BlockSize]
# Around the edges of blocks and nodes. None leaves a single byte in its last leaf, which
# python-eris loses.
LENGTHS = {
    BlockSize.SMALL: [0, 100, 1023, 1024, 16 * 1024, 17 * 1024 - 1, 300_000],
    BlockSize.LARGE: [0, 100, 32767, 32768, 1_000_000],
}
CONTENTS = [
    pytest.param(size, random.Random(length).randbytes(length), id=f"{size.label}-{length}")
    for size, lengths in LENGTHS.items()
    for length in lengths
]


class PythonEris:
    """One process of python-eris: asked line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def read(self) -> Any:
        """The next line it writes."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "python-eris has ended"
        return json.loads(line)

    def ask(self, **request: object) -> Any:
        """Ask it to do something; returns the result."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self.read()

    def put(self, block: bytes) -> None:
        """Store a block."""
        reference = reference_of(block).hex()
        assert self.ask(do="put", reference=reference, block=block.hex()) is True

    def get(self, reference: bytes, block_size: int) -> bytes | None:
        """Fetch a block."""
        block = self.ask(do="get", reference=reference.hex(), block_size=block_size)
        return None if block is None else bytes.fromhex(block)

    def encode(self, content: bytes, block_size: int) -> str:
        """Encode content into its store; returns the URN."""
        urn = self.ask(do="encode", content=content.hex(), block_size=block_size)
        assert isinstance(urn, str), urn
        return urn

    def decode(self, urn: str) -> bytes:
        """Decode content from its store."""
        content = self.ask(do="decode", urn=urn)
        assert isinstance(content, str), content
        return bytes.fromhex(content)


@contextmanager
def python_eris(where: str) -> Iterator[PythonEris]:
    python = os.environ.get("KAPLA_PEERS_PYTHON")
    if not python:
        default = Path(__file__).parents[2] / ".venv-peers" / "bin" / "python"
        python = str(default)
    assert Path(python).exists(), f"no python-eris: run 'make peers' ({python} is not there)"
    # Its package has the name of ours: a path to that would hide it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # Output to stderr is shown when a test fails.
    with subprocess.Popen(
        [python, str(PEER), where],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            yield PythonEris(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(GUARD_S)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon(listen=["coap+tcp://127.0.0.1:0?get&put"]) as running:
        yield running


# --- python-eris and our daemon ---------------------------------------------------------------


@pytest.fixture(scope="module", params=["", "/.well-known/eris"], ids=["root", "well-known"])
def their_client(daemon: Daemon, request: pytest.FixtureRequest) -> Iterator[PythonEris]:
    with python_eris(daemon.tcp_url + request.param) as peer:
        yield peer


@pytest.mark.parametrize("block", BLOCKS, ids=len)
def test_python_eris_stores_and_reads_blocks(their_client: PythonEris, block: bytes) -> None:
    for _ in range(2):
        their_client.put(block)
        assert their_client.get(reference_of(block), len(block)) == block
    assert their_client.get(reference_of(block), 0) == block


def test_python_eris_is_told_what_is_missing(their_client: PythonEris) -> None:
    assert their_client.get(bytes(32), 1024) is None


@pytest.mark.parametrize(("block_size", "content"), CONTENTS)
def test_contents_between_python_eris_and_us_over_our_daemon(
    daemon: Daemon, their_client: PythonEris, block_size: BlockSize, content: bytes
) -> None:
    urn = their_client.encode(content, block_size)

    async def main() -> str:
        async with RemoteStore(parse_store_url(daemon.url)) as store:
            assert await get_content(store, ReadCapability.from_urn(urn)) == content
            # Made unlike the first, so that its blocks are new to the daemon.
            capability = await put_content(store, content[::-1], block_size=block_size)
            return capability.to_urn()

    assert their_client.decode(asyncio.run(main())) == content[::-1]


# --- our client and python-eris's server ------------------------------------------------------


@pytest.fixture(scope="module")
def their_server() -> Iterator[tuple[PythonEris, str]]:
    with python_eris("serve") as peer:
        yield peer, f"coap+tcp://127.0.0.1:{peer.read()}"


@pytest.mark.parametrize("block", BLOCKS, ids=len)
def test_blocks_at_python_eris(their_server: tuple[PythonEris, str], block: bytes) -> None:
    peer, url = their_server
    size = BlockSize(len(block))

    async def main() -> None:
        async with RemoteStore(parse_store_url(url)) as store:
            with pytest.raises(BlockNotFound):
                await store.get(reference_of(block), size)
            await store.put(reference_of(block), block)
            assert await store.get(reference_of(block), size) == block

    asyncio.run(main())
    assert peer.get(reference_of(block), len(block)) == block


@pytest.mark.parametrize(("block_size", "content"), CONTENTS)
def test_contents_between_us_and_python_eris_over_its_server(
    their_server: tuple[PythonEris, str], block_size: BlockSize, content: bytes
) -> None:
    peer, url = their_server
    theirs = peer.encode(content, block_size)

    async def main() -> str:
        async with RemoteStore(parse_store_url(url)) as store:
            assert await get_content(store, ReadCapability.from_urn(theirs)) == content
            capability = await put_content(store, content[::-1], block_size=block_size)
            return capability.to_urn()

    assert peer.decode(asyncio.run(main())) == content[::-1]


@pytest.mark.parametrize(("block_size", "content"), CONTENTS)
def test_the_same_content_has_the_same_urn(
    their_server: tuple[PythonEris, str], block_size: BlockSize, content: bytes
) -> None:
    peer, url = their_server

    async def main() -> str:
        async with RemoteStore(parse_store_url(url)) as store:
            return (await put_content(store, content, block_size=block_size)).to_urn()

    assert asyncio.run(main()) == peer.encode(content, block_size)


# --- libcoap ----------------------------------------------------------------------------------


def coap_client(*args: str) -> str:
    """Run libcoap's client; returns what it says beside the payload."""
    if shutil.which(COAP_CLIENT) is None:
        pytest.skip(f"{COAP_CLIENT} is not installed (Debian: libcoap3-bin)")
    ran = subprocess.run(
        [COAP_CLIENT, "-v", "6", "-B", "20", *args],
        capture_output=True,
        timeout=GUARD_S,
        check=False,
    )
    return (ran.stdout + ran.stderr).decode("utf-8", "replace")


# Blocks whole, in pieces that we ask it to send, and in pieces that it makes us send.
@pytest.mark.parametrize("put_args", [[], ["-b", "1024"]], ids=["whole", "pieces"])
@pytest.mark.parametrize("get_args", [[], ["-X", "1152"]], ids=["whole", "pieces"])
@pytest.mark.parametrize("size", BlockSize)
@pytest.mark.parametrize("path", ["/.well-known/eris/blocks", "/blocks"])
def test_libcoap_puts_and_gets_blocks(
    daemon: Daemon,
    tmp_path: Path,
    put_args: list[str],
    get_args: list[str],
    size: BlockSize,
    path: str,
) -> None:
    block = os.urandom(size)
    sent, received = tmp_path / "sent", tmp_path / "received"
    sent.write_bytes(block)
    url = daemon.tcp_url + path
    said = coap_client("-m", "put", "-f", str(sent), *put_args, url)
    assert "2.01" in said
    coap_client("-o", str(received), *get_args, f"{url}?{format_base32(reference_of(block))}")
    assert received.read_bytes() == block


def test_libcoap_is_told_what_is_wrong(daemon: Daemon, tmp_path: Path) -> None:
    url = f"{daemon.tcp_url}/.well-known/eris/blocks"
    assert "4.04" in coap_client(f"{url}?{format_base32(bytes(32))}")
    assert "a reference is 32 raw octets" in coap_client(f"{url}?short")
    (tmp_path / "short").write_bytes(b"short")
    assert "a block has 1024 or 32768" in coap_client(
        "-m", "put", "-f", str(tmp_path / "short"), url
    )
    assert "4.04" in coap_client(f"{daemon.tcp_url}/nothing")
    assert "eris.blocks" in coap_client(f"{daemon.tcp_url}/.well-known/core")


def test_libcoap_over_the_unix_socket(daemon: Daemon, tmp_path: Path) -> None:
    block = os.urandom(1024)
    sent, received = tmp_path / "sent", tmp_path / "received"
    sent.write_bytes(block)
    url = f"coap+tcp://{str(daemon.socket).replace('/', '%2F')}/.well-known/eris/blocks"
    said = coap_client("-m", "put", "-f", str(sent), url)
    if "failed to resolve address" in said:
        pytest.skip(f"this version of {COAP_CLIENT} does not know Unix sockets")
    coap_client("-o", str(received), f"{url}?{format_base32(reference_of(block))}")
    assert received.read_bytes() == block
