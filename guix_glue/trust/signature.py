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

__all__ = ["sign_text", "verify_narinfo", "verify_text"]

_VERSION: Final = "1"
_LONGEST: Final = 8192
_DATA_FLAGS: Final = (b"flags", b"rfc6979")
_NEEDED: Final = frozenset({"StorePath", "NarHash", "References"})


def sign_text(key: PrivateKey, text: str, host: str) -> str:
    """The value of a `Signature` line over a text: version, host name, base 64."""
    digest = sha256(text.encode()).digest()
    r, s = ecdsa.sign(key.d, digest)
    expression: Expression = (
        b"signature",
        (b"data", _DATA_FLAGS, (b"hash", b"sha256", digest)),
        (b"sig-val", (b"ecdsa", (b"r", r), (b"s", s))),
        key.public.to_expression(),
    )
    encoded = base64.b64encode(format_advanced(expression)).decode()
    return f"{_VERSION};{host};{encoded}"


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
    signature = _parse_value(value)
    try:
        key = read_public_key(find(signature, b"public-key") or b"")
    except InvalidKey as error:
        raise SignatureRejected(str(error)) from None
    # Before the arithmetic: anybody can send signatures by any key.
    if not acl.authorizes(key):
        raise NotAuthorized("its key is not in the access list")
    data = find(signature, b"data") or ()
    digest = sha256(text.encode()).digest()
    if find(data, b"hash") != (b"hash", b"sha256", digest):
        raise SignatureRejected(
            "it was made for another text: something was altered, or it belongs elsewhere"
        )
    values = find(find(signature, b"sig-val") or (), b"ecdsa") or ()
    if not ecdsa.verify(key.q, digest, _number(values, b"r"), _number(values, b"s")):
        raise SignatureRejected("it is not by the key that it names")
    return key


def _parse_value(value: str) -> Expression:
    version, _, rest = value.partition(";")
    _, semicolon, encoded = rest.partition(";")
    if version != _VERSION or not semicolon:
        raise SignatureRejected("it is not of version 1")
    if len(encoded) > _LONGEST:
        raise SignatureRejected("it is too long")
    try:
        signature = parse(base64.b64decode(encoded.strip(), validate=True))
    except (binascii.Error, ValueError):
        raise SignatureRejected("it is no base 64") from None
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
