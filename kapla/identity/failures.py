"""Why there is no TLS with somebody, for people. In errors of `ssl`, as asyncio expects them."""

from __future__ import annotations

import re
import ssl
from typing import Final

from kapla.identity.key import PeerKey

__all__ = ["NotAKey", "WrongKey", "tls_reason"]


class _Failure(ssl.SSLError):
    def __str__(self) -> str:
        return str(self.args[0])


class NotAKey(_Failure):
    """What the peer shows is no key that can be a name."""


class WrongKey(_Failure):
    """The peer has another key than it should; `found` is None if it has none of ours."""

    def __init__(self, expected: PeerKey, found: PeerKey | None) -> None:
        shown = "an ordinary certificate" if found is None else str(found)
        super().__init__(f"{expected} was expected there, and what came is {shown}")
        self.expected = expected
        self.found = found


# X509_V_ERR_…: of OpenSSL, for what leads to no CA that is known.
_SELF_SIGNED: Final = (18, 19, 20)
_BY_KEY: Final = "; a store that is known by its key has #ed25519:… at the end of its URL"

_REASONS: Final = {
    "CERTIFICATE_UNKNOWN": "it does not accept our certificate",
    "BAD_CERTIFICATE": "it does not accept our certificate",
    "CERTIFICATE_REQUIRED": "it demands a certificate, and we have shown none",
    "DECRYPT_ERROR": "it does not accept our certificate",
    "HTTP_REQUEST": "what answers there does not speak TLS",
    "PROTOCOL_VERSION": "it does not speak TLS 1.3",
    "UNKNOWN_CA": "it does not accept our certificate",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.3",
    "WRONG_VERSION_NUMBER": "what answers there does not speak TLS",
}


def tls_reason(error: BaseException) -> str | None:
    """What to say of an error of TLS; None if it is another error."""
    if not isinstance(error, ssl.SSLError):
        return None
    if isinstance(error, NotAKey | WrongKey):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = _BY_KEY if error.verify_code in _SELF_SIGNED else ""
        return f"its certificate is not accepted: {error.verify_message.rstrip('.')}{advice}"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "it ended the connection before TLS began"
    reason = str(getattr(error, "reason", None) or "no reason is known")
    name = re.sub(r"^(SSLV3|TLSV1|TLSV13)_(ALERT_)?", "", reason)
    return _REASONS.get(name, f"TLS failed: {name.replace('_', ' ').lower()}")
