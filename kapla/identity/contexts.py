"""TLS contexts, both ways: TLS 1.3, no session tickets, ALPN `coap` (RFC 8323, section 8.2).

For HTTP there is one more, as browsers have it: any version that is not given up, no ALPN of ours.
Of the others there are two kinds, and what belongs to one is never in the other:

* *by key*: both ends show certificates of the published CA, which is the only one trusted. What is
  compared is the public key in the certificate, which the handshake has proved, and nothing else
  that stands there. Only Ed25519 counts.
* *ordinary*: certificates of ordinary CAs, and host names.

What `ssl` does not look at is looked at before the handshake counts as done, on both sides: so
nothing is sent to a server with the wrong key, our own certificate included.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nacl.bindings import crypto_core_ed25519_is_valid_point

from kapla.errors import ConfigError
from kapla.identity.authority import AUTHORITY, authority_certificate, certificate_pem
from kapla.identity.failures import NotAKey, WrongKey
from kapla.identity.files import CertificateFiles
from kapla.identity.key import PeerKey
from kapla.identity.pair import KeyPair

__all__ = [
    "HANDSHAKE_TIMEOUT_S",
    "SHUTDOWN_TIMEOUT_S",
    "Context",
    "alert_of",
    "client_context",
    "handshakes_s",
    "peer_key",
    "server_context",
    "web_context",
]

HANDSHAKE_TIMEOUT_S: Final = 10.0
"""How long the other end gets: these are some round trips, and no disk is asked."""
SHUTDOWN_TIMEOUT_S: Final = 30.0
"""How long what is left may take when a connection is closed: as long as a peer may stall."""

Context = ssl.SSLContext

_ALPN: Final = ["coap"]
_HTTP_ALPN: Final = ["http/1.1"]


def server_context(pair: KeyPair | None, files: CertificateFiles | None) -> Context:
    """For a listener: ordinary with `files`, else by key, with `pair`.

    By key a client need not show a certificate, and is nobody then; what it shows must be right.
    With `files.ca` it must show one of that CA.
    Raises: ConfigError, about the files.
    """
    if files is not None:
        return _ordinary_server(files)
    assert pair is not None
    context = _by_key(ssl.PROTOCOL_TLS_SERVER, pair)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(
    pair: KeyPair | None,
    expected: PeerKey | None,
    ca: Path | None = None,
    *,
    files: CertificateFiles | None = None,
) -> Context:
    """For a connection to `expected`; without that to an ordinary server, by its host name.

    `pair`: who we are, for `expected` only: an ordinary server has no use for it.
    `ca`: whose certificates are accepted of an ordinary server, else those of the system's CAs.
    `files`: a certificate to show to an ordinary server.
    Raises: ConfigError, about the files.
    """
    if expected is None:
        return _ordinary_client(ca, files)
    context = _by_key(ssl.PROTOCOL_TLS_CLIENT, pair)
    context.expected = expected
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def web_context() -> Context:
    """For connections to servers of HTTPS: the system's CAs, and host names."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(_HTTP_ALPN)
    return context


def peer_key(transport: asyncio.BaseTransport) -> PeerKey | None:
    """Who is there; None: on a plain connection, with an ordinary certificate, or without any."""
    tls = transport.get_extra_info("ssl_object")
    return tls.key if isinstance(tls, _KeyedConnection) else None


def handshakes_s(context: Context) -> float:
    """What the handshakes of a listener have taken of the event loop so far, in seconds."""
    return context.handshakes_s if isinstance(context, _Context) else 0.0


def alert_of(error: BaseException) -> bytes:
    """What was still to be sent to the other end when a handshake failed: why it did.

    asyncio does not send it.
    """
    alert = getattr(error, "alert", b"")
    return alert if isinstance(alert, bytes) else b""


class _Connection(ssl.SSLObject):
    """One connection of a listener, or by key."""

    outgoing: ssl.MemoryBIO | None = None

    def do_handshake(self) -> None:
        """As for `ssl`, whose errors get what is left to be sent: see `alert_of`."""
        begin = time.perf_counter()
        try:
            self._shake_hands()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            if self.outgoing is not None:
                error.alert = self.outgoing.read()  # type: ignore[attr-defined]
            raise
        finally:
            if isinstance(self.context, _Context):
                self.context.handshakes_s += time.perf_counter() - begin

    def _shake_hands(self) -> None:
        super().do_handshake()

    def getpeercert(self, binary_form: bool = False) -> Any:
        """As for `ssl`, but what is read of it: asyncio wants that, and nobody else.

        Everybody can write anything into a certificate, and `ssl` raises at some of it.
        """
        return super().getpeercert(binary_form=True) if binary_form else {}


