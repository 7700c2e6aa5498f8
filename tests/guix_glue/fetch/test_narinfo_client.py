"""Narinfos from servers good and bad, over real sockets."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guix_glue.errors import FetchFailed
from guix_glue.fetch.http_wire import MAX_BODY
from guix_glue.fetch.narinfo_client import LARGEST_ANSWER, NarinfoClient
from guix_glue.fetch.settings import DEFAULT_TIMEOUTS, Timeouts
from guix_glue.servers.url import parse_server
from tests.clocks import Clock, run_on_clock
from tests.guix_glue.fetch.fakes import Reply, running_server, scripted_server, self_signed

PARTS = [f"{number:032d}" for number in range(300)]
SHORT = Timeouts(connect_s=5.0, answer_s=1.0, total_s=30.0)


def text_of(part: str) -> bytes:
    return f"StorePath: {part}\n".encode()


def client_of(url: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> NarinfoClient:
    return NarinfoClient(parse_server(url), timeouts, memory=300 * LARGEST_ANSWER)


async def ask(client: NarinfoClient, parts: list[str]) -> dict[str, bytes]:
    return await client.fetch(parts, lambda: None, client.allowance_s(len(parts)))


def test_who_lets_us_wait_is_left_alone_longer_each_time() -> None:
    def silent(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            pass

    async def run(clock: Clock) -> None:
        client = client_of(url)

        async def later(seconds: float) -> list[str]:
            clock.skip(seconds)
            await asyncio.sleep(0)
            return client.unknown(PARTS[:1])

        try:
            for pause_s in (60, 120, 240):
                with pytest.raises(FetchFailed):
                    await clock.skip_until(ask(client, PARTS[:1]), 5.0)
                assert await later(pause_s - 20) == []
                assert await later(40) == PARTS[:1]
        finally:
            client.close()

    with scripted_server(silent) as url:
        run_on_clock(run)


def fetch(
    url: str, parts: list[str] = PARTS, timeouts: Timeouts = DEFAULT_TIMEOUTS, rounds: int = 1
) -> dict[str, bytes]:
    async def run() -> dict[str, bytes]:
        client = client_of(url, timeouts)
        try:
            for _ in range(rounds):
                found = await ask(client, parts)
            return found
        finally:
            client.close()

    return asyncio.run(run())


EVERY = {part: text_of(part) for part in PARTS}


def answer(part: str, version: str = "1.1", more: str = "") -> bytes:
    text = text_of(part)
    return f"HTTP/{version} 200 OK\r\nContent-Length: {len(text)}\r\n{more}\r\n".encode() + text


def requests_of(connection: socket.socket) -> Callable[[], str]:
    """Read requests from a connection, one hash part at a time."""
    waiting = b""

    def read() -> str:
        nonlocal waiting
        while b"\r\n\r\n" not in waiting:
            data = connection.recv(1 << 16)
            if not data:
                raise ConnectionError
            waiting += data
        request, _, waiting = waiting.partition(b"\r\n\r\n")
        match = re.match(rb"GET /([0-9]{32})\.narinfo HTTP/1\.1\r\n", request)
        assert match
        return match[1].decode()

    return read


def test_what_is_there_and_what_is_not() -> None:
    with running_server() as server:
        for part in PARTS[::2]:
            server.files[f"/{part}.narinfo"] = text_of(part)
        assert fetch(server.url) == {part: text_of(part) for part in PARTS[::2]}
        assert server.requests == [f"/{part}.narinfo" for part in PARTS]


def test_answers_are_remembered_and_so_are_absences() -> None:
    with running_server() as server:
        server.files[f"/{PARTS[0]}.narinfo"] = text_of(PARTS[0])
        assert fetch(server.url, PARTS[:2], rounds=3) == {PARTS[0]: text_of(PARTS[0])}
        assert len(server.requests) == 2


def test_max_age_is_kept_to() -> None:
    with running_server() as server:
        old = {"Cache-Control": "public, max-age=0"}
        server.files[f"/{PARTS[0]}.narinfo"] = Reply(text_of(PARTS[0]), headers=old)
        fetch(server.url, PARTS[:1], rounds=3)
        assert len(server.requests) == 3


@pytest.mark.parametrize("status", [202, 204, 401, 403, 404, 501])
def test_no_other_status_brings_a_narinfo(status: int) -> None:
    with running_server() as server:
        server.files[f"/{PARTS[0]}.narinfo"] = Reply(text_of(PARTS[0]), status)
        assert fetch(server.url, PARTS[:1], rounds=2) == {}
        assert len(server.requests) == 1


def test_a_path_and_a_password() -> None:
    with running_server() as server:
        server.files[f"/a/b/{PARTS[0]}.narinfo"] = text_of(PARTS[0])
        url = server.url.replace("http://", "http://me:secret@") + "/a/b/"
        assert fetch(url, PARTS[:1]) == {PARTS[0]: text_of(PARTS[0])}
        assert server.headers[0]["Authorization"] == "Basic bWU6c2VjcmV0"


def test_redirects_are_followed_without_the_password() -> None:
    with running_server() as server, running_server() as other:
        for part in PARTS[:5]:
            server.files[f"/{part}.narinfo"] = Reply(
                b"there", 302, {"Location": f"{other.url}/x/{part}"}
            )
            other.files[f"/x/{part}"] = text_of(part)
        found = fetch(server.url.replace("http://", "http://me:secret@"), PARTS[:6])
        assert found == {part: text_of(part) for part in PARTS[:5]}
        assert all("Authorization" not in headers for headers in other.headers)


def test_redirects_in_a_circle_end() -> None:
    with running_server() as server:
        here = f"/{PARTS[0]}.narinfo"
        server.files[here] = Reply(b"", 301, {"Location": here})
        assert fetch(server.url, PARTS[:1]) == {}
        assert len(server.requests) < 10


def test_a_directory(tmp_path: Path) -> None:
    (tmp_path / f"{PARTS[0]}.narinfo").write_bytes(text_of(PARTS[0]))
    (tmp_path / f"{PARTS[1]}.narinfo").mkdir()
    assert fetch(f"file://{tmp_path}", PARTS[:3]) == {PARTS[0]: text_of(PARTS[0])}


def test_one_connection_carries_all() -> None:
    connections = []

    def script(connection: socket.socket) -> None:
        connections.append(1)
        read = requests_of(connection)
        while True:
            connection.sendall(answer(read()))

    with scripted_server(script) as url:
        assert fetch(url) == EVERY
    assert len(connections) == 1


def test_what_was_wanted_last_is_kept_as_far_as_there_is_room() -> None:
    async def run(url: str) -> None:
        client = NarinfoClient(parse_server(url), memory=3 * LARGEST_ANSWER)
        for parts in (PARTS[:2], [PARTS[2]], [PARTS[0]], [PARTS[3]]):
            assert await ask(client, parts) == {part: bytes(MAX_BODY) for part in parts}
        assert client.unknown(PARTS[:4]) == [PARTS[1]]
        assert set(client.known(PARTS[:4])) == {PARTS[0], PARTS[2], PARTS[3]}
        client.close()

    with running_server() as server:
        for part in PARTS[:4]:
            server.files[f"/{part}.narinfo"] = bytes(MAX_BODY)
        asyncio.run(run(server.url))
        assert len(server.requests) == 4


@pytest.mark.parametrize("at_a_time", [1, 7, 250])
@pytest.mark.parametrize("way", ["closes", "says so", "is of version 1.0"])
def test_unanswered_requests_are_sent_again(at_a_time: int, way: str) -> None:
    seen: list[str] = []

    def script(connection: socket.socket) -> None:
        read = requests_of(connection)
        for number in range(at_a_time):
            part = read()
            seen.append(part)
            last = number == at_a_time - 1
            connection.sendall(
                answer(part, "1.0" if last and way == "is of version 1.0" else "1.1")
                if not last or way != "says so"
                else answer(part, more="Connection: close\r\n")
            )

    with scripted_server(script) as url:
        assert fetch(url) == EVERY
    # A server that closes on requests which it has not read takes answers back with them.
    assert len(seen) <= 2 * len(PARTS)


def test_a_body_may_end_with_the_connection() -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + text_of(requests_of(connection)()))

    with scripted_server(script) as url:
        assert fetch(url, PARTS[:5]) == {part: text_of(part) for part in PARTS[:5]}


def test_a_server_that_talks_nonsense_is_given_up() -> None:
    connections = []

    def script(connection: socket.socket) -> None:
        connections.append(connection)
        connection.sendall(b"220 mail.example ESMTP\r\n")
        connection.recv(1)

    with scripted_server(script) as url, pytest.raises(FetchFailed):
        fetch(url)
    assert len(connections) <= 3


def test_one_answer_that_is_too_long_costs_only_itself() -> None:
    def script(connection: socket.socket) -> None:
        read = requests_of(connection)
        while True:
            part = read()
            if part == PARTS[3]:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
            else:
                connection.sendall(answer(part))

    with scripted_server(script) as url:
        assert fetch(url) == {part: text for part, text in EVERY.items() if part != PARTS[3]}


def test_a_narinfo_has_a_limit(tmp_path: Path) -> None:
    texts = {PARTS[0]: bytes(MAX_BODY), PARTS[1]: bytes(MAX_BODY + 1), PARTS[2]: b"x"}
    kept = {PARTS[0]: texts[PARTS[0]], PARTS[2]: texts[PARTS[2]]}
    for part, text in texts.items():
        (tmp_path / f"{part}.narinfo").write_bytes(text)
    assert fetch(f"file://{tmp_path}", PARTS[:3]) == kept
    for with_length in (True, False):
        with running_server() as server:
            for part, text in texts.items():
                server.files[f"/{part}.narinfo"] = Reply(text, with_length=with_length)
            assert fetch(server.url, PARTS[:3]) == kept


def test_a_server_that_stalls_is_given_up_and_what_it_said_is_kept() -> None:
    def script(connection: socket.socket) -> None:
        read = requests_of(connection)
        connection.sendall(answer(read()))
        connection.sendall(answer(read())[:-3])
        connection.recv(1 << 20)
        connection.recv(1 << 20)

    async def run(url: str) -> None:
        client = client_of(url, SHORT)
        with pytest.raises(FetchFailed, match="in time"):
            await ask(client, PARTS)
        assert client.known(PARTS) == {PARTS[0]: text_of(PARTS[0])}
        # Not asked again for a while.
        assert client.unknown(PARTS) == []
        assert await ask(client, PARTS) == {PARTS[0]: text_of(PARTS[0])}

    with scripted_server(script) as url:
        asyncio.run(run(url))


def test_a_server_that_drips_is_given_up() -> None:
    async def run(url: str) -> None:
        client = client_of(url, replace(SHORT, answer_s=60.0, total_s=0.1))
        with pytest.raises(FetchFailed, match="too long"):
            await ask(client, PARTS[:3])

    def script(connection: socket.socket) -> None:
        connection.sendall(answer(requests_of(connection)())[:-3])
        while connection.recv(1 << 16):
            pass

    with scripted_server(script) as url:
        asyncio.run(run(url))


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(FetchFailed, match="refused"):
        fetch(f"http://127.0.0.1:{port}")


def test_an_address_that_leads_nowhere_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    with running_server() as server, socket.create_server(("127.0.0.2", 0), backlog=0) as full:
        server.files[f"/{PARTS[0]}.narinfo"] = text_of(PARTS[0])
        port = int(server.url.rpartition(":")[2])

        def resolve(host: str, *more: Any, **how: Any) -> list[Any]:
            """The first address is of a host that does not answer."""
            answers = real("127.0.0.1", *more, **how)
            return [(*answers[0][:4], full.getsockname()), *answers]

        # A queue of one place, and it is taken: whoever connects is not answered.
        with socket.create_connection(full.getsockname()):
            monkeypatch.setattr(socket, "getaddrinfo", resolve)
            assert fetch(f"http://two.example:{port}", PARTS[:1]) == {PARTS[0]: text_of(PARTS[0])}


def test_a_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = self_signed(tmp_path / "certificate")

    def script(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            read = requests_of(secure)
            while True:
                secure.sendall(answer(read()))

    with scripted_server(script) as plain:
        url = plain.replace("http:", "https:")
        with pytest.raises(FetchFailed, match="certificate is not valid"):
            fetch(url, PARTS[:1])
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate"))
        assert fetch(url, PARTS[:3]) == {part: text_of(part) for part in PARTS[:3]}
