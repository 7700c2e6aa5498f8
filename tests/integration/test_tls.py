"""TLS between real programs: ours, libcoap's clients, aiocoap, openssl; and who is not let in."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiocoap
import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from eris import reference_of
from eris.base32 import format_base32
from kapla.__main__ import command
from kapla.client import RemoteStore
from kapla.coap.frame import Code, format_message
from kapla.errors import CannotConnect, ConfigError
from kapla.identity.accepting import MOST_HANDSHAKES
from kapla.identity.authority import authority_certificate, certificate_pem
from kapla.identity.key import PeerKey
from kapla.identity.pair import KeyPair, load_or_make
from kapla.urls import parse_store_url
from tests.integration import gnutls
from tests.integration.commands import Kapla
from tests.integration.daemon import GUARD_S, Daemon, RawPeer, running_daemon
from tests.kapla.identity.certificates import Shown, issue, ordinary_ca, write

LIBCOAP = ["coap-client-openssl", "coap-client-gnutls"]
BLOCK = random.Random(1).randbytes(1024)
QUERY = format_base32(reference_of(BLOCK))


def put(url: str, block: bytes) -> None:
    async def main() -> None:
        async with RemoteStore(parse_store_url(url)) as store:
            await store.put(reference_of(block), block)

    asyncio.run(main())


def libcoap(client: str, port: int, *options: str | Path, wait_s: int = 10) -> bytes:
    """What a client of libcoap fetches: the block, or nothing."""
    assert shutil.which(client), f"no {client}: apt has it in libcoap3-bin"
    url = f"coaps+tcp://127.0.0.1:{port}/.well-known/eris/blocks?{QUERY}"
    with tempfile.NamedTemporaryFile() as out:
        command = [client, "-v", "1", "-B", str(wait_s), "-o", out.name, *options, url]
        subprocess.run(command, capture_output=True, check=False, timeout=GUARD_S)
        return out.read()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon that is known by its key."""
    with running_daemon(None, listen=["coaps+tcp://127.0.0.1:0?get&put"]) as running:
        put(running.url, BLOCK)
        yield running


@pytest.fixture
def kapla(tmp_path: Path, daemon: Daemon) -> Kapla:
    return Kapla(tmp_path, daemon.tls_url)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the published CA."""
    path = tmp_path_factory.mktemp("published") / "ca.pem"
    certificate = x509.load_der_x509_certificate(authority_certificate())
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return path


def keyed(directory: Path, pair: KeyPair) -> tuple[Path, Path]:
    """The files of a peer's certificate and key, for other programs."""
    certificate, key = directory / "peer.crt", directory / "peer.key"
    certificate.write_bytes(certificate_pem(pair))
    key.write_bytes(pair.to_pem())
    return certificate, key


# --- our client, our daemon, a key ------------------------------------------------------------


