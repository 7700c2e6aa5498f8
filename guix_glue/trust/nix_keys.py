"""The keys of Nix, and its signatures: Ed25519 over a fingerprint of the store item.

Both are written `name:base64`. A fingerprint has a fixed set of facts, so that nothing else in a
narinfo, an ERIS URN for one, can be signed this way.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final, Self

from guix_glue.errors import InvalidKey
from guix_glue.formats.store_path import format_hash
from guix_glue.model import StoreItem

__all__ = ["NixPublicKey", "NixSecretKey"]

_NAME: Final = re.compile(r"[!-9;-~]{1,255}")
_SEED_SIZE: Final = 32
_PUBLIC_SIZE: Final = 32
_SIGNATURE_SIZE: Final = 64


@dataclass(frozen=True, slots=True)
class NixPublicKey:
    """A name, and 32 bytes."""

    name: str
    key: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name:base64`.

        Raises: InvalidKey.
        """
        return cls(*_split(text, _PUBLIC_SIZE))

    def __str__(self) -> str:
        return _join(self.name, self.key)

    def verify(self, signature: str, item: StoreItem) -> bool:
        """Whether a `Sig` line is this key's, and for this item."""
        # Loaded with the first signature: most who import this have no key of Nix.
        from nacl.exceptions import BadSignatureError
        from nacl.signing import VerifyKey

        try:
            name, value = _split(signature, _SIGNATURE_SIZE)
            if name != self.name:
                return False
            VerifyKey(self.key).verify(_fingerprint(item), value)
        except (BadSignatureError, InvalidKey):
            return False
        return True


@dataclass(frozen=True, slots=True)
class NixSecretKey:
    """A name, a seed that is never shown, and the public key."""

    public: NixPublicKey
    seed: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name:base64` of a seed and the public key behind it, 64 bytes.

        Raises: InvalidKey.
        """
        from nacl.signing import SigningKey

        name, value = _split(text, _SEED_SIZE + _PUBLIC_SIZE)
        seed, public = value[:_SEED_SIZE], value[_SEED_SIZE:]
        if bytes(SigningKey(seed).verify_key) != public:
            raise InvalidKey("the two halves of the secret key do not belong together")
        return cls(NixPublicKey(name, public), seed)

    def sign(self, item: StoreItem) -> str:
        """The value of a `Sig` line for an item."""
        from nacl.signing import SigningKey

        signature = SigningKey(self.seed).sign(_fingerprint(item)).signature
        return _join(self.public.name, signature)


def _fingerprint(item: StoreItem) -> bytes:
    references = ",".join(f"{item.store_dir}/{name}" for name in sorted(item.references))
    nar_hash = format_hash(item.nar_hash)
    return f"1;{item.path};{nar_hash};{item.nar_size};{references}".encode()


def _join(name: str, value: bytes) -> str:
    return f"{name}:{base64.b64encode(value).decode()}"


def _split(text: str, size: int) -> tuple[str, bytes]:
    name, _, encoded = text.strip().partition(":")
    try:
        value = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidKey("the key or signature is no base 64") from None
    if not _NAME.fullmatch(name) or len(value) != size:
        raise InvalidKey("this is no key or signature of Nix: it must be name:base64")
    return name, value
