"""Narinfos and nars by way of a proxy, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from guix_glue.fetch.narinfo_client import LARGEST_ANSWER, NarinfoClient
from guix_glue.formats.narinfo import NarUrl
from guix_glue.servers.proxies import Proxies
from guix_glue.servers.url import parse_server
from tests.guix_glue.fetch.bringing import NOTHING, bring
from tests.guix_glue.fetch.fakes import Script, running_server, scripted_server, self_signed
from tests.guix_glue.fetch.proxy import running_proxy
from tests.guix_glue.fetch.support import Made, make_item, publish

HOST = "cache.example"


@pytest.fixture
def made(tmp_path: Path) -> Made:
    (tmp_path / "file").write_bytes(b"content " * 100_000)
    return make_item(tmp_path / "file")


def paths_of(made: Made) -> list[str]:
    return [f"/{made.item.hash_part}.narinfo", f"/nar/{made.item.base_name}"]


def test_http_by_a_proxy(made: Made, tmp_path: Path) -> None:
    with running_server() as server, running_proxy({HOST: server.url}) as proxy:
        publish(server, made)
        environ = {"http_proxy": f"me:secret@{proxy.authority}"}
        brought = bring(made, tmp_path / "item", f"http://{HOST}", environ=environ)
        brought.assert_right(made, tmp_path / "item")
        assert proxy.asked == [f"GET http://{HOST}{path}" for path in paths_of(made)]
        assert all("Proxy-Authorization: Basic bWU6c2VjcmV0" in head for head in proxy.heads)
        assert [headers["Host"] for headers in server.headers] == [HOST, HOST]
        assert "secret" not in brought.messages


def test_https_by_a_proxy_is_with_the_server(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = self_signed(tmp_path / "certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate"))
    with running_server(context) as server, running_proxy({}) as proxy:
        # The certificate is for this address.
        authority = server.url.removeprefix("https://")
        proxy.targets = {authority: server.url, f"{HOST}:443": server.url}
        publish(server, made)
        environ = {"https_proxy": f"http://me:secret@{proxy.authority}"}
        brought = bring(made, tmp_path / "item", server.url, environ=environ)
        brought.assert_right(made, tmp_path / "item")
        assert proxy.asked == [f"CONNECT {authority}"] * 2
        assert all("Proxy-Authorization: Basic bWU6c2VjcmV0" in head for head in proxy.heads)
        assert all("Proxy-Authorization" not in headers for headers in server.headers)
        assert server.requests == paths_of(made)
        # The same server under a name that its certificate does not have.
        brought = bring(made, tmp_path / "other", f"https://{HOST}", environ=environ)
        assert brought.reply == NOTHING
        assert "certificate is not valid" in brought.messages
        assert server.requests == paths_of(made)


def test_a_proxy_gets_one_request_at_a_time(tmp_path: Path) -> None:
    parts = [f"{number:032d}" for number in range(20)]
    texts = {part: part.encode() for part in parts}

    async def run(proxies: Proxies) -> dict[str, bytes]:
        server = parse_server(f"http://{HOST}/a")
        client = NarinfoClient(server, memory=20 * LARGEST_ANSWER, proxies=proxies)
        try:
            return await client.fetch(parts, lambda: None, 60.0)
        finally:
            client.close()

    with running_server() as server, running_proxy({HOST: server.url}) as proxy:
        server.files |= {f"/a/{part}.narinfo": text for part, text in texts.items()}
        assert asyncio.run(run(Proxies({"http_proxy": proxy.url}))) == texts
        assert len(proxy.heads) == 20 and not proxy.piled_up


def test_what_is_asked_one_by_one_may_take_longer() -> None:
    def allowance_s(url: str, **environ: str) -> float:
        proxies = Proxies.from_environ(environ)
        client = NarinfoClient(parse_server(url), memory=LARGEST_ANSWER, proxies=proxies)
        return client.allowance_s(1000)

    directly = allowance_s("http://h")
    assert allowance_s("http://h", http_proxy="p") > 5 * directly
    # In a tunnel requests need not wait for each other.
    assert allowance_s("https://h", https_proxy="p") == directly
    for environ in ({"http_proxy": "p", "no_proxy": "h"}, {"http_proxy": "socks5://p"}):
        assert allowance_s("http://h", **environ) == directly
    assert allowance_s("file:///srv", all_proxy="p") == directly


def test_no_proxy_is_heeded(made: Made, tmp_path: Path) -> None:
    with running_server() as server, running_proxy({}) as proxy:
        publish(server, made)
        environ = {"http_proxy": proxy.url, "no_proxy": "example, 127.0.0.0/8"}
        bring(made, tmp_path / "item", server.url, environ=environ).assert_right(
            made, tmp_path / "item"
        )
        assert proxy.heads == []


@pytest.mark.parametrize("status", [403, 407, 502])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_is_named(
    scheme: str, status: int, made: Made, tmp_path: Path
) -> None:
    with running_proxy({}, status) as proxy:
        environ = {f"{scheme}_proxy": f"http://me:secret@{proxy.authority}"}
        brought = bring(made, tmp_path / "item", f"{scheme}://{HOST}", environ=environ)
        assert brought.reply == NOTHING
        # What it says of a tunnel is its own word; else it may be the server's.
        who = f"the proxy {proxy.authority}"
        if scheme == "http" and status != 407:
            who += ", or the server,"
        assert f"{scheme}://{HOST}: {who} answers {status}" in brought.messages
        assert "secret" not in brought.messages


def test_a_proxy_that_is_busy_is_asked_again(made: Made, tmp_path: Path) -> None:
    with running_proxy({}, 503) as proxy:
        environ = {"https_proxy": proxy.url}
        brought = bring(made, tmp_path / "item", f"https://{HOST}", environ=environ)
        assert brought.reply == NOTHING
        assert proxy.asked == [f"CONNECT {HOST}:443"] * 3


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_nar_that_a_proxy_refuses(
    scheme: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = self_signed(tmp_path / "certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate"))
    with (
        running_server(context) as secure,
        running_server() as server,
        running_proxy({}, 407) as proxy,
    ):
        nar = NarUrl(f"{scheme}://{HOST}/nar", "none", None, None)
        publish(server, made, nar)
        publish(secure, made, nar)
        environ = {f"{scheme}_proxy": proxy.url}
        directly = secure.url if scheme == "http" else server.url
        brought = bring(made, tmp_path / "item", directly, environ=environ)
        assert brought.reply == NOTHING
        assert f"/nar' failed: the proxy {proxy.authority} answers 407" in brought.messages


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there_is_named(scheme: str, made: Made, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        authority = f"127.0.0.1:{listening.getsockname()[1]}"
    environ = {f"{scheme}_proxy": authority}
    brought = bring(made, tmp_path / "item", f"{scheme}://{HOST}", environ=environ)
    words = f"{HOST}: the proxy {authority}: connection failed: Connection refused"
    assert words in brought.messages


def closes(connection: socket.socket) -> None:
    connection.recv(1 << 16)


def talks_nonsense(connection: socket.socket) -> None:
    connection.recv(1 << 16)
    connection.sendall(b"220 mail.example ESMTP\r\n\r\n")


def talks_for_ever(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: y" * 1000)


@pytest.mark.parametrize("script", [closes, talks_nonsense, talks_for_ever])
def test_a_proxy_that_makes_no_tunnel(script: Script, made: Made, tmp_path: Path) -> None:
    with scripted_server(script) as url:
        brought = bring(made, tmp_path / "item", f"https://{HOST}", environ={"https_proxy": url})
        assert brought.reply == NOTHING
        assert f"https://{HOST}: the proxy {url.removeprefix('http://')}" in brought.messages


def test_a_proxy_that_cannot_be_used(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        publish(server, made)
        environ = {"http_proxy": "socks5://me:secret@127.0.0.1:9"}
        brought = bring(made, tmp_path / "item", server.url, environ=environ)
        assert brought.reply == NOTHING
        assert "the proxy of http_proxy cannot be used" in brought.messages
        assert "secret" not in brought.messages
        assert server.requests == []


def test_a_proxy_that_speaks_tls(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = self_signed(tmp_path / "certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate"))

    with running_server(context) as server, running_proxy({}) as proxy:

        def script(connection: socket.socket) -> None:
            with context.wrap_socket(connection, server_side=True) as secure:
                proxy.serve(secure)

        with scripted_server(script) as url:
            publish(server, made)
            proxy.targets = {server.url.removeprefix("https://"): server.url}
            environ = {"https_proxy": url.replace("http:", "https:")}
            brought = bring(made, tmp_path / "item", server.url, environ=environ)
            brought.assert_right(made, tmp_path / "item")
            assert len(proxy.heads) == 2