def test_what_is_stored_over_tls_comes_back(tmp_path: Path, kapla: Kapla) -> None:
    content = random.Random(2).randbytes(300_000)
    (tmp_path / "in").write_bytes(content)
    urn = kapla.out("encode", tmp_path / "in")
    kapla("decode", urn, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content


def test_another_key_is_one_sentence_that_names_both(kapla: Kapla, daemon: Daemon) -> None:
    other = str(KeyPair.generate().public)
    url = daemon.tls_url.replace(daemon.key, other)
    said = kapla.error("stat", "--store-url", url, code=3)
    assert f"{other} was expected there, and what came is {daemon.key}" in said


def test_without_the_key_the_systems_cas_decide(kapla: Kapla, daemon: Daemon) -> None:
    said = kapla.error("stat", "--store-url", daemon.tls_url.partition("#")[0], code=3)
    assert "its certificate is not accepted" in said
    assert "#ed25519:… at the end of its URL" in said


def test_a_store_without_tls_is_told_from_one_that_cannot_be_trusted(tmp_path: Path) -> None:
    with running_daemon(listen=["coap+tcp://127.0.0.1:0?get"]) as plain:
        url = f"coaps+tcp://127.0.0.1:{plain.tcp_port}#{KeyPair.generate().public}"
        said = Kapla(tmp_path, url).error("stat", code=3)
    assert "does not speak TLS" in said


def test_the_path_of_a_store_stays_secret(kapla: Kapla, daemon: Daemon) -> None:
    other = str(KeyPair.generate().public)
    for key in (other, other[:-1]):
        url = daemon.tls_url.replace(f"#{daemon.key}", f"/h1dden#{key}")
        assert "h1dden" not in kapla.error(
            "stat", "--store-url", url, code=3 if key == other else 2
        )


def test_a_client_keeps_its_own_key_pair_as_safe_as_the_daemon(
    tmp_path: Path, kapla: Kapla, daemon: Daemon
) -> None:
    pair = tmp_path / "me.pem"
    pair.write_bytes(KeyPair.generate().to_pem())
    pair.chmod(0o644)
    url = daemon.tls_url.replace("#", f"?key={pair}#")
    (tmp_path / "in").write_bytes(b"content")
    said = kapla.error("encode", "--store-url", url, tmp_path / "in", code=2)
    assert "others may read" in said
    pair.chmod(0o600)
    kapla("encode", "--store-url", url, tmp_path / "in")


# --- the daemon's key -------------------------------------------------------------------------


def test_a_daemon_has_the_same_key_after_a_restart(tmp_path: Path) -> None:
    with running_daemon(tmp_path, listen=["coaps+tcp://127.0.0.1:0?get"]) as running:
        first = running.key
        running.restart()
        assert running.key == first
        assert str(load_or_make(running.directory / "state/kapla/identity.pem").public) == first
        file = running.directory / "state" / "kapla" / "identity.pem"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.read_text().splitlines()[1] not in running.log


def print_key(monkeypatch: pytest.MonkeyPatch, directory: Path, *arguments: str) -> Result:
    """`kaplad --print-key`, with a directory for its state."""
    monkeypatch.setenv("STATE_DIRECTORY", str(directory))
    return CliRunner().invoke(command, ["--print-key", *arguments])


def test_print_key_makes_a_key_pair_prints_its_name_and_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = (print_key(monkeypatch, tmp_path) for _ in range(2))
    assert first.exit_code == second.exit_code == 0
    assert first.stdout == second.stdout == f"{PeerKey.parse(first.stdout.strip())}\n"
    assert first.stderr == ""
    assert os.listdir(tmp_path) == ["identity.pem"]


def test_print_key_of_a_damaged_pair_is_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "identity.pem").write_text("-----BEGIN")
    (tmp_path / "identity.pem").chmod(0o600)
    done = print_key(monkeypatch, tmp_path)
    assert isinstance(done.exception, ConfigError)
    assert "cannot use the key pair" in str(done.exception)
    assert done.stdout == ""


def test_print_key_is_a_thing_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = print_key(monkeypatch, tmp_path, "--check")
    assert done.exit_code == 2
    assert "one at a time" in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_listener_without_its_files_is_a_wrong_setting(tmp_path: Path) -> None:
    running = Daemon(tmp_path, listen=["coaps+tcp://127.0.0.1:0?cert=/no.crt&key=/no.key"])
    running.spawn()
    assert running.wait() == 2
    assert "kaplad: cannot read the certificate /no.crt" in running.log
    assert "Traceback" not in running.log


# --- others' programs, and a key --------------------------------------------------------------


@pytest.mark.parametrize("client", LIBCOAP)
@pytest.mark.parametrize("as_a_peer", [False, True], ids=["nobody", "peer"])
def test_libcoap_fetches_a_block(
    tmp_path: Path, daemon: Daemon, published: Path, client: str, as_a_peer: bool
) -> None:
    shown: list[str | Path] = []
    if as_a_peer:
        certificate, key = keyed(tmp_path, KeyPair.generate())
        shown = ["-c", certificate, "-j", key]
    assert libcoap(client, daemon.tls_port, "-R", published, *shown) == BLOCK


def _of_another_ca(_: Path) -> Shown:
    return issue("x", ed25519.Ed25519PrivateKey.generate(), ordinary_ca())


def _self_signed(_: Path) -> Shown:
    return issue("x", ed25519.Ed25519PrivateKey.generate())