class _Context(ssl.SSLContext):
    """Of a listener, or by key."""

    handshakes_s = 0.0
    """The time that its handshakes have taken so far."""
    sslobject_class = _Connection

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As for `ssl`."""
        connection = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        if isinstance(connection, _Connection):
            connection.outgoing = outgoing
        return connection


class _KeyedConnection(_Connection):
    """One connection of a context by key: its handshake is not done before the key is right."""

    key: PeerKey | None = None

    def _shake_hands(self) -> None:
        expected = self.context.expected if isinstance(self.context, _KeyedContext) else None
        try:
            super()._shake_hands()
        except ssl.SSLCertVerificationError:
            if expected is None:
                raise
            raise WrongKey(expected, None) from None
        certificate = self.getpeercert(binary_form=True)
        key = None if certificate is None else _key_of(certificate)
        if expected is not None and key != expected:
            raise WrongKey(expected, key)
        self.key = key


class _KeyedContext(_Context):
    """Trusts the published CA and no other; `expected` is whom to meet, None: anybody."""

    expected: PeerKey | None = None
    sslobject_class = _KeyedConnection


def _by_key(protocol: int, pair: KeyPair | None) -> _KeyedContext:
    context = _KeyedContext(protocol)
    _restrict(context)
    context.load_verify_locations(cadata=authority_certificate())
    if pair is not None:
        with _unnamed_file(certificate_pem(pair) + pair.to_pem()) as name:
            context.load_cert_chain(name)
    return context


def _restrict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    if context.protocol == ssl.PROTOCOL_TLS_SERVER:
        # A session that is taken up again would not prove the key anew.
        context.num_tickets = 0
    context.set_alpn_protocols(_ALPN)


@contextmanager
def _unnamed_file(data: bytes) -> Iterator[str]:
    """A path for `ssl`, which takes certificates from files only: this one is on no disk."""
    with open(os.memfd_create("certificate", os.MFD_CLOEXEC), "wb") as file:
        file.write(data)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _key_of(certificate: bytes) -> PeerKey:
    """The key in a certificate that the handshake has proved.

    Raises: NotAKey, for what could be shown by somebody who has no private key, too.
    """
    try:
        with warnings.catch_warnings():
            # Nor is it said on standard error what is strange in what a stranger wrote.
            warnings.simplefilter("ignore")
            public = x509.load_der_x509_certificate(certificate).public_key()
    except Exception:  # whatever the library raises: asyncio would log what is not of `ssl`
        raise NotAKey("its certificate makes no sense") from None
    if not isinstance(public, Ed25519PublicKey):
        raise NotAKey("its key is of another kind than Ed25519")
    data = public.public_bytes_raw()
    # OpenSSL takes any point. With those of small order everybody can sign.
    if data == AUTHORITY.public.data or not crypto_core_ed25519_is_valid_point(data):
        raise NotAKey("its key is weak: everybody could have signed with it")
    return PeerKey(data)


def _ordinary_server(files: CertificateFiles) -> Context:
    context = _Context(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    _show(context, files)
    if files.ca is not None:
        _trust(context, files.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _ordinary_client(ca: Path | None, files: CertificateFiles | None) -> Context:
    if ca is None:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _trust(context, ca)
    _restrict(context)
    if files is not None:
        _show(context, files)
    return context


def _show(context: ssl.SSLContext, files: CertificateFiles) -> None:
    assert files.certificate is not None and files.key is not None
    _check_readable(files.certificate, "certificate")
    _check_readable(files.key, "key")

    def is_encrypted() -> str:
        # Without this OpenSSL would ask at the terminal.
        raise ConfigError(f"cannot use the key {files.key}: it is encrypted")

    try:
        context.load_cert_chain(files.certificate, files.key, is_encrypted)
    except ssl.SSLError as error:
        why = getattr(error, "reason", None)
        reason = (
            "they do not belong together"
            if why == "KEY_VALUES_MISMATCH"
            else "they are no certificate and private key in PEM"
        )
        raise ConfigError(
            f"cannot use the certificate {files.certificate} with the key {files.key}: {reason}"
        ) from None


def _trust(context: ssl.SSLContext, ca: Path) -> None:
    _check_readable(ca, "CA's certificate")
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError:
        raise ConfigError(
            f"cannot use the CA's certificate {ca}: it is no certificate in PEM"
        ) from None
    if any(AUTHORITY.public.data in known for known in context.get_ca_certs(binary_form=True)):
        raise ConfigError(
            f"cannot use the CA's certificate {ca}: it is the published one, which vouches for"
            " everybody"
        )


def _check_readable(path: Path, what: str) -> None:
    # `ssl` does not say which file it is.
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {path}: {error.strerror}") from error
