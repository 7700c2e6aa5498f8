"""Who is let in, who is met, and who is not: over real sockets."""

from __future__ import annotations

import asyncio
import os
import ssl
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kapla.errors import ConfigError
from kapla.identity.authority import AUTHORITY, authority_certificate, certificate_pem
from kapla.identity.contexts import _key_of, client_context, peer_key, server_context
from kapla.identity.failures import NotAKey, WrongKey, tls_reason
from kapla.identity.files import CertificateFiles
from kapla.identity.key import PeerKey
from kapla.identity.pair import KeyPair
from tests.examples import examples
from tests.kapla.identity.certificates import Shown, issue, ordinary_ca, write

GUARD_S = 30.0
# Of the secret key with 32 times the same byte.
CERTIFICATE = certificate_pem(
    KeyPair.of(ed25519.Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
)
SERVER, CLIENT, OTHER = (KeyPair.generate() for _ in range(3))


@dataclass
class Meeting:
    """What became of one connection."""

    served: bool = False
    client: PeerKey | None = None
    """Whom the server saw."""
    server: PeerKey | None = None
    """Whom the client saw."""
    alpn: str | None = None
    version: str | None = None
    error: Exception | None = None
    """Why the client was not answered."""
    complaints: list[object] = field(default_factory=list)
    """What asyncio has to say: it would be in the log."""


async def _meet(server: ssl.SSLContext, client: ssl.SSLContext, host: str | None) -> Meeting:
    meeting = Meeting()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: meeting.complaints.append(context))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        meeting.served = True
        meeting.client = peer_key(writer.transport)
        writer.write(b"here")
        await writer.drain()
        writer.close()

    async with asyncio.timeout(GUARD_S):
        listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)
        port = listening.sockets[0].getsockname()[1]
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client, server_hostname=host
            )
            tls = writer.get_extra_info("ssl_object")
            meeting.server = peer_key(writer.transport)
            meeting.alpn, meeting.version = tls.selected_alpn_protocol(), tls.version()
            if await reader.read() != b"here":
                raise ConnectionError("closed without a word")
            writer.close()
            await writer.wait_closed()
        except OSError as error:
            meeting.error = error
        finally:
            listening.close()
            await listening.wait_closed()
    return meeting


def meet(server: ssl.SSLContext, client: ssl.SSLContext, host: str | None = None) -> Meeting:
    meeting = asyncio.run(_meet(server, client, host))
    assert meeting.complaints == []
    return meeting


