"""The client of the daemon, over real sockets, with a daemon that speaks from the capture."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from guix_glue.errors import DaemonError, ProtocolError
from guix_glue.local.daemon import GuixDaemon
from guix_glue.local.daemon_address import TcpAddress, UnixAddress, parse_daemon_address
from guix_glue.local.worker_requests import (
    is_valid_path,
    query_path_from_hash_part,
    query_path_info,
)
from tests.clocks import run_without_waiting
from tests.guix_glue.local.session import (
    APP,
    APP_INFO,
    APP_INFO_TURN,
    APP_IS_VALID,
    BAD_HASH_PART,
    DONE,
    GOES,
    HANDSHAKE,
    HANGS,
    REQUESTS,
    TURNS,
    FakeDaemon,
    Turn,
    fake_daemon,
    log_text,
    string,
    word,
)


@pytest.mark.parametrize("tcp", [False, True])
def test_the_captured_session(tmp_path: Path, tcp: bool) -> None:
    async def run() -> None:
        async with fake_daemon(tmp_path, TURNS[2:], tcp=tcp) as server:
            async with GuixDaemon(server.address) as daemon:
                results = []
                for request in REQUESTS:
                    try:
                        results.append(await daemon.call(request))
                    except DaemonError as error:
                        results.append((str(error), error.status))
            assert results[:4] == [True, APP_INFO, APP, None]
            assert results[4] == (f"path `/gnu/store/{'0' * 32}-x' is not valid", 1)
            assert results[5] == ("invalid hash part", 1)
            assert server.accepted == 1

    asyncio.run(run())


def test_requests_wait_for_each_other(tmp_path: Path) -> None:
    async def run() -> None:
        turns = [APP_IS_VALID, APP_INFO_TURN] * 5
        async with fake_daemon(tmp_path, turns) as server, GuixDaemon(server.address) as daemon:
            calls = [daemon.call(is_valid_path(APP)), daemon.call(query_path_info(APP))]
            for _ in range(4):
                calls += [daemon.call(is_valid_path(APP)), daemon.call(query_path_info(APP))]
            assert await asyncio.gather(*calls) == [True, APP_INFO] * 5

    asyncio.run(run())


def test_what_the_daemon_says_before_its_answer(tmp_path: Path) -> None:
    said = log_text(b"waiting for the big garbage collector lock...\n") + log_text(b"")
    refused = word(0x63787470) + string(b"not for you") + word(1)
    turns = [
        Turn(APP_IS_VALID.sent, said + APP_IS_VALID.received),
        Turn(APP_IS_VALID.sent, said + refused),
        APP_IS_VALID,
    ]

    async def run() -> None:
        async with fake_daemon(tmp_path, turns) as server:
            async with GuixDaemon(server.address) as daemon:
                assert await daemon.call(is_valid_path(APP))
                with pytest.raises(DaemonError, match="not for you") as caught:
                    await daemon.call(is_valid_path(APP))
                assert caught.value.status == 1
                # The connection is as good as before.
                assert await daemon.call(is_valid_path(APP))
            assert server.accepted == 1

    asyncio.run(run())


def test_a_daemon_that_was_started_anew(tmp_path: Path) -> None:
    async def run() -> None:
        async with fake_daemon(tmp_path, [APP_IS_VALID], [APP_IS_VALID]) as server:
            async with GuixDaemon(server.address) as daemon:
                assert await daemon.call(is_valid_path(APP))
                assert await daemon.call(is_valid_path(APP))
            assert server.accepted == 2

    asyncio.run(run())


def test_a_connection_that_ends_in_an_answer(tmp_path: Path) -> None:
    cut = Turn(APP_IS_VALID.sent, APP_IS_VALID.received[:-1])

    async def run() -> None:
        async with (
            fake_daemon(tmp_path, [cut], [APP_IS_VALID]) as server,
            GuixDaemon(server.address) as daemon,
        ):
            with pytest.raises(DaemonError, match="closed the connection") as caught:
                await daemon.call(is_valid_path(APP))
            assert caught.value.status is None
            assert await daemon.call(is_valid_path(APP))

    asyncio.run(run())


def test_an_answer_that_was_begun_is_not_asked_for_again(tmp_path: Path) -> None:
    cut = Turn(APP_IS_VALID.sent, APP_IS_VALID.received[:-1])

    async def run() -> None:
        async with (
            fake_daemon(tmp_path, [APP_INFO_TURN, cut]) as server,
            GuixDaemon(server.address) as daemon,
        ):
            await daemon.call(query_path_info(APP))
            with pytest.raises(DaemonError, match="closed the connection"):
                await daemon.call(is_valid_path(APP))

    asyncio.run(run())


def test_a_request_that_the_daemon_took_to_its_end(tmp_path: Path) -> None:
    turns = [APP_INFO_TURN, Turn(APP_IS_VALID.sent, GOES)]

    async def run() -> None:
        async with (
            fake_daemon(tmp_path, turns, [APP_IS_VALID]) as server,
            GuixDaemon(server.address) as daemon,
        ):
            await daemon.call(query_path_info(APP))
            # A daemon that was started anew may know better.
            assert await daemon.call(is_valid_path(APP))
            assert server.accepted == 2

    asyncio.run(run())


def test_a_daemon_that_gets_stuck(tmp_path: Path) -> None:
    stuck = Turn(APP_IS_VALID.sent, HANGS)

    async def run() -> None:
        async with (
            fake_daemon(tmp_path, [stuck], [APP_IS_VALID]) as server,
            GuixDaemon(server.address) as daemon,
        ):
            with pytest.raises(DaemonError, match="said nothing"):
                await daemon.call(is_valid_path(APP))
            await server.hung_up.wait()
            assert await daemon.call(is_valid_path(APP))

    assert run_without_waiting(run) >= 60


def test_a_cancelled_request_does_not_confuse_the_next(tmp_path: Path) -> None:
    stuck = Turn(APP_IS_VALID.sent, HANGS)

    async def run() -> None:
        async with fake_daemon(tmp_path, [APP_INFO_TURN, stuck], [APP_INFO_TURN]) as server:
            async with GuixDaemon(server.address) as daemon:
                await daemon.call(query_path_info(APP))
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(daemon.call(is_valid_path(APP)), 0.05)
                await server.hung_up.wait()
                assert await daemon.call(query_path_info(APP)) == APP_INFO
            assert server.accepted == 2

    asyncio.run(run())


def test_nonsense_ends_the_connection(tmp_path: Path) -> None:
    nonsense = Turn(APP_IS_VALID.sent, DONE + word(77))

    async def run() -> None:
        async with fake_daemon(tmp_path, [nonsense, APP_IS_VALID], [APP_IS_VALID]) as server:
            async with GuixDaemon(server.address) as daemon:
                with pytest.raises(ProtocolError):
                    await daemon.call(is_valid_path(APP))
                assert await daemon.call(is_valid_path(APP))
            assert server.accepted == 2

    asyncio.run(run())


def test_a_refused_handshake(tmp_path: Path) -> None:
    refusal = word(0x63787470) + string(b"not for you") + word(1)

    async def run() -> None:
        address = str(tmp_path / "socket")
        daemon = FakeDaemon(address, [[HANDSHAKE[0], Turn(HANDSHAKE[1].sent, refusal)]])
        async with (
            await asyncio.start_unix_server(daemon.serve, address),
            GuixDaemon(address) as client,
        ):
            with pytest.raises(DaemonError, match="not for you"):
                await client.call(is_valid_path(APP))

    asyncio.run(run())


@pytest.mark.parametrize(
    "address", ["/nonexistent/socket", "/" + "x" * 200, "guix://127.0.0.1:1", "guix://" + "a" * 70]
)
def test_nobody_is_there(address: str) -> None:
    async def run() -> None:
        async with GuixDaemon(address) as daemon:
            with pytest.raises(DaemonError, match="cannot reach") as caught:
                await daemon.call(query_path_from_hash_part("0" * 32))
            assert caught.value.status is None

    asyncio.run(run())


def test_a_bad_hash_part_is_the_daemons_to_refuse(tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            fake_daemon(tmp_path, [BAD_HASH_PART]) as server,
            GuixDaemon(server.address) as daemon,
        ):
            with pytest.raises(DaemonError, match="invalid hash part"):
                await daemon.call(query_path_from_hash_part("7xq3"))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/var/guix/daemon-socket/socket", UnixAddress("/var/guix/daemon-socket/socket")),
        ("unix:///run/a%20b", UnixAddress("/run/a b")),
        ("file:///run/guix", UnixAddress("/run/guix")),
        ("guix://example.org", TcpAddress("example.org", 44146)),
        ("guix://10.0.0.1:1234", TcpAddress("10.0.0.1", 1234)),
        ("guix://[::1]:99", TcpAddress("::1", 99)),
    ],
)
def test_addresses(text: str, address: object) -> None:
    assert parse_daemon_address(text) == address
    assert "::1" not in text or str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/a\0b",
        "ssh://host",
        "guix://",
        "guix://host:0",
        "guix://host:99999",
        "guix://host:port",
        "guix://host/path",
        "guix://[::1",
        "unix://host/path",
        "file://",
    ],
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(DaemonError):
        parse_daemon_address(text)
