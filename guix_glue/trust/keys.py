"""The keys of Guix: s-expressions around points and scalars of the curve Ed25519.

Keys of other kinds (libgcrypt knows RSA) cannot verify anything here, but an access list may name
them, so they are told apart from damage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from guix_glue.errors import InvalidExpression, InvalidKey
from guix_glue.formats.expression import Expression, find, format_advanced, parse
from guix_glue.trust import ecdsa

__all__ = [
    "LARGEST_KEY",
    "PrivateKey",
    "PublicKey",
    "generate_private_key",
    "parse_private_key",
    "parse_public_key",
    "read_public_key",
]

LARGEST_KEY: Final = 4096
"""Bytes of a key's file; those of Guix have less than 200."""

_SIZE = 32
_CURVE = (b"curve", b"Ed25519")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A compressed point of the curve, 32 bytes."""

    q: bytes

    def to_expression(self) -> Expression:
        """As it stands in key files, access lists and signatures."""
        return (b"public-key", (b"ecc", _CURVE, (b"q", self.q)))

    def to_file(self) -> bytes:
        """The bytes of `signing-key.pub`."""
        return format_advanced(self.to_expression())


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A secret scalar (32 bytes, big-endian, never shown) and its public key."""

    public: PublicKey
    d: bytes = field(repr=False)

    def to_file(self) -> bytes:
        """The bytes of `signing-key.sec`. They are the secret."""
        parameters = (b"ecc", _CURVE, (b"q", self.public.q), (b"d", self.d))
        return format_advanced((b"private-key", parameters))


def generate_private_key(random: bytes) -> PrivateKey:
    """Make a key out of 32 random bytes, in the form that libgcrypt gives to its own.

    Raises: InvalidKey, for another number of bytes.
    """
    if len(random) != _SIZE:
        raise InvalidKey(f"a key is made of {_SIZE} random bytes")
    # A multiple of 8 with its top bit at one place, as for all keys of this curve.
    secret = bytes([random[0] & 0x7F | 0x40, *random[1:-1], random[-1] & 0xF8])
    return PrivateKey(PublicKey(ecdsa.public_key(secret)), secret)


def read_public_key(expression: Expression) -> PublicKey:
    """A public key from its expression.

    Raises: InvalidKey.
    """
    parameters = _parameters(expression, b"public-key")
    return PublicKey(_value(parameters, b"q"))


def parse_public_key(text: bytes) -> PublicKey:
    """Read a public key, as in `signing-key.pub`, in any layout.

    Raises: InvalidKey.
    """
    return read_public_key(_parse(text))


def parse_private_key(text: bytes) -> PrivateKey:
    """Read a private key, as in `signing-key.sec`, in any layout.

    Raises: InvalidKey, also if the secret is that of another public key.
    """
    parameters = _parameters(_parse(text), b"private-key")
    public, secret = PublicKey(_value(parameters, b"q")), _value(parameters, b"d")
    if ecdsa.public_key(secret) != public.q:
        raise InvalidKey("the two halves of the private key do not belong together")
    return PrivateKey(public, secret)


def _parse(text: bytes) -> Expression:
    try:
        return parse(text)
    except InvalidExpression as error:
        # Without the text, and without a chain that leads to it.
        raise InvalidKey(f"the key is no s-expression: {error.reason}") from None


def _parameters(expression: Expression, kind: bytes) -> Expression:
    if not isinstance(expression, tuple) or expression[:1] != (kind,):
        raise InvalidKey(f"this is no {kind.decode()}")
    parameters = find(expression, b"ecc")
    if parameters is None or find(parameters, b"curve") != _CURVE:
        raise InvalidKey("the key is of a kind that is not supported: only Ed25519 is")
    return parameters


def _value(parameters: Expression, name: bytes) -> bytes:
    found = find(parameters, name)
    if found is None or len(found) != 2 or not isinstance(found[1], bytes):
        raise InvalidKey(f"the key has no {name.decode()}")
    if len(found[1]) != _SIZE:
        raise InvalidKey(f"the key's {name.decode()} is not of {_SIZE} bytes")
    return found[1]
