"""ECDSA over Ed25519: the recorded vectors, libgcrypt itself, and what must not verify."""

from __future__ import annotations

import json
import random
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from guix_glue.errors import InvalidKey
from guix_glue.trust import ecdsa
from tests.guix_glue.samples import SAMPLES
from tests.guix_glue.trust.libgcrypt import Libgcrypt, load

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
VECTORS = [
    {name: value if name == "message" else bytes.fromhex(value) for name, value in vector.items()}
    for vector in json.loads(
        (SAMPLES / "signatures" / "ecdsa-ed25519-rfc6979-libgcrypt-vectors.json").read_text()
    )
]
every_vector = pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))


@every_vector
def test_recorded_signatures_are_made_bit_for_bit(vector: dict[str, bytes]) -> None:
    assert ecdsa.public_key(vector["d"]) == vector["q"]
    assert ecdsa.sign(vector["d"], vector["sha256"]) == (vector["r"], vector["s"])


@every_vector
def test_recorded_signatures_verify_and_altered_ones_do_not(vector: dict[str, bytes]) -> None:
    q, digest, r, s = (vector[name] for name in ("q", "sha256", "r", "s"))
    assert ecdsa.verify(q, digest, r, s)
    other = VECTORS[0]["q"] if q != VECTORS[0]["q"] else VECTORS[-1]["q"]
    number, second = int.from_bytes(r, "big"), int.from_bytes(s, "big")
    for altered in (
        (other, digest, r, s),
        (q, bytes([digest[0] ^ 128]) + digest[1:], r, s),
        (q, digest, s, r),
        (q, digest, b"", s),
        (q, digest, r, b""),
        (q, digest, (number + ORDER).to_bytes(33, "big"), s),
        (q, digest, r, (second + ORDER).to_bytes(33, "big")),
        (q, digest, r + b"\0", s),
        # A point with another x of the same y: the key's negative.
        (q[:31] + bytes([q[31] ^ 128]), digest, r, s),
    ):
        assert not ecdsa.verify(*altered)
    # What holds of every ECDSA: the signature of the opposite nonce has r of -x, and is another.
    assert not ecdsa.verify(q, digest, r, (ORDER - second).to_bytes(32, "big"))


# A point of order 8, and a good key moved by it: on the curve, outside of the prime-order group.
TORSION = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
MOVED = bindings.crypto_core_ed25519_add(VECTORS[0]["q"], TORSION)

NO_KEYS = {
    "order 4": bytes(32),
    "neutral": b"\1" + bytes(31),
    "order 2": (PRIME - 1).to_bytes(32, "little"),
    "order 8": TORSION,
    "of another group": MOVED,
    "not canonical": (PRIME + 1).to_bytes(32, "little"),
    "beyond the prime": b"\xff" * 32,
    "not on the curve": b"\2" + bytes(31),
    "short": VECTORS[0]["q"][:31],
    "long": VECTORS[0]["q"] + b"\0",
    "empty": b"",
}


@pytest.mark.parametrize("name", NO_KEYS)
def test_keys_that_are_none_verify_nothing(name: str) -> None:
    vector = VECTORS[0]
    assert not ecdsa.verify(NO_KEYS[name], vector["sha256"], vector["r"], vector["s"])


@pytest.mark.parametrize("secret", [1, 12345, ORDER - 1])
def test_a_key_outside_of_the_group_cannot_sign(secret: int) -> None:
    # With the torsion cancelled by s such a pair would verify where the group is not checked.
    q = bindings.crypto_core_ed25519_add(
        bindings.crypto_scalarmult_ed25519_base_noclamp(secret.to_bytes(32, "little")), TORSION
    )
    for number in range(8):
        digest = sha256(bytes([number])).digest()
        r, s = ecdsa.sign(secret.to_bytes(32, "big"), digest)
        assert not ecdsa.verify(q, digest, r, s)


@pytest.mark.parametrize("secret", [bytes(32), ORDER.to_bytes(32, "big"), b"\1" * 31, b""])
def test_scalars_that_are_no_keys(secret: bytes) -> None:
    for use in (ecdsa.public_key, lambda d: ecdsa.sign(d, bytes(32))):
        with pytest.raises(InvalidKey):
            use(secret)


@given(
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
    st.binary(max_size=40),
    st.binary(max_size=40),
)
def test_garbage_does_not_verify(q: bytes, digest: bytes, r: bytes, s: bytes) -> None:
    assert not ecdsa.verify(q, digest, r, s)


def test_a_sum_at_the_neutral_point_does_not_verify() -> None:
    # z/s B + r/s Q = 0 when r = -z/d: anybody may send such a pair.
    secret = 12345
    q = bindings.crypto_scalarmult_ed25519_base_noclamp(secret.to_bytes(32, "little"))
    digest = sha256(b"text").digest()
    z = int.from_bytes(digest, "big") >> 3
    r = -z * pow(secret, -1, ORDER) % ORDER
    assert not ecdsa.verify(q, digest, r.to_bytes(32, "big"), b"\7")


# --- libgcrypt ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def libgcrypt() -> Libgcrypt:
    found = load()
    if found is None:
        pytest.skip("libgcrypt is not installed")
    return found


def test_libgcrypt_makes_the_same_and_accepts_ours(libgcrypt: Libgcrypt) -> None:
    source = random.Random(1)
    for _ in range(100):
        # Clamped, as its key generation does.
        secret = bytearray(source.randbytes(32))
        secret[0] = secret[0] & 127 | 64
        secret[31] &= 248
        d = bytes(secret)
        q = ecdsa.public_key(d)
        digest = sha256(source.randbytes(20)).digest()
        r, s = ecdsa.sign(d, digest)
        assert libgcrypt.sign(q, d, digest) == (r, s)
        assert libgcrypt.verify(q, digest, r, s)
        assert not libgcrypt.verify(q, sha256(digest).digest(), r, s)
