"""Signatures of narinfos: making them as `guix publish` does, and believing them as Guix does."""

from __future__ import annotations

import base64
import binascii
from hashlib import sha256
from typing import Final

from guix_glue.errors import InvalidExpression, InvalidKey, NotAuthorized, SignatureRejected
from guix_glue.formats.expression import Expression, find, format_advanced, parse
from guix_glue.formats.narinfo import Narinfo
from guix_glue.trust import ecdsa
from guix_glue.trust.acl import Acl
from guix_glue.trust.keys import PrivateKey, PublicKey, read_public_key

__all__ = [
    "sign_digest",
    "sign_text",
    "stated_digest",
    "verify_digest",
    "verify_narinfo",
    "verify_text",
]

_VERSION: Final = "1"
_LONGEST: Final = 8192
_DATA_FLAGS: Final = (b"flags", b"rfc6979")
_DIGEST_SIZE: Final = 32
_NEEDED: Final = frozenset({"StorePath", "NarHash", "References"})


def sign_text(key: PrivateKey, text: str, host: str) -> str:
    """The value of a `Signature` line over a text: version, host name, base 64."""
    encoded = base64.b64encode(sign_digest(key, sha256(text.encode()).digest())).decode()
    return f"{_VERSION};{host};{encoded}"


def sign_digest(key: PrivateKey, digest: bytes) -> bytes:
    """A signature over a SHA-256 (32 bytes), as an s-expression in text: as archives have it."""
    r, s = ecdsa.sign(key.d, digest)
    expression: Expression = (
        b"signature",
        (b"data", _DATA_FLAGS, (b"hash", b"sha256", digest)),
        (b"sig-val", (b"ecdsa", (b"r", r), (b"s", s))),
        key.public.to_expression(),
    )
    return format_advanced(expression)


def verify_narinfo(narinfo: Narinfo, acl: Acl) -> PublicKey:
    """Believe a narinfo: who signed it; what it is about must be in the signed part.

    As in stock Guix its size need not be: see `Narinfo.signed_fields`.
    Raises: SignatureRejected.
    """
    if narinfo.signature is None or narinfo.signed_text is None:
        raise NotAuthorized("it is not signed")
    if not narinfo.signed_text.endswith("\n"):
        # What the signed part calls a value would go on behind its end.
        raise SignatureRejected("it stands in the middle of a line")
    missing = _NEEDED - narinfo.signed_fields
    if missing:
        raise SignatureRejected(f"the signature does not cover {', '.join(sorted(missing))}")
    return verify_text(narinfo.signature, narinfo.signed_text, acl)


def verify_text(value: str, text: str, acl: Acl) -> PublicKey:
    """The key that signed a text, if the access list has it; `value` is that of `sign_text`.

    Raises: SignatureRejected.
    """
    return _verify(_parse_value(value), sha256(text.encode()).digest(), acl)


def verify_digest(signature: bytes, digest: bytes | None, acl: Acl) -> PublicKey:
    """The key of a signature over a SHA-256, if the access list has it; as `sign_digest` gives it.

    Without a digest it may be of anything: only that it is by that key is seen.
    Raises: SignatureRejected.
    """
    return _verify(_parse_expression(signature), digest, acl)


def stated_digest(signature: bytes) -> bytes | None:
    """The SHA-256 that a signature says it is of, whoever made it.

    Raises: SignatureRejected, if it is none.
    """
    return _digest(_parse_expression(signature))


def _verify(signature: Expression, digest: bytes | None, acl: Acl) -> PublicKey:
    try:
        key = read_public_key(find(signature, b"public-key") or b"")
    except InvalidKey as error:
        raise SignatureRejected(str(error)) from None
    # Before the arithmetic: anybody can send signatures by any key.
    if not acl.authorizes(key):
        raise NotAuthorized("its key is not in the access list")
    stated = _digest(signature)
    if stated is None or digest not in (None, stated):
        raise SignatureRejected(
            "it was made for another text: something was altered, or it belongs elsewhere"
        )
    values = find(find(signature, b"sig-val") or (), b"ecdsa") or ()
    if not ecdsa.verify(key.q, stated, _number(values, b"r"), _number(values, b"s")):
        raise SignatureRejected("it is not by the key that it names")
    return key


def _digest(signature: Expression) -> bytes | None:
    """The SHA-256 that a signature says it is of; None if it is of no such thing."""
    match find(find(signature, b"data") or (), b"hash"):
        case (b"hash", b"sha256", bytes(digest)) if len(digest) == _DIGEST_SIZE:
            return digest
        case _:
            return None


def _parse_value(value: str) -> Expression:
    version, _, rest = value.partition(";")
    _, semicolon, encoded = rest.partition(";")
    if version != _VERSION or not semicolon:
        raise SignatureRejected("it is not of version 1")
    if len(encoded) > _LONGEST:
        raise SignatureRejected("it is too long")
    try:
        text = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise SignatureRejected("it is no base 64") from None
    return _parse_expression(text)


def _parse_expression(text: bytes) -> Expression:
    try:
        signature = parse(text)
    except InvalidExpression as error:
        raise SignatureRejected(f"it is no s-expression: {error.reason}") from None
    if not isinstance(signature, tuple) or signature[:1] != (b"signature",):
        raise SignatureRejected("it is another kind of s-expression")
    return signature


def _number(values: Expression, name: bytes) -> bytes:
    found = find(values, name)
    if found is None or len(found) != 2 or not isinstance(found[1], bytes):
        raise SignatureRejected(f"it has no {name.decode()}")
    return found[1]
