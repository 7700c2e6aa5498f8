"""A TLS client that shows a certificate and signs with another key: GnuTLS, told not to compare.

OpenSSL does not load the two, so nothing in Python can do it.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

__all__ = ["LIBRARY", "shake_hands"]

LIBRARY: Final = "libgnutls.so.30"

# 30 s, as `struct timeval`.
_PATIENCE: Final = struct.pack("@ll", 30, 0)
_CLIENT: Final = 1 << 1
_CRD_CERTIFICATE: Final = 1
_PEM: Final = 1
_SKIP_KEY_CERT_MATCH: Final = 1
_INTERRUPTED: Final = -52


class _Datum(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char_p), ("size", ctypes.c_uint))


def _datum(data: bytes) -> _Datum:
    return _Datum(data, len(data))


def shake_hands(connected: socket.socket, certificate_pem: bytes, key_pem: bytes) -> bytes:
    """Show this certificate, sign with this key; what the server says then.

    Raises: ConnectionError, if it says that it will have none of it.
    """
    connected.settimeout(None)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _PATIENCE)
    library = ctypes.CDLL(LIBRARY)
    credentials, session = ctypes.c_void_p(), ctypes.c_void_p()

    def check(result: int) -> int:
        if result < 0:
            library.gnutls_strerror.restype = ctypes.c_char_p
            raise ConnectionError(library.gnutls_strerror(result).decode())
        return result

    check(library.gnutls_certificate_allocate_credentials(ctypes.byref(credentials)))
    library.gnutls_certificate_set_flags(credentials, _SKIP_KEY_CERT_MATCH)
    check(
        library.gnutls_certificate_set_x509_key_mem(
            credentials,
            ctypes.byref(_datum(certificate_pem)),
            ctypes.byref(_datum(key_pem)),
            _PEM,
        )
    )
    check(library.gnutls_init(ctypes.byref(session), _CLIENT))
    try:
        check(library.gnutls_set_default_priority(session))
        check(library.gnutls_credentials_set(session, _CRD_CERTIFICATE, credentials))
        library.gnutls_transport_set_int2(session, connected.fileno(), connected.fileno())
        while (result := library.gnutls_handshake(session)) == _INTERRUPTED:
            pass
        check(result)
        buffer = ctypes.create_string_buffer(4096)
        library.gnutls_record_recv.restype = ctypes.c_ssize_t
        while (result := library.gnutls_record_recv(session, buffer, 4096)) == _INTERRUPTED:
            pass
        return buffer.raw[: check(result)]
    finally:
        library.gnutls_deinit(session)
        library.gnutls_certificate_free_credentials(credentials)