def anybody(shown: Shown | None, directory: Path) -> ssl.SSLContext:
    """A client that trusts everybody, and shows what it is told to show."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if shown is not None:
        context.load_cert_chain(*write(directory, "shown", shown))
    return context


def published() -> Shown:
    """The published CA, as everybody can use it."""
    return Shown(x509.load_der_x509_certificate(authority_certificate()), AUTHORITY.private)


# --- by key -----------------------------------------------------------------------------------


def test_both_know_each_other_by_their_keys() -> None:
    meeting = meet(server_context(SERVER, None), client_context(CLIENT, SERVER.public))
    assert meeting.served
    assert meeting.error is None
    assert meeting.client == CLIENT.public
    assert meeting.server == SERVER.public
    assert (meeting.alpn, meeting.version) == ("coap", "TLSv1.3")


def test_a_client_that_shows_nothing_is_served_and_is_nobody() -> None:
    meeting = meet(server_context(SERVER, None), client_context(None, SERVER.public))
    assert meeting.served
    assert meeting.error is None
    assert meeting.client is None


def test_the_host_name_is_of_no_account() -> None:
    context = client_context(None, SERVER.public)
    assert meet(server_context(SERVER, None), context, "elsewhere.example").error is None


def test_a_server_with_another_key_is_not_met_and_not_told_who_we_are() -> None:
    meeting = meet(server_context(OTHER, None), client_context(CLIENT, SERVER.public))
    assert isinstance(meeting.error, WrongKey)
    assert (meeting.error.expected, meeting.error.found) == (SERVER.public, OTHER.public)
    assert str(SERVER.public) in str(meeting.error)
    assert str(OTHER.public) in str(meeting.error)
    assert not meeting.served
    assert meeting.client is None


def test_a_server_with_an_ordinary_certificate_is_not_met(tmp_path: Path) -> None:
    # Not even if it is made for the very key.
    for private in (ec.generate_private_key(ec.SECP256R1()), SERVER.private):
        files = CertificateFiles(
            *write(tmp_path, "server", issue("localhost", private, ordinary_ca()))
        )
        meeting = meet(server_context(None, files), client_context(CLIENT, SERVER.public))
        assert isinstance(meeting.error, WrongKey)
        assert meeting.error.found is None
        assert "ordinary certificate" in str(meeting.error)
        assert not meeting.served


def _under_another_ca(directory: Path) -> Shown:
    return issue("x", ed25519.Ed25519PrivateKey.generate(), ordinary_ca())


def _under_a_ca_of_the_same_name(directory: Path) -> Shown:
    name = published().certificate.subject.rfc4514_string().removeprefix("CN=")
    false_ca = issue(name, ed25519.Ed25519PrivateKey.generate(), is_ca=True)
    return issue("x", CLIENT.private, false_ca)


def _self_signed(directory: Path) -> Shown:
    return issue("x", CLIENT.private)


def _another_kind_of_key(directory: Path) -> Shown:
    return issue("x", ec.generate_private_key(ec.SECP256R1()), published())


def _the_ca_itself(directory: Path) -> Shown:
    return issue("x", AUTHORITY.private, published())


@pytest.mark.parametrize(
    "make",
    [
        _under_another_ca,
        _under_a_ca_of_the_same_name,
        _self_signed,
        _another_kind_of_key,
        _the_ca_itself,
    ],
)
def test_a_client_that_shows_something_else_is_refused(
    tmp_path: Path, make: Callable[[Path], Shown]
) -> None:
    meeting = meet(server_context(SERVER, None), anybody(make(tmp_path), tmp_path))
    assert not meeting.served
    assert meeting.error is not None


@pytest.mark.parametrize("make", [_self_signed, _another_kind_of_key, _the_ca_itself])
def test_a_server_that_shows_something_else_is_not_met(
    tmp_path: Path, make: Callable[[Path], Shown]
) -> None:
    shown = make(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write(tmp_path, "server", shown))
    expected = AUTHORITY.public if make is _the_ca_itself else SERVER.public
    meeting = meet(context, client_context(CLIENT, expected))
    assert isinstance(meeting.error, WrongKey | NotAKey)
    assert not meeting.served


def test_what_else_a_certificate_says_is_not_read(tmp_path: Path) -> None:
    # Everybody can issue certificates with anybody's name; the key is what counts.
    shown = issue(str(OTHER.public), CLIENT.private, published())
    meeting = meet(server_context(SERVER, None), anybody(shown, tmp_path))
    assert meeting.served
    assert meeting.client == CLIENT.public


def _with(shown: Shown, *extensions: tuple[str, bytes]) -> Shown:
    """A certificate of the published CA for this key, with anything in it."""
    ca = published().certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]))
        .issuer_name(ca.subject)
        .public_key(shown.private.public_key())
        .serial_number(1)
        .not_valid_before(ca.not_valid_before_utc)
        .not_valid_after(ca.not_valid_after_utc)
    )
    for oid, value in extensions:
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(extension, critical=False)
    return Shown(builder.sign(AUTHORITY.private, None), shown.private)


@pytest.mark.parametrize(
    "names",
    [
        b"\x30\x03\x82\x01\xff",  # dNSName, which is no text
        b"\x30\x03\x81\x01\xff",  # rfc822Name
        b"\x30\x03\x86\x01\xff",  # uniformResourceIdentifier
        b"\x30\x03\x87\x01\x01",  # iPAddress of one byte
        b"\x30\x04\x82\x02a\x00",
        b"\x30\x00",
    ],
)
def test_what_makes_no_sense_in_a_certificate_is_not_even_looked_at(
    tmp_path: Path, names: bytes
) -> None:
    # Everybody can issue such; `meet` sees what asyncio would log.
    shown = _with(Shown(published().certificate, CLIENT.private), ("2.5.29.17", names))
    meeting = meet(server_context(SERVER, None), anybody(shown, tmp_path))
    assert (meeting.error, meeting.client) == (None, CLIENT.public)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write(tmp_path, "server", shown))
    meeting = meet(context, client_context(None, CLIENT.public))
    assert (meeting.error, meeting.server) == (None, CLIENT.public)


@settings(max_examples=examples(200))
@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=4))
@example([(9, 7)])  # a version that there is not
@example([(13, 0x80)])  # a serial number below zero
def test_any_certificate_has_a_key_or_none(changes: list[tuple[int, int]]) -> None:
    certificate = bytearray(x509.load_pem_x509_certificate(CERTIFICATE).public_bytes(Encoding.DER))
    for place, value in changes:
        if place < len(certificate):
            certificate[place] = value
    with warnings.catch_warnings(record=True) as said:
        try:
            key = _key_of(bytes(certificate))
        except NotAKey:
            return
        finally:
            assert said == []
    assert key.data in certificate


# Of order 4, 1 and 2.
@pytest.mark.parametrize("point", [0, 1, 2**255 - 20])
def test_a_key_with_which_everybody_can_sign_is_no_name(point: int) -> None:
    ca = published().certificate
    certificate = (
        x509.CertificateBuilder()
        .subject_name(ca.subject)
        .issuer_name(ca.subject)
        .public_key(ed25519.Ed25519PublicKey.from_public_bytes(point.to_bytes(32, "little")))
        .serial_number(1)
        .not_valid_before(ca.not_valid_before_utc)
        .not_valid_after(ca.not_valid_after_utc)
        .sign(AUTHORITY.private, None)
    )
    # OpenSSL's own check of signatures lets it through: so it is not asked alone.
    with pytest.raises(NotAKey, match="weak"):
        _key_of(certificate.public_bytes(Encoding.DER))


# --- ordinary ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ordinary:
    """A CA's file, and those of a server and a client that it has certified."""

    ca: Path
    server: CertificateFiles
    client: CertificateFiles


