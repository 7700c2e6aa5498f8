"""What the codec's tests share: contents, the vectors as values, and a second, naive encoder."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import traceback
import warnings
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from hypothesis import settings

from eris import (
    BlockReader,
    BlockSize,
    ConvergenceSecret,
    Encoder,
    Key,
    ReadCapability,
    Reference,
    ReferenceKeyPair,
    check_content,
)
from eris.base32 import parse_base32
from eris.transfer import CheckedBlock
from tests.examples import examples

VECTORS: Final = Path(__file__).parents[1] / "vectors"
NULL_SECRET: Final = bytes(32)

# Machines are of different speed, and nothing here is about time.
patient = settings(deadline=None, max_examples=examples(60))

_Result = TypeVar("_Result")


def make_content(length: int, seed: int = 0) -> bytes:
    """Bytes that look random and are always the same."""
    return random.Random(seed * 1_000_003 + length).randbytes(length)


def blake2b_256(data: bytes, key: bytes = b"") -> bytes:
    return blake2b(data, digest_size=32, key=key).digest()


def chacha20(key: bytes, level: int, data: bytes, *, nonce_index: int = 0) -> bytes:
    """En- or decrypt a node of this level; the drafts had the level at nonce index 11."""
    nonce = bytearray(12)
    nonce[nonce_index] = level
    return Cipher(ChaCha20(key, bytes(4) + bytes(nonce)), None).encryptor().update(data)


def keystream(name: str, length: int, piece: int = 1024 * 1024) -> Iterator[bytes]:
    """The content of the large vectors, piece by piece."""
    cipher = Cipher(ChaCha20(blake2b_256(name.encode()), bytes(16)), None).encryptor()
    for at in range(0, length, piece):
        yield cipher.update(bytes(min(piece, length - at)))


def encode_node(plain: bytes, level: int) -> tuple[Reference, Key, bytes]:
    """Make any plaintext an internal node, well-formed or not."""
    key = blake2b_256(plain)
    block = chacha20(key, level, plain)
    return Reference(blake2b_256(block)), Key(key), block


def naive_encode(
    content: bytes, block_size: BlockSize, secret: bytes = NULL_SECRET
) -> tuple[ReadCapability, dict[Reference, bytes]]:
    """The standard's text as code, without thought of speed or memory."""
    padded = content + b"\x80"
    padded += bytes(-len(padded) % block_size)
    blocks: dict[Reference, bytes] = {}
    pairs: list[tuple[Reference, Key]] = []
    for start in range(0, len(padded), block_size):
        leaf = padded[start : start + block_size]
        key = blake2b_256(leaf, secret)
        block = chacha20(key, 0, leaf)
        pairs.append((Reference(blake2b_256(block)), Key(key)))
        blocks[pairs[-1][0]] = block
    level = 0
    while len(pairs) > 1:
        level += 1
        above = []
        for start in range(0, len(pairs), block_size.arity):
            node = b"".join(bytes(a) + bytes(b) for a, b in pairs[start : start + block_size.arity])
            reference, node_key, block = encode_node(node.ljust(block_size, b"\0"), level)
            blocks[reference] = block
            above.append((reference, node_key))
        pairs = above
    return ReadCapability(block_size, level, ReferenceKeyPair(*pairs[0])), blocks


def encode_pieces(
    pieces: Iterator[bytes], block_size: BlockSize, secret: bytes = NULL_SECRET
) -> tuple[ReadCapability, list[tuple[Reference, bytes]]]:
    encoder = Encoder(block_size, ConvergenceSecret(secret))
    blocks = []
    for piece in pieces:
        blocks += encoder.feed(piece)
    blocks += encoder.finish()
    return encoder.read_capability, blocks


async def all_checked(
    store: BlockReader, capability: ReadCapability, *, window: int = 64
) -> list[CheckedBlock]:
    return [checked async for checked in check_content(store, capability, window=window)]


def run_clean(main: Coroutine[Any, Any, _Result], *, debug: bool = False) -> _Result:
    """Run what may leave nothing behind: neither a running task nor a complaint of asyncio's.

    Its debug mode finds more, and is slow.
    """
    complaints: list[object] = []

    async def watched() -> _Result:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        try:
            return await main
        finally:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            # What was withdrawn ends by itself; it is neither cancelled nor looked at here.
            if left:
                await asyncio.wait(left)
            del left
            gc.collect()

    # What is there already is left out of the collections, which would take most of the time.
    gc.freeze()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return asyncio.run(watched(), debug=debug)
        except Exception as error:
            # The frames it went through keep alive what asyncio would complain about.
            traceback.clear_frames(error.__traceback__)
            raise
        finally:
            gc.collect()
            gc.unfreeze()
            assert not complaints


@dataclass(frozen=True, slots=True)
class Vector:
    """One official vector."""

    number: int
    urn: str
    block_size: BlockSize
    level: int
    root_reference: bytes
    root_key: bytes
    blocks: dict[Reference, bytes]
    content: bytes
    convergence_secret: bytes

    @property
    def capability(self) -> ReadCapability:
        return ReadCapability.from_urn(self.urn)


def _read_vector(path: Path) -> Vector:
    data = json.loads(path.read_text())
    capability = data["read-capability"]
    return Vector(
        number=data["id"],
        urn=data["urn"],
        block_size=BlockSize(capability["block-size"]),
        level=capability["level"],
        root_reference=parse_base32(capability["root-reference"]),
        root_key=parse_base32(capability["root-key"]),
        blocks={
            Reference(parse_base32(reference)): parse_base32(block)
            for reference, block in data["blocks"].items()
        },
        content=parse_base32(data.get("content", "")),
        convergence_secret=parse_base32(data.get("convergence-secret", "")),
    )


def read_vectors(kind: str) -> dict[int, Vector]:
    """All vectors of a kind, `positive` or `negative`, by number."""
    paths = sorted(VECTORS.glob(f"eris-test-vector-{kind}-*.json"))
    return {vector.number: vector for vector in map(_read_vector, paths)}


@dataclass(frozen=True, slots=True)
class LargeVector:
    """A vector whose content is a keystream."""

    name: str
    content_size: int
    block_size: BlockSize
    level: int
    stream_key: bytes
    stream_begin: bytes
    urn: str


def read_large_vectors() -> list[LargeVector]:
    """The vectors of `large.json`, smallest first."""
    data = json.loads((VECTORS / "large.json").read_text())
    return [
        LargeVector(
            name=item["name"],
            content_size=item["content-size"],
            block_size=BlockSize(item["block-size"]),
            level=item["level"],
            stream_key=parse_base32(item["stream-key"]),
            stream_begin=bytes.fromhex(item["stream-first-64-bytes-hex"]),
            urn=item["urn"],
        )
        for item in data["vectors"]
    ]
