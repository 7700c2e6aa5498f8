"""What fails only for now is tried again; by a clock that does not wait."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from guix_glue.errors import FetchFailed
from guix_glue.fetch.narinfo_client import LARGEST_ANSWER, NarinfoClient
from guix_glue.formats.narinfo import NarUrl
from guix_glue.servers.url import parse_server
from tests.clocks import Clock, run_on_clock
from tests.guix_glue.fetch.bringing import NOTHING, bring
from tests.guix_glue.fetch.fakes import Reply, running_server, scripted_server
from tests.guix_glue.fetch.support import Made, make_item, narinfo_of, publish
from tests.guix_glue.servers.scripts import answer, rest_of, scripted

PARTS = [f"{number:032d}" for number in range(3)]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    (tmp_path / "file").write_bytes(b"content " * 1000)
    return make_item(tmp_path / "file")


# --- narinfos ---------------------------------------------------------------------------------


def ask(url: str, parts: Sequence[str] = PARTS[:1]) -> tuple[dict[str, bytes], list[str], float]:
    """What there is, what was complained of, and how long it took."""
    words: list[str] = []

    async def run(clock: Clock) -> tuple[dict[str, bytes], list[str], float]:
        client = NarinfoClient(parse_server(url), memory=3 * LARGEST_ANSWER)
        began = clock.time()
        try:
            asked = client.fetch(parts, lambda: None, 60.0, words.append)
            return await clock.skip_until(asked, 0.25), words, clock.time() - began
        finally:
            client.close()

    return run_on_clock(run)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_narinfo_is_asked_for_again(status: int) -> None:
    with scripted(answer(b"", status=status), answer(b"text")) as server:
        assert ask(server.url)[:2] == ({PARTS[0]: b"text"}, [])
        assert len(server.heads) == 2


def test_a_server_that_goes_on_failing_is_told_of_once() -> None:
    with running_server() as server:
        for part in PARTS:
            server.files[f"/{part}.narinfo"] = Reply(b"", 500)
        assert ask(server.url, PARTS)[:2] == ({}, ["the server answers 500"])
        assert len(server.requests) == 9


def test_a_server_in_trouble_is_not_asked_twice_as_much(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        server.files[f"/{made.item.hash_part}.narinfo"] = Reply(b"", 500)
        brought = bring(made, tmp_path / "item", server.url)
        assert brought.reply == NOTHING
        assert len(server.requests) == 3
        assert brought.messages.count("the server answers 500") == 1


def test_a_server_is_asked_again_when_it_wants_to_be() -> None:
    busy = answer(b"", "Retry-After: 7", status=503)
    with scripted(busy, answer(b"text")) as server:
        found, _, took_s = ask(server.url)
        assert found == {PARTS[0]: b"text"}
        assert took_s >= 7
    with scripted(answer(b"", "Retry-After: 600", status=503)) as server:
        assert ask(server.url)[:2] == ({}, ["the server answers 503"])
        assert len(server.heads) == 1


def test_a_connection_that_is_lost_is_made_again() -> None:
    with scripted(b"", b"HTTP/1.1 20", answer(b"text")) as server:
        assert ask(server.url)[:2] == ({PARTS[0]: b"text"}, [])
    with scripted(b"") as server:
        with pytest.raises(FetchFailed, match="closes without an answer"):
            ask(server.url)
        assert len(server.heads) == 3


def test_a_server_that_starts_anew_is_waited_for() -> None:
    """Its first connection is cut, and then nobody listens for a while."""

    async def run(clock: Clock) -> dict[str, bytes]:
        waiting: list[asyncio.Task[asyncio.Server]] = []

        async def first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server.close()
            writer.transport.abort()
            waiting.append(asyncio.create_task(start_again()))

        async def second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer(b"text"))
            writer.close()

        async def start_again() -> asyncio.Server:
            await asyncio.sleep(1.0)
            return await asyncio.start_server(second, "127.0.0.1", port)

        server = await asyncio.start_server(first, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        client = NarinfoClient(parse_server(url), memory=LARGEST_ANSWER)
        try:
            return await clock.skip_until(client.fetch(PARTS[:1], lambda: None, 60.0), 0.25)
        finally:
            client.close()
            (await waiting[0]).close()

    assert run_on_clock(run) == {PARTS[0]: b"text"}


def test_what_a_redirect_leads_to_costs_only_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        gone = f"127.0.0.1:{listening.getsockname()[1]}"
    with running_server() as server:
        moved = Reply(b"", 302, {"Location": f"http://{gone}/x"})
        loop = Reply(b"", 302, {"Location": f"/{PARTS[1]}.narinfo"})
        server.files |= {
            f"/{PARTS[0]}.narinfo": moved,
            f"/{PARTS[1]}.narinfo": loop,
            f"/{PARTS[2]}.narinfo": b"text",
        }
        found, words, _ = ask(server.url, PARTS)
        assert found == {PARTS[2]: b"text"}
        assert sorted(words) == [
            f"it redirects to {gone}: connection failed: Connection refused",
            "the server redirects again and again",
        ]


def test_all_redirects_may_lead_to_one_place() -> None:
    async def run(url: str) -> None:
        done: list[None] = []
        client = NarinfoClient(parse_server(url), memory=3 * LARGEST_ANSWER)
        try:
            found = await client.fetch(PARTS, lambda: done.append(None), 60.0)
            assert found == dict.fromkeys(PARTS, b"Log in, please.")
            assert len(done) == len(PARTS)
            assert client.unknown(PARTS) == []
        finally:
            client.close()

    with running_server() as server:
        moved = Reply(b"", 302, {"Location": "/login"})
        server.files |= {f"/{part}.narinfo": moved for part in PARTS}
        server.files["/login"] = b"Log in, please."
        asyncio.run(run(server.url))
        assert server.requests.count("/login") == 1


def test_a_server_cannot_make_us_connect_to_everybody() -> None:
    parts = [f"{number:032d}" for number in range(1, 101)]
    with running_server() as server:
        port = int(server.url.rpartition(":")[2])
        for number, part in enumerate(parts, 2):
            # Nobody listens there.
            location = f"http://127.0.0.{number}:{port}/"
            server.files[f"/{part}.narinfo"] = Reply(b"", 302, {"Location": location})
        found, words, _ = ask(server.url, parts)
        assert found == {}
        assert words[0] == "the server redirects to too many hosts"
        assert len(words) == 4


# --- nars -------------------------------------------------------------------------------------


def test_a_nar_is_tried_again(made: Made, tmp_path: Path) -> None:
    nar = gzip.compress(made.nar)
    for first in (answer(nar, cut=100), b"", answer(b"", status=503), answer(b"", status=429)):
        with running_server() as server, scripted(first, answer(nar)) as nars:
            publish(server, made, NarUrl(f"{nars.url}/nar", "gzip", None, None))
            destination = tmp_path / f"item-{len(nars.url)}-{id(first)}"
            bring(made, destination, server.url).assert_right(made, destination)
            assert len(nars.heads) == 2


@pytest.mark.parametrize("method", ["none", "gzip"])
def test_a_nar_without_a_length_that_breaks_off(method: str, made: Made, tmp_path: Path) -> None:
    nar = gzip.compress(made.nar) if method == "gzip" else made.nar
    head = b"HTTP/1.0 200 OK\r\n\r\n"
    with running_server() as server, scripted(head + nar[:-9], head + nar) as nars:
        publish(server, made, NarUrl(f"{nars.url}/nar", method, None, None))
        brought = bring(made, tmp_path / "item", server.url)
        brought.assert_right(made, tmp_path / "item")
        assert "the connection may be lost" in brought.messages


def test_a_nar_that_is_too_short_as_a_whole_will_be_so_again(made: Made, tmp_path: Path) -> None:
    with running_server() as server, scripted(answer(made.nar[:-9])) as nars:
        publish(server, made, NarUrl(f"{nars.url}/nar", "none", None, None))
        assert bring(made, tmp_path / "item", server.url).reply == NOTHING
        assert len(nars.heads) == 1


def test_other_sources_come_first(made: Made, tmp_path: Path) -> None:
    with running_server() as one, running_server() as two:
        publish(one, made)
        publish(two, made)
        one.files[f"/nar/{made.item.base_name}"] = Reply(b"", 503)
        brought = bring(made, tmp_path / "item", one.url, two.url)
        brought.assert_right(made, tmp_path / "item")
        assert one.requests.count(f"/nar/{made.item.base_name}") == 1
        assert "trying again" not in brought.messages


def test_a_nar_that_breaks_off_goes_on_where_it_did(made: Made, tmp_path: Path) -> None:
    nar = gzip.compress(made.nar, 0)
    first = answer(nar, 'ETag: "x"', cut=len(nar) // 2)
    with running_server() as server, scripted(first, rest_of(nar, 'ETag: "x"')) as nars:
        publish(server, made, NarUrl(f"{nars.url}/nar", "gzip", None, None))
        brought = bring(made, tmp_path / "item", server.url)
        brought.assert_right(made, tmp_path / "item")
        assert len(nars.heads) == 2
        assert "failed" not in brought.messages


def test_the_hash_is_the_judge_of_what_was_put_together(made: Made, tmp_path: Path) -> None:
    first = answer(made.nar, 'ETag: "x"', cut=len(made.nar) // 2)
    # Another nar, which has the same tag all the same.
    other = made.nar.replace(b"content ", b"CONTENT ")
    with running_server() as server, scripted(first, rest_of(other), answer(other)) as nars:
        publish(server, made, NarUrl(f"{nars.url}/nar", "none", None, None))
        brought = bring(made, tmp_path / "item", server.url)
        assert brought.reply.startswith(b"hash-mismatch")
        assert not (tmp_path / "item").exists()


@pytest.mark.parametrize("method", ["none", "gzip"])
@pytest.mark.parametrize("kind", ["another", "damaged"])
def test_parts_that_do_not_fit_together_are_not_the_last_word(
    kind: str, method: str, made: Made, tmp_path: Path
) -> None:
    nar = made.nar if method == "none" else gzip.compress(made.nar, 0)
    other = bytes(len(nar)) if kind == "damaged" else nar.replace(b"content", b"CONTENT")
    first = answer(nar, 'ETag: "x"', cut=len(nar) // 2)
    whole = answer(nar, 'ETag: "x"')
    # The second time it breaks off, too, and then begins anew all the same.
    with running_server() as server, scripted(first, rest_of(other), first, whole) as nars:
        publish(server, made, NarUrl(f"{nars.url}/nar", method, None, None))
        brought = bring(made, tmp_path / "item", server.url)
        brought.assert_right(made, tmp_path / "item")
        assert "do not fit together" in brought.messages
        assert [bool(asked) for asked, _ in nars.ranges] == [False, True, False, False]


def test_what_cannot_be_gone_on_with_is_begun_anew(made: Made, tmp_path: Path) -> None:
    first = answer(made.nar, 'ETag: "x"', cut=len(made.nar) // 2)
    for second in (answer(made.nar, 'ETag: "y"'), answer(b"", status=416)):
        with running_server() as server, scripted(first, second, answer(made.nar)) as nars:
            publish(server, made, NarUrl(f"{nars.url}/nar", "none", None, None))
            destination = tmp_path / f"item-{len(second)}"
            bring(made, destination, server.url).assert_right(made, destination)
            assert [bool(asked) for asked, _ in nars.ranges] == [False, True, False]


def test_a_server_of_nars_that_went_away_may_be_starting_anew(made: Made, tmp_path: Path) -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listening.accept()
        listening.close()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(answer(b"", "Connection: close", status=503))

    serving = threading.Thread(target=serve, daemon=True)
    with running_server() as server, listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/nar"
        publish(server, made, NarUrl(url, "none", None, None))
        serving.start()
        brought = bring(made, tmp_path / "item", server.url)
        serving.join()
    assert brought.reply == NOTHING
    assert brought.messages.count("Connection refused") == 3


def test_there_is_an_end_to_trying(made: Made, tmp_path: Path) -> None:
    with running_server() as server, scripted(answer(made.nar, cut=9)) as nars:
        publish(server, made, NarUrl(f"{nars.url}/nar", "none", None, None))
        brought = bring(made, tmp_path / "item", server.url)
        assert brought.reply == NOTHING
        assert "the connection was lost" in brought.messages
        assert len(nars.heads) == 4
        assert not (tmp_path / "item").exists()


def test_a_server_that_asks_for_too_much_time_is_given_up(made: Made, tmp_path: Path) -> None:
    busy = answer(b"", "Retry-After: 3600", status=503)
    with running_server() as server, scripted(busy) as nars:
        publish(server, made, NarUrl(f"{nars.url}/nar", "none", None, None))
        assert bring(made, tmp_path / "item", server.url).reply == NOTHING
        assert len(nars.heads) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 501])
def test_what_will_not_pass_is_not_tried_again(status: int, made: Made, tmp_path: Path) -> None:
    with running_server() as server, scripted(answer(b"", status=status)) as nars:
        publish(server, made, NarUrl(f"{nars.url}/nar", "none", None, None))
        brought = bring(made, tmp_path / "item", server.url)
        assert brought.reply == NOTHING
        assert f"failed: the server answers {status}\n" in brought.messages
        assert len(nars.heads) == 1


def silent_once(nar: bytes) -> Callable[[socket.socket], None]:
    """Says nothing to the first that asks."""
    seen = threading.Event()

    def script(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        if seen.is_set():
            connection.sendall(answer(nar))
        else:
            seen.set()
            connection.recv(1 << 16)

    return script


def test_silence_is_tried_again_once(made: Made, tmp_path: Path) -> None:
    with running_server() as server, scripted_server(silent_once(made.nar)) as url:
        publish(server, made, NarUrl(f"{url}/nar", "none", None, None))
        brought = bring(made, tmp_path / "item", server.url)
        brought.assert_right(made, tmp_path / "item")
        assert "nothing comes any more" in brought.messages


# --- encodings of narinfos --------------------------------------------------------------------


def test_a_narinfo_in_an_encoding(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        publish(server, made)
        path = f"/{made.item.hash_part}.narinfo"
        text = narinfo_of(made, [NarUrl(f"nar/{made.item.base_name}", "none", None, None)])
        server.files[path] = Reply(gzip.compress(text), headers={"Content-Encoding": "gzip"})
        bring(made, tmp_path / "item", server.url).assert_right(made, tmp_path / "item")
        assert server.headers[0]["Accept-Encoding"] == "identity"
        for encoding, words in (("br", "Content-Encoding 'br'"), ("gzip", "cannot be decoded")):
            server.files[path] = Reply(text, headers={"Content-Encoding": encoding})
            brought = bring(made, tmp_path / "other", server.url)
            assert brought.reply == NOTHING
            assert f"warning: {server.url}: the server" in brought.messages
            assert words in brought.messages
        bomb = Reply(gzip.compress(bytes(10_000_000)), headers={"Content-Encoding": "gzip"})
        server.files[path] = bomb
        assert "longer than" in bring(made, tmp_path / "other", server.url).messages