@pytest.fixture
def ordinary(tmp_path: Path) -> Ordinary:
    ca = ordinary_ca()
    file, _ = write(tmp_path, "ca", ca)
    server, client = (
        CertificateFiles(
            *write(tmp_path, name, issue(name, ec.generate_private_key(ec.SECP256R1()), ca))
        )
        for name in ("server", "client")
    )
    return Ordinary(file, server, client)


def test_an_ordinary_server_is_met_by_its_host_name(ordinary: Ordinary) -> None:
    server = server_context(None, ordinary.server)
    for host in ("localhost", "127.0.0.1"):
        meeting = meet(server, client_context(None, None, ordinary.ca), host)
        assert meeting.error is None
        assert meeting.client is meeting.server is None
        assert (meeting.alpn, meeting.version) == ("coap", "TLSv1.3")
    meeting = meet(server, client_context(None, None, ordinary.ca), "example.org")
    assert "not valid for 'example.org'" in str(tls_reason(meeting.error or ValueError()))
    assert not meeting.served


def test_without_a_ca_the_systems_count(
    monkeypatch: pytest.MonkeyPatch, ordinary: Ordinary, tmp_path: Path
) -> None:
    server = server_context(None, ordinary.server)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_FILE", str(ordinary.ca))
    assert meet(server, client_context(None, None), "localhost").error is None
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    meeting = meet(server, client_context(None, None), "localhost")
    assert "its certificate is not accepted" in str(tls_reason(meeting.error or ValueError()))


def test_our_key_is_not_shown_to_an_ordinary_server(ordinary: Ordinary) -> None:
    server = server_context(None, replace(ordinary.server, ca=ordinary.ca))
    meeting = meet(server, client_context(CLIENT, None, ordinary.ca), "localhost")
    assert meeting.error is not None
    assert not meeting.served


