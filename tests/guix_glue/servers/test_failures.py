"""What is told of failures of the network."""

from __future__ import annotations

import errno
import os
import socket
import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from guix_glue.errors import TemporaryFailure
from guix_glue.servers.failures import system_words
from guix_glue.servers.http import network_failure

KEY = ConnectionKey("secret.example", 80, False, True, None, None, None)


def verification(words: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] …")
    error.verify_message = words
    return error


def tls_error() -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
    error.reason = "WRONG_VERSION_NUMBER"
    return error


REFUSED = OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 80, 0, 0), "
                  "[Errno 113] Connect call failed ('127.0.0.1', 80)")  # fmt: skip
SYSTEM = [
    (OSError(errno.EHOSTUNREACH, "Connect call failed ('10.77.0.99', 80)"), "No route to host"),
    (OSError(errno.ENETUNREACH, "Connect call failed"), "Network is unreachable"),
    (ConnectionResetError(errno.ECONNRESET, "x"), "Connection reset by peer"),
    (ConnectionResetError(), "connection lost"),
    (REFUSED, "Connection refused, No route to host"),
    (OSError(), "connection lost"),
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "its name cannot be looked"),
    (verification("certificate has expired"), "its certificate is not valid: certificate has exp"),
    (tls_error(), "TLS fails: wrong version number"),
]


@pytest.mark.parametrize(("error", "words"), SYSTEM)
def test_the_system_is_quoted(error: OSError, words: str) -> None:
    told = system_words(error)
    assert words in told
    for hidden in ("Errno", "call failed", "10.77.0.99", "_ssl.c"):
        assert hidden not in told


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_error_of_the_system_has_its_words(number: int) -> None:
    assert os.strerror(number) in system_words(OSError(number, "Connect call failed ('h', 80)"))


@pytest.mark.parametrize(("error", "words"), SYSTEM)
def test_aiohttp_tells_the_same(error: OSError, words: str) -> None:
    if isinstance(error, ssl.SSLCertVerificationError):
        wrapped: Exception = aiohttp.ClientConnectorCertificateError(KEY, error)
    elif isinstance(error, ssl.SSLError):
        wrapped = aiohttp.ClientConnectorSSLError(KEY, error)
    else:
        wrapped = aiohttp.ClientConnectorError(KEY, error)
    failure = network_failure(wrapped)
    assert words in str(failure)
    assert "secret" not in str(failure)
    # A certificate will be the same in a moment.
    assert isinstance(failure, TemporaryFailure) != isinstance(error, ssl.SSLError)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (aiohttp.ServerDisconnectedError(), "the connection was lost"),
        (aiohttp.ClientPayloadError("http://secret.example"), "the connection was lost"),
        (aiohttp.InvalidURL("http://secret.example"), "the URL cannot be asked for"),
        (aiohttp.SocketTimeoutError("http://secret.example"), "no answer in time"),
        (TimeoutError(), "no answer in time"),
        (ValueError("http://secret.example"), "connection failed: ValueError"),
    ],
)
def test_all_else_has_words_too(error: Exception, words: str) -> None:
    assert str(network_failure(error)) == words
