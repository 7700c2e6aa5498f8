"""libgcrypt through ctypes, as another implementation to compare with."""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any

from guix_glue.formats.expression import Expression, find, format_advanced, parse

__all__ = ["Libgcrypt", "load"]

_ADVANCED = 3


class Libgcrypt:
    """Signing and verifying, with s-expressions as their text."""

    def __init__(self, library: Any) -> None:
        self._library = library
        library.gcry_check_version.restype = ctypes.c_char_p
        library.gcry_check_version(None)
        library.gcry_sexp_sprint.restype = ctypes.c_size_t
        library.gcry_sexp_sprint.argtypes = [
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_size_t,
        ]

    def sign(self, q: bytes, d: bytes, digest: bytes) -> tuple[bytes, bytes]:
        """r and s."""
        key = (b"private-key", (b"ecc", (b"curve", b"Ed25519"), (b"q", q), (b"d", d)))
        made = ctypes.c_void_p()
        failed = self._library.gcry_pk_sign(
            ctypes.byref(made), self._scan(_data(digest)), self._scan(key)
        )
        assert not failed
        length = self._library.gcry_sexp_sprint(made, _ADVANCED, None, 0)
        buffer = ctypes.create_string_buffer(length)
        self._library.gcry_sexp_sprint(made, _ADVANCED, buffer, length)
        values = find(parse(buffer.value), b"ecdsa")
        assert values is not None
        r, s = find(values, b"r"), find(values, b"s")
        assert r is not None
        assert s is not None
        assert isinstance(r[1], bytes)
        assert isinstance(s[1], bytes)
        return r[1], s[1]

    def verify(self, q: bytes, digest: bytes, r: bytes, s: bytes) -> bool:
        """Whether the signature is good."""
        key = (b"public-key", (b"ecc", (b"curve", b"Ed25519"), (b"q", q)))
        signature = (b"sig-val", (b"ecdsa", (b"r", r), (b"s", s)))
        scanned = [self._scan(part) for part in (signature, _data(digest), key)]
        return not self._library.gcry_pk_verify(*scanned)

    def _scan(self, expression: Expression) -> ctypes.c_void_p:
        text = format_advanced(expression)
        made = ctypes.c_void_p()
        failed = self._library.gcry_sexp_sscan(ctypes.byref(made), None, text, len(text))
        assert not failed
        return made


def _data(digest: bytes) -> Expression:
    return (b"data", (b"flags", b"rfc6979"), (b"hash", b"sha256", digest))


def load() -> Libgcrypt | None:
    """The library, if it is installed."""
    try:
        return Libgcrypt(ctypes.CDLL("libgcrypt.so.20"))
    except OSError:
        return None
