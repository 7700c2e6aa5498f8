"""The worker protocol against the captured session, and against nonsense."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.errors import ProtocolError
from guix_glue.local.worker_protocol import (
    Answer,
    Event,
    Failure,
    Ready,
    WantsData,
    WorkerClient,
)
from guix_glue.local.worker_requests import (
    Request,
    WorkerLimits,
    import_paths,
    is_valid_path,
    query_path_from_hash_part,
    query_path_info,
    query_valid_paths,
)
from tests.guix_glue.local.session import (
    APP,
    APP_FOUND,
    APP_INFO,
    APP_INFO_TURN,
    APP_IS_VALID,
    DONE,
    HANDSHAKE,
    REQUESTS,
    TURNS,
    log_text,
    string,
    word,
)


def ready(limits: WorkerLimits | None = None) -> WorkerClient:
    client = WorkerClient() if limits is None else WorkerClient(limits)
    for turn in HANDSHAKE:
        assert client.data_to_send() == turn.sent
        event = client.receive(turn.received)
    assert event == Ready()
    return client


def answer(request: Request[object], received: bytes, limits: WorkerLimits | None = None) -> object:
    """What a daemon that says this makes of a request: a value, or a failure."""
    client = ready(limits)
    client.request(request)
    return outcome(client.receive(received))


def outcome(event: Event | None) -> object:
    assert isinstance(event, Answer | Failure)
    return event.value if isinstance(event, Answer) else event


def assert_busy(client: WorkerClient) -> None:
    with pytest.raises(RuntimeError):
        client.request(is_valid_path(APP))


EXPECTED = [
    True,
    APP_INFO,
    APP,
    None,
    Failure(f"path `/gnu/store/{'0' * 32}-x' is not valid", 1),
    Failure("invalid hash part", 1),
    True,
]


def test_the_captured_session() -> None:
    client = ready()
    results = []
    for request, turn in zip(REQUESTS, TURNS[2:], strict=False):
        client.request(request)
        assert client.data_to_send() == turn.sent
        results.append(outcome(client.receive(turn.received)))
    assert results == EXPECTED


def pieces(data: bytes, size: int) -> Iterable[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 3, 7, 8, 13])
def test_in_pieces(size: int) -> None:
    client = WorkerClient()
    events: list[Event | None] = []
    for turn in HANDSHAKE:
        client.data_to_send()
        events += map(client.receive, pieces(turn.received, size))
    for request, turn in zip(REQUESTS, TURNS[2:], strict=False):
        client.request(request)
        for piece in pieces(turn.received, size):
            assert_busy(client)
            events.append(client.receive(piece))
    found = [event for event in events if event is not None]
    assert found[0] == Ready()
    assert list(map(outcome, found[1:])) == EXPECTED


def test_every_split_in_two() -> None:
    received = log_text(b"one\n") + APP_INFO_TURN.received
    for middle in range(1, len(received)):
        client = ready()
        client.request(query_path_info(APP))
        assert client.receive(received[:middle]) is None
        assert client.receive(received[middle:]) == Answer(APP_INFO)


def test_the_order_of_the_handshake() -> None:
    client = WorkerClient()
    # The version is not told before the daemon has told its own.
    assert client.data_to_send() == HANDSHAKE[0].sent
    assert client.receive(HANDSHAKE[0].received[:15]) is None
    assert client.data_to_send() == b""
    assert client.receive(HANDSHAKE[0].received[15:]) is None
    assert client.data_to_send() == HANDSHAKE[1].sent
    assert_busy(client)
    assert client.receive(HANDSHAKE[1].received) == Ready()


def test_a_handshake_that_is_refused() -> None:
    client = WorkerClient()
    client.receive(HANDSHAKE[0].received)
    refusal = word(0x63787470) + string(b"go away") + word(1)
    assert client.receive(refusal) == Failure("go away", 1)
    assert_busy(client)


@pytest.mark.parametrize("version", [0, 0x120, 0x15F, 0x200, 0x264, 2**64 - 1])
def test_versions_that_are_not_known(version: int) -> None:
    with pytest.raises(ProtocolError, match="version"):
        WorkerClient().receive(HANDSHAKE[0].received[:8] + word(version))


@pytest.mark.parametrize("version", [0x160, 0x163, 0x164, 0x1FF])
def test_versions_of_guix(version: int) -> None:
    assert WorkerClient().receive(HANDSHAKE[0].received[:8] + word(version)) is None


def test_something_else_on_the_socket() -> None:
    with pytest.raises(ProtocolError, match="no Guix daemon"):
        WorkerClient().receive(b"HTTP/1.1 400 Bad Request\r\n")


def test_what_the_daemon_says_before_its_answer() -> None:
    said = log_text(b"waiting for the big garbage collector lock...\n") + log_text(b"")
    assert answer(is_valid_path(APP), said + APP_IS_VALID.received) is True
    failed = word(0x63787470) + string(b"no") + word(1)
    assert answer(is_valid_path(APP), said + failed) == Failure("no", 1)


def test_one_request_at_a_time() -> None:
    assert_busy(WorkerClient())
    client = ready()
    client.request(is_valid_path(APP))
    assert_busy(client)


def test_a_request_that_takes_data() -> None:
    client = ready()
    client.request(import_paths())
    assert client.data_to_send() == word(27)
    wants = word(0x64617461) + word(5)
    assert client.receive(log_text(b"importing\n") + wants[:-1]) is None
    assert client.receive(wants[-1:]) == WantsData(5)
    client.provide(b"abc")
    assert client.data_to_send() == string(b"abc")
    assert client.receive(wants) == WantsData(5)
    client.provide(b"")
    assert client.data_to_send() == word(0)
    paths = word(2) + string(b"/gnu/store/a") + string(b"/gnu/store/b")
    assert client.receive(DONE + paths) == Answer(("/gnu/store/a", "/gnu/store/b"))
    # No other request may be asked for any.
    client.request(is_valid_path(APP))
    with pytest.raises(ProtocolError, match="moves data that no request is about"):
        client.receive(wants)


def test_which_of_some_are_valid() -> None:
    client = ready()
    client.request(query_valid_paths(["/gnu/store/a", "/gnu/store/b"]))
    asked = word(31) + word(2) + string(b"/gnu/store/a") + string(b"/gnu/store/b")
    assert client.data_to_send() == asked
    assert client.receive(DONE + word(0)) == Answer(())


def test_words_that_nobody_asked_for() -> None:
    with pytest.raises(ProtocolError, match="without being asked"):
        ready().receive(b"\0")
    client = ready()
    client.request(is_valid_path(APP))
    with pytest.raises(ProtocolError, match="without being asked"):
        client.receive(APP_IS_VALID.received + b"\0")
    assert_busy(client)


HASH = b"ab" * 32
INFO_END = word(0) + word(7) + word(120)


@pytest.mark.parametrize(
    ("request_", "received"),
    [
        (is_valid_path(APP), DONE + word(2)),
        (is_valid_path(APP), word(12345)),
        (is_valid_path(APP), word(0x64617461) + word(8)),
        (is_valid_path(APP), word(0x64617416) + string(b"nar")),
        (is_valid_path(APP), word(0x6F6C6D67) + word(2**63)),
        (is_valid_path(APP), word(0x63787470) + word(2**20 + 1)),
        (is_valid_path(APP), word(0x6F6C6D67) + word(1) + b"a\1\0\0\0\0\0\0"),
        (query_path_from_hash_part("0" * 32), DONE + word(4097)),
        (query_path_from_hash_part("0" * 32), DONE + string(b"/gnu/store/\xff")),
        (query_path_info(APP), DONE + string(b"") + string(HASH[1:])),
        (query_path_info(APP), DONE + string(b"") + string(b"xy" * 32)),
        (query_path_info(APP), DONE + string(b"") + string(b"ab " * 21 + b"a")),
        (query_path_info(APP), DONE + string(b"") + string(b"sha256:" + HASH)),
        (query_path_info(APP), DONE + string(b"") + string("é".encode() * 32)),
        (query_path_info(APP), DONE + string(b"") + string(HASH) + word(100_001)),
        (query_path_info(APP), DONE + string(b"") + string(HASH) + word(2**64 - 1)),
    ],
)
def test_answers_that_are_none(request_: Request[object], received: bytes) -> None:
    with pytest.raises(ProtocolError):
        answer(request_, received)


def test_what_may_be_missing() -> None:
    info = answer(query_path_info(APP), DONE + string(b"") + string(HASH) + INFO_END)
    assert info == type(APP_INFO)(None, bytes.fromhex(HASH.decode()), (), 120)


def test_limits_are_arguments() -> None:
    assert answer(query_path_info(APP), APP_INFO_TURN.received, WorkerLimits(references=3))
    with pytest.raises(ProtocolError):
        answer(query_path_info(APP), APP_INFO_TURN.received, WorkerLimits(references=2))
    with pytest.raises(ProtocolError):
        answer(query_path_from_hash_part(APP[11:43]), APP_FOUND.received, WorkerLimits(path=52))
    with pytest.raises(ProtocolError):
        answer(is_valid_path(APP), log_text(b"12345"), WorkerLimits(message=4))


WORDS = st.one_of(
    st.sampled_from([0x616C7473, 0x6F6C6D67, 0x63787470, 0x6478696F, 0x164, 0, 1, 2, 64]),
    st.integers(0, 2**64 - 1),
).map(word)
GARBAGE = st.lists(st.one_of(WORDS, st.binary(max_size=40).map(string), st.binary(max_size=9)))


@given(GARBAGE, st.sampled_from([None, *REQUESTS]))
def test_garbage_from_the_daemon(garbage: list[bytes], request_: Request[object] | None) -> None:
    client = WorkerClient() if request_ is None else ready()
    if request_ is not None:
        client.request(request_)
    try:
        for data in garbage:
            client.receive(data)
    except ProtocolError:
        assert_busy(client)


@given(st.data())
def test_a_changed_byte(data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(REQUESTS) - 1))
    received = bytearray(TURNS[2 + number].received)
    place = data.draw(st.integers(0, len(received) - 1))
    received[place] ^= data.draw(st.integers(1, 255))
    client = ready()
    client.request(REQUESTS[number])
    try:
        client.receive(bytes(received))
    except ProtocolError:
        assert_busy(client)
