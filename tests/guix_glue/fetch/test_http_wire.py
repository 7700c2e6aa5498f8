"""The pipelining connection, fed with what servers say, whole and in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.fetch.http_wire import PipelinedConnection

Seen = tuple[list[tuple[str, int, bytes]], list[str], bool, bool]
"""Answers; what is unanswered; whether it is still open; whether it failed."""

FIRST = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"
OLD = b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\nabcd"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def see(pieces: list[bytes], asked: int = 3, max_body: int = 100) -> Seen:
    wire = PipelinedConnection("h", max_body=max_body)
    for number in range(asked):
        wire.request(f"/{number}")
    answers = [answer for piece in pieces for answer in wire.receive(piece)]
    is_open = wire.open
    answers += wire.receive_end()
    assert not wire.open
    failed = wire.failure is not None
    return [(path, one.status, one.body) for path, one in answers], wire.unanswered, is_open, failed


CASES: list[tuple[bytes, Seen]] = [
    (FIRST + MISSING, ([("/0", 200, b"abc"), ("/1", 404, b"")], ["/2"], True, False)),
    (CHUNKED + FIRST, ([("/0", 200, b"abcd"), ("/1", 200, b"abc")], ["/2"], True, False)),
    (CONTINUE + FIRST, ([("/0", 200, b"abc")], ["/1", "/2"], True, False)),
    (FIRST + CLOSING, ([("/0", 200, b"abc"), ("/1", 200, b"x")], ["/2"], False, False)),
    (FIRST + CLOSING + FIRST, ([("/0", 200, b"abc"), ("/1", 200, b"x")], ["/2"], False, False)),
    (OLD + OLD, ([("/0", 200, b"x")], ["/1", "/2"], False, False)),
    (ENDLESS, ([("/0", 200, b"abcd")], ["/1", "/2"], True, False)),
    (FIRST + ENDLESS, ([("/0", 200, b"abc"), ("/1", 200, b"abcd")], ["/2"], True, False)),
    # Cut off: not an answer.
    (FIRST[:-1], ([], ["/0", "/1", "/2"], True, False)),
    (CHUNKED[:-2], ([], ["/0", "/1", "/2"], True, False)),
    (FIRST[:20], ([], ["/0", "/1", "/2"], True, False)),
    # Not HTTP: the request that gets such an answer is not asked again.
    (FIRST + b"SSH-2.0-x\r\n", ([("/0", 200, b"abc")], ["/2"], False, True)),
    (b"\0" * 40, ([], ["/1", "/2"], False, True)),
    (
        b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        ([], ["/1", "/2"], False, True),
    ),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", ([], ["/1", "/2"], False, True)),
    # More than was asked for.
    (FIRST * 4, ([(f"/{n}", 200, b"abc") for n in range(3)], [], False, True)),
]


@pytest.mark.parametrize(("data", "seen"), CASES)
def test_what_servers_say(data: bytes, seen: Seen) -> None:
    assert see([data]) == seen


@pytest.mark.parametrize(("data", "seen"), CASES)
def test_the_same_byte_by_byte(data: bytes, seen: Seen) -> None:
    assert see([bytes([byte]) for byte in data]) == seen


@pytest.mark.parametrize("data", [FIRST, CHUNKED, ENDLESS])
def test_a_body_has_a_limit(data: bytes) -> None:
    assert see([data], max_body=2) == ([], ["/1", "/2"], False, True)
    assert see([bytes([byte]) for byte in data], max_body=2) == ([], ["/1", "/2"], False, True)


@pytest.mark.parametrize("endless", [b"a" * 1000, b"X: y\r\n" * 100])
def test_a_head_has_a_limit(endless: bytes) -> None:
    wire = PipelinedConnection("h")
    wire.request("/0")
    wire.receive(b"HTTP/1.1 200 OK\r\nA: ")
    rounds = 0
    while wire.open and rounds < 1000:
        assert wire.receive(endless) == []
        rounds += 1
    assert wire.failure is not None


CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (CHUNKS + b"3\r\nabc\r\n0\r\nX: ", b"a" * 1000),
        (CHUNKS + b"3\r\nabc\r\n0\r\n", b"X: y\r\n" * 100),
        (CHUNKS + b"3;", b"a" * 1000),
    ],
    ids=["a trailer", "trailers", "an extension of a chunk"],
)
def test_what_stands_around_a_body_has_a_limit(start: bytes, more: bytes) -> None:
    wire = PipelinedConnection("h", max_body=1000)
    wire.request("/0")
    wire.receive(start)
    rounds = 0
    while wire.open and rounds < 1000:
        assert wire.receive(more) == []
        rounds += 1
    assert wire.failure is not None


def test_answers_that_are_complete_count_for_no_limit() -> None:
    wire = PipelinedConnection("h", max_body=100)
    wire.request("/0")
    assert wire.receive(FIRST[:-1]) == []
    seen = 0
    for _ in range(300):
        for number in range(10):
            wire.request(f"/{number}")
        # Each piece ends in the middle of an answer.
        seen += len(wire.receive(FIRST[-1:] + FIRST * 9 + FIRST[:-1]))
    assert (seen, wire.open) == (3000, True)


def test_a_body_may_come_in_the_smallest_chunks() -> None:
    wire = PipelinedConnection("h", max_body=100_000)
    wire.request("/0")
    wire.receive(CHUNKS)
    for _ in range(1000):
        wire.receive(b"1\r\nx\r\n" * 100)
    [(_, response)] = wire.receive(b"0\r\n\r\n")
    assert response.body == b"x" * 100_000


def test_what_is_sent() -> None:
    wire = PipelinedConnection("h:81", {"Authorization": "Basic abc"}, prefix="http://h:81")
    assert wire.request("/x.narinfo") == (
        b"GET http://h:81/x.narinfo HTTP/1.1\r\nHost: h:81\r\nUser-Agent: kapla\r\nAccept: */*\r\n"
        b"Accept-Encoding: identity\r\nAuthorization: Basic abc\r\n\r\n"
    )


ANSWERS = st.sampled_from([FIRST, MISSING, CHUNKED, CLOSING, OLD, ENDLESS, CONTINUE])


@given(st.lists(st.one_of(ANSWERS, st.binary(max_size=30))))
def test_any_bytes_in_any_pieces_are_taken(parts: list[bytes]) -> None:
    data = b"".join(parts)
    whole = see([data])
    assert see([bytes([byte]) for byte in data]) == whole
    answers, unanswered, _, failed = whole
    assert [path for path, _, _ in answers] == [f"/{n}" for n in range(len(answers))]
    assert len(answers) + len(unanswered) + failed in (3, 4)
