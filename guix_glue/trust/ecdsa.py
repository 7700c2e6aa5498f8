"""ECDSA over the curve Ed25519, as Guix signs: not EdDSA, though the curve is the same.

libsodium has the arithmetic of the curve; it gives points compressed, as y and the parity of x, and
r is an x. Nonces are deterministic (RFC 6979 with HMAC-SHA256), so that the same key and hash give
the same signature everywhere, bit for bit as libgcrypt.

Two things that libgcrypt does differently from what one would expect: the secret scalar goes into
the nonce as it is stored, not reduced by the group order, and the hash is cut to the 253 bits of
that order.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from nacl import bindings, exceptions

from guix_glue.errors import InvalidKey

__all__ = ["public_key", "sign", "verify"]

_SIZE: Final = 32
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_PRIME: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _PRIME) % _PRIME
_ROOT_OF_MINUS_ONE: Final = pow(2, (_PRIME - 1) // 4, _PRIME)
# Bits of a SHA-256 beyond those of the group order.
_EXCESS: Final = 256 - _ORDER.bit_length()


def public_key(secret: bytes) -> bytes:
    """The compressed point (32 bytes) of a secret scalar (32 bytes, big-endian).

    Raises: InvalidKey, for a scalar that is no key.
    """
    scalar = int.from_bytes(secret, "big") % _ORDER
    if len(secret) != _SIZE or not scalar:
        raise InvalidKey("the secret is no scalar of the curve")
    return _times_base(scalar)


def sign(secret: bytes, digest: bytes) -> tuple[bytes, bytes]:
    """Sign a SHA-256; returns r and s, big-endian, without leading zero bytes.

    Raises: InvalidKey, for a scalar that is no key.
    """
    public_key(secret)
    scalar, message = int.from_bytes(secret, "big") % _ORDER, _message_of(digest)
    for nonce in _nonces(secret, message):
        r = _x_of(_times_base(nonce)) % _ORDER
        s = pow(nonce, -1, _ORDER) * (message + r * scalar) % _ORDER
        if r and s:
            return _minimal(r), _minimal(s)
    raise AssertionError("the candidates never end")


def verify(public: bytes, digest: bytes, r: bytes, s: bytes) -> bool:
    """Whether r and s sign this SHA-256 under a key; False for whatever is no key or no signature.

    A signature is public: nothing here needs to take the same time whatever it is.
    """
    first, second = int.from_bytes(r, "big"), int.from_bytes(s, "big")
    if len(public) != _SIZE or not (0 < first < _ORDER and 0 < second < _ORDER):
        return False
    inverse = pow(second, -1, _ORDER)
    for_base, for_key = _message_of(digest) * inverse % _ORDER, first * inverse % _ORDER
    try:
        # This refuses what is no point of the prime-order group, and the neutral one.
        point = bindings.crypto_scalarmult_ed25519_noclamp(_little(for_key), public)
        if for_base:
            point = bindings.crypto_core_ed25519_add(point, _times_base(for_base))
    except exceptions.RuntimeError:
        return False
    return _has_x(point, first)


def _nonces(secret: bytes, message: int) -> Iterator[int]:
    """The candidates of RFC 6979, section 3.2, in their order."""
    key, value = bytes(_SIZE), b"\1" * _SIZE

    def mix(more: bytes) -> tuple[bytes, bytes]:
        mixed = hmac.digest(key, value + more, sha256)
        return mixed, hmac.digest(mixed, value, sha256)

    seed = secret + (message % _ORDER).to_bytes(_SIZE, "big")
    key, value = mix(b"\0" + seed)
    key, value = mix(b"\1" + seed)
    while True:
        value = hmac.digest(key, value, sha256)
        candidate = int.from_bytes(value, "big") >> _EXCESS
        if 0 < candidate < _ORDER:
            yield candidate
        key, value = mix(b"\0")


def _message_of(digest: bytes) -> int:
    return int.from_bytes(digest, "big") >> _EXCESS


def _times_base(scalar: int) -> bytes:
    return bytes(bindings.crypto_scalarmult_ed25519_base_noclamp(_little(scalar)))


def _x_of(point: bytes) -> int:
    """The x of a compressed point that is on the curve."""
    u, v, odd = _equation_of(point)
    # The root of u/v is u v^3 (u v^7)^((p-5)/8), or that times the root of -1.
    cube = v * v * v % _PRIME
    x = u * cube * pow(u * cube * cube * v, (_PRIME - 5) // 8, _PRIME) % _PRIME
    if v * x * x % _PRIME != u:
        x = x * _ROOT_OF_MINUS_ONE % _PRIME
    return x if x & 1 == odd else _PRIME - x


def _has_x(point: bytes, rest: int) -> bool:
    """Whether the x of a point on the curve leaves this rest modulo the order.

    Few numbers below the prime do, and to try them all takes a tenth of the time of a root.
    """
    u, v, odd = _equation_of(point)
    candidates = range(rest, _PRIME, _ORDER)
    return any(x & 1 == odd and v * x * x % _PRIME == u for x in candidates)


def _equation_of(point: bytes) -> tuple[int, int, int]:
    """For a point, which is y and the parity of x: u and v of v x^2 = u, and the parity."""
    packed = int.from_bytes(point, "little")
    y, odd = packed & (1 << 255) - 1, packed >> 255
    square = y * y % _PRIME
    return (square - 1) % _PRIME, (_D * square + 1) % _PRIME, odd


def _little(scalar: int) -> bytes:
    return scalar.to_bytes(_SIZE, "little")


def _minimal(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
