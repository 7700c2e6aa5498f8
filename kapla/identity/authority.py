"""The published CA: whose certificates say nothing but a key.

The module `ssl` knows no raw public keys (RFC 7250), and hands over a peer's certificate only if
some CA vouches for it. So there is one whose private key everybody knows: whoever has a key pair
issues the certificate himself. It proves nothing. That the peer has the private key is proved by
the handshake, and the public key in the certificate is the peer's name.

Whoever trusts this CA in the ordinary sense trusts everybody: it must never be in one context with
ordinary CAs, and nothing but the key may be read from its certificates.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from kapla.identity.key import PeerKey
from kapla.identity.pair import KeyPair

__all__ = ["AUTHORITY", "authority_certificate", "certificate_pem"]

AUTHORITY: Final = KeyPair.of(
    Ed25519PrivateKey.from_private_bytes(
        hashlib.sha256(b"Kapla: this key is known to everybody and proves nothing").digest()
    )
)
"""The CA's key pair: no secret, and the same everywhere."""

_NAME: Final = "Kapla peers (proves nothing)"
# RFC 5280, section 4.1.2.5: that of a certificate that does not expire. A clock may be wrong.
_BEGIN: Final = datetime(1970, 1, 1)
_END: Final = datetime(9999, 12, 31, 23, 59, 59)


@cache
def authority_certificate() -> bytes:
    """The CA's own certificate, in DER."""
    return _issue(_NAME, AUTHORITY.public, is_authority=True).public_bytes(Encoding.DER)


def certificate_pem(pair: KeyPair) -> bytes:
    """The certificate of a key pair, in PEM: always the same bytes."""
    certificate = _issue(str(pair.public), pair.public, is_authority=False)
    return certificate.public_bytes(Encoding.PEM)


def _issue(name: str, key: PeerKey, *, is_authority: bool) -> x509.Certificate:
    public = Ed25519PublicKey.from_public_bytes(key.data)
    issuer = x509.SubjectKeyIdentifier.from_public_key(AUTHORITY.private.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(_NAME))
        .public_key(public)
        .serial_number(_serial(key))
        .not_valid_before(_BEGIN)
        .not_valid_after(_END)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(_usage(is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False
        )
    )
    return builder.sign(AUTHORITY.private, None)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _serial(key: PeerKey) -> int:
    """One for each key: 20 bytes at most and positive, by RFC 5280, section 4.1.2.2."""
    return int.from_bytes(hashlib.sha256(key.data).digest()[:19], "big") | 1


def _usage(is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