@pytest.mark.parametrize("client", LIBCOAP)
@pytest.mark.parametrize("make", [_of_another_ca, _self_signed])
def test_libcoap_with_a_certificate_of_elsewhere_is_refused(
    tmp_path: Path, daemon: Daemon, published: Path, client: str, make: Callable[[Path], Shown]
) -> None:
    certificate, key = write(tmp_path, "shown", make(tmp_path))
    options: list[str | Path] = ["-R", published, "-c", certificate, "-j", key]
    assert libcoap(client, daemon.tls_port, *options, wait_s=2) == b""


def test_anothers_certificate_without_its_key_is_refused(daemon: Daemon) -> None:
    mine, other = KeyPair.generate(), KeyPair.generate()
    where = ("127.0.0.1", daemon.tls_port)
    with socket.create_connection(where, GUARD_S) as connected:
        greeting = gnutls.shake_hands(connected, certificate_pem(mine), mine.to_pem())
    assert greeting[1] == Code.CSM
    with socket.create_connection(where, GUARD_S) as connected, pytest.raises(ConnectionError):
        gnutls.shake_hands(connected, certificate_pem(other), mine.to_pem())


def s_client(port: int, *options: str | Path) -> str:
    """What openssl's own client has to say of the daemon."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-alpn", "coap", *options],
        # A greeting, and a goodbye: then the daemon ends the connection.
        input=format_message(Code.CSM) + format_message(Code.RELEASE),
        capture_output=True,
        check=False,
        timeout=GUARD_S,
    )
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def test_openssl_finds_tls_13_and_ed25519_and_no_tickets(daemon: Daemon, published: Path) -> None:
    said = s_client(daemon.tls_port, "-CAfile", published, "-verify_return_error", "-ign_eof")
    assert "Protocol  : TLSv1.3" in said or "New, TLSv1.3" in said
    assert "Peer signature type: ed25519" in said.replace("Ed", "ed")
    assert "ALPN protocol: coap" in said
    assert "Verify return code: 0 (ok)" in said
    assert "New Session Ticket" not in said


def test_openssl_finds_no_older_tls(daemon: Daemon) -> None:
    said = s_client(daemon.tls_port, "-tls1_2")
    assert "alert protocol version" in said
    assert "Cipher is (NONE)" in said


# --- ordinary certificates --------------------------------------------------------------------


@dataclass(frozen=True)
class Ordinary:
    """Two daemons with an ordinary certificate, and the files of those who may come."""

    ca: Path
    client: tuple[Path, Path]
    open: Daemon
    """It serves everybody."""
    closed: Daemon
    """It serves those whom its CA has certified."""


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ordinary]:
    directory = tmp_path_factory.mktemp("ordinary")
    authority = ordinary_ca()
    ca, _ = write(directory, "ca", authority)
    server, client = (
        write(directory, name, issue(name, ec.generate_private_key(ec.SECP256R1()), authority))
        for name in ("server", "client")
    )
    url = f"coaps+tcp://127.0.0.1:0?get&put&cert={server[0]}&key={server[1]}"
    with (
        running_daemon(None, listen=[url]) as anybody,
        running_daemon(None, listen=[f"{url}&ca={ca}"]) as some,
    ):
        for one in (anybody, some):
            put(one.url, BLOCK)
        yield Ordinary(ca, client, anybody, some)


def test_our_client_meets_an_ordinary_server(tmp_path: Path, ordinary: Ordinary) -> None:
    (tmp_path / "in").write_bytes(b"content")
    url = f"coaps+tcp://localhost:{ordinary.open.tls_port}?ca={ordinary.ca}"
    urn = Kapla(tmp_path, url).out("encode", tmp_path / "in")
    assert Kapla(tmp_path, url).out("decode", urn, "-") == "content"


def test_a_server_with_a_ca_tells_why_it_refuses(tmp_path: Path, ordinary: Ordinary) -> None:
    (tmp_path / "in").write_bytes(b"content")
    url = f"coaps+tcp://localhost:{ordinary.closed.tls_port}?ca={ordinary.ca}"
    said = Kapla(tmp_path, url).error("encode", tmp_path / "in", code=3)
    assert "it demands a certificate, and we have shown none" in said
    certificate, key = ordinary.client
    Kapla(tmp_path, f"{url}&cert={certificate}&key={key}").out("encode", tmp_path / "in")
    certificate, key = write(tmp_path, "other", _of_another_ca(tmp_path))
    said = Kapla(tmp_path, f"{url}&cert={certificate}&key={key}").error(
        "encode", tmp_path / "in", code=3
    )
    assert "it does not accept our certificate" in said


@pytest.mark.parametrize("client", LIBCOAP)
def test_libcoap_meets_ordinary_servers(ordinary: Ordinary, client: str) -> None:
    certificate, key = ordinary.client
    shown: list[str | Path] = ["-c", certificate, "-j", key]
    assert libcoap(client, ordinary.open.tls_port, "-R", ordinary.ca) == BLOCK
    assert libcoap(client, ordinary.closed.tls_port, "-C", ordinary.ca, *shown) == BLOCK
    assert libcoap(client, ordinary.closed.tls_port, "-R", ordinary.ca, wait_s=2) == b""


def test_aiocoap_fetches_a_block(ordinary: Ordinary) -> None:
    async def main() -> bytes:
        context = await aiocoap.Context.create_client_context(transports=["tlsclient"])
        host = f"coaps+tcp://localhost:{ordinary.open.tls_port}"
        context.client_credentials.load_from_dict(
            {f"{host}/*": {"tlscert": {"certfile": str(ordinary.ca)}}}
        )
        request = aiocoap.Message(code=aiocoap.GET, uri=f"{host}/.well-known/eris/blocks?{QUERY}")
        try:
            async with asyncio.timeout(GUARD_S):
                response = await context.request(request).response
                return bytes(response.payload)
        finally:
            await context.shutdown()

    assert asyncio.run(main()) == BLOCK


# --- strangers, and the end -------------------------------------------------------------------


def test_strangers_who_never_greet_keep_nobody_out(daemon: Daemon) -> None:
    where = ("127.0.0.1", daemon.tls_port)
    strangers = [socket.create_connection(where, GUARD_S) for _ in range(2 * MOST_HANDSHAKES)]
    try:
        put(daemon.tls_url, b"a" * 1024)
        # Whoever came first has lost his place, long before his time was up.
        assert strangers[0].recv(1) == b""
        put(daemon.tls_url, b"b" * 1024)
    finally:
        for one in strangers:
            one.close()
    assert "Traceback" not in daemon.log
    assert "(WARNING)" not in daemon.log


def test_what_strangers_do_wrong_is_not_in_the_log(tmp_path: Path) -> None:
    with running_daemon(tmp_path, listen=["coaps+tcp://127.0.0.1:0?get"]) as running:
        where = ("127.0.0.1", running.tls_port)
        for data in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\x03\x01\x02\x00\x01"):
            with socket.create_connection(where, GUARD_S) as stranger:
                stranger.sendall(data)
                stranger.shutdown(socket.SHUT_WR)
                assert len(stranger.recv(4096)) < 100
        # Closed without a goodbye.
        with RawPeer(tls(running, trusting())) as peer:
            peer.socket.sendall(b"x" * 1000)
        assert libcoap("coap-client-openssl", running.tls_port, "-n") == b""
        put_nothing(running)
        assert running.stop() == 0
        said = running.log.partition(f"as {running.key}\n")[2]
    assert [line.partition(": ")[2] for line in said.splitlines()] == ["Stopping"]


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def tls(running: Daemon, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(socket.create_connection(("127.0.0.1", running.tls_port), GUARD_S))


def put_nothing(running: Daemon) -> None:
    with pytest.raises(Exception, match="refuses"):
        put(running.tls_url, BLOCK)


def test_a_connection_ends_with_a_release(tmp_path: Path) -> None:
    with running_daemon(tmp_path, listen=["coaps+tcp://127.0.0.1:0?get"]) as running:
        with RawPeer(tls(running, trusting())) as peer:
            peer.send_message(Code.PING, b"t")
            first = [peer.receive(), peer.receive()]
            assert [message and message.code for message in first] == [Code.CSM, Code.PONG]
            os.kill(running.pid, signal.SIGTERM)
            assert [message.code for message in peer.rest()] == [Code.RELEASE]
        assert running.wait() == 0
        assert "did not end in time" not in running.log


def test_a_connection_of_the_wrong_key_is_an_error_of_the_store(daemon: Daemon) -> None:
    url = daemon.tls_url.replace(daemon.key, str(KeyPair.generate().public))
    with pytest.raises(CannotConnect, match="was expected there"):
        put(url, BLOCK)