def test_a_server_with_a_ca_takes_its_certificates_only(ordinary: Ordinary, tmp_path: Path) -> None:
    server = server_context(None, replace(ordinary.server, ca=ordinary.ca))
    right = client_context(None, None, ordinary.ca, files=ordinary.client)
    meeting = meet(server, right, "localhost")
    assert meeting.served
    assert meeting.error is None
    assert meeting.client is None  # a certificate is no key
    for make in (_under_another_ca, _self_signed, _another_kind_of_key):
        refused = meet(server, anybody(make(tmp_path), tmp_path), "localhost")
        assert not refused.served
        assert refused.error is not None


def test_the_published_ca_is_never_taken_for_an_ordinary_one(
    ordinary: Ordinary, tmp_path: Path
) -> None:
    ca, _ = write(tmp_path, "published", published())
    with pytest.raises(ConfigError, match="vouches for everybody"):
        client_context(None, None, ca)
    with pytest.raises(ConfigError, match="vouches for everybody"):
        server_context(None, replace(ordinary.server, ca=ca))


def test_a_peer_is_not_taken_for_an_ordinary_server(ordinary: Ordinary) -> None:
    meeting = meet(
        server_context(SERVER, None), client_context(None, None, ordinary.ca), "localhost"
    )
    assert not meeting.served
    assert "its certificate is not accepted" in str(tls_reason(meeting.error or ValueError()))


# --- both -------------------------------------------------------------------------------------


def test_there_is_no_older_tls(ordinary: Ordinary) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    for server in (server_context(SERVER, None), server_context(None, ordinary.server)):
        meeting = meet(server, old)
        assert not meeting.served
        assert meeting.error is not None
    old_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old_server.load_cert_chain(str(ordinary.server.certificate), str(ordinary.server.key))
    old_server.maximum_version = ssl.TLSVersion.TLSv1_2
    for client in (client_context(None, None, ordinary.ca), client_context(None, SERVER.public)):
        meeting = meet(old_server, client, "localhost")
        assert not meeting.served
        assert meeting.error is not None


def test_there_are_no_session_tickets(ordinary: Ordinary) -> None:
    for context in (server_context(SERVER, None), server_context(None, ordinary.server)):
        assert context.num_tickets == 0
        assert context.options & ssl.OP_NO_TICKET


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda files: replace(files, certificate=Path("/nowhere")), "cannot read the certificate"),
        (lambda files: replace(files, key=Path("/nowhere")), "cannot read the key /nowhere: No"),
        (lambda files: replace(files, ca=Path("/nowhere")), "cannot read the CA's"),
        (lambda files: replace(files, ca=Path(os.devnull)), "no certificate in PEM"),
        (lambda files: replace(files, key=Path(os.devnull)), "no certificate and private key"),
        (lambda files: replace(files, key=files.certificate), "no certificate and private key"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    ordinary: Ordinary, spoil: Callable[[CertificateFiles], CertificateFiles], reason: str
) -> None:
    spoilt = spoil(ordinary.server)
    with pytest.raises(ConfigError, match=reason):
        server_context(None, spoilt)
    with pytest.raises(ConfigError, match=reason):
        client_context(None, None, spoilt.ca, files=spoilt)


def test_a_certificate_and_the_key_of_another_do_not_belong_together(ordinary: Ordinary) -> None:
    mixed = replace(ordinary.server, key=ordinary.client.key)
    with pytest.raises(ConfigError, match="do not belong together"):
        server_context(None, mixed)


def test_nobody_is_asked_for_the_password_of_a_key(ordinary: Ordinary) -> None:
    key = ordinary.server.key
    assert key is not None
    private = load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    )
    with pytest.raises(ConfigError, match="is encrypted"):
        server_context(None, ordinary.server)


def test_other_errors_are_not_of_tls() -> None:
    assert tls_reason(ConnectionRefusedError()) is None
    assert tls_reason(ValueError()) is None
