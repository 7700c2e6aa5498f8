from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kapla.coap.connection import Connection, is_request
from kapla.coap.frame import (
    Code,
    FrameReader,
    Message,
    Option,
    encode_uint,
    format_message,
    parse_body,
)

EMPTY_CSM = b"\x00\xe1"


def sent(connection: Connection) -> list[Message]:
    """What the connection wants to send."""
    messages = []
    for code, token, buffer, start, stop in FrameReader().feed(connection.take_output()):
        options, payload = parse_body(buffer, start, stop)
        messages.append(Message(code, token, options, payload))
    return messages


def greeted(*options: Option) -> Connection:
    connection = Connection()
    connection.take_output()
    assert connection.receive(format_message(Code.CSM, options=options)) == []
    return connection


def codes(connection: Connection, data: bytes) -> list[int]:
    return [frame[0] for frame in connection.receive(data)]


# --- greeting ---------------------------------------------------------------------------------


def test_our_csm_comes_first() -> None:
    connection = Connection()
    assert connection.has_output
    # Max-Message-Size 131072, Block-Wise-Transfer.
    assert connection.take_output() == bytes.fromhex("50e12302000020")
    assert not connection.has_output
    assert connection.take_output() == b""


def test_the_csm_announces_the_limit_that_holds() -> None:
    connection = Connection(max_message_size=2000)
    assert sent(connection)[0].options[0] == (2, b"\x07\xd0")
    connection.receive(EMPTY_CSM + format_message(Code.PUT, payload=bytes(2000)))
    assert connection.closing is not None and connection.closing.aborted
    assert [message.code for message in sent(connection)] == [Code.ABORT]


@pytest.mark.parametrize(
    "first",
    [
        format_message(Code.GET, b"t", [(11, b"blocks")]),
        format_message(Code.CONTENT, b"t"),
        format_message(Code.EMPTY),
        format_message(Code.PING),
        format_message(Code.PONG),
        format_message(Code.RELEASE),
        format_message(Code.ABORT),
        format_message(0xFF),
    ],
)
def test_whoever_does_not_begin_with_a_csm_is_aborted(first: bytes) -> None:
    connection = Connection()
    connection.take_output()
    assert connection.receive(first + EMPTY_CSM) == []
    (abort,) = sent(connection)
    assert abort.code == Code.ABORT
    assert abort.payload == b"the first message was not a CSM"
    assert connection.closing is not None and connection.closing.aborted
    assert not connection.peer_known


def test_requests_may_follow_the_csm_at_once() -> None:
    connection = Connection()
    assert codes(connection, EMPTY_CSM + b"\x00\x01\x00\x03") == [Code.GET, Code.PUT]
    assert connection.peer_known


def test_requests_are_taken_before_the_first_csm_is_whole() -> None:
    connection = Connection()
    assert codes(connection, EMPTY_CSM[:1]) == []
    assert not connection.peer_known
    assert codes(connection, EMPTY_CSM[1:] + b"\x00\x01") == [Code.GET]


# --- CSM options ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "size", "whole"),
    [
        ([], 1152, True),  # eris-nim: says nothing, takes everything
        ([(2, b"\x10\x00\x00"), (4, b"")], 0x100000, True),  # aiocoap
        ([(2, b"\x10\x00\x00")], 0x100000, True),
        ([(4, b"")], 1152, False),
        ([(2, b"\x04\x80"), (4, b"")], 1152, False),
        ([(2, b"\x80\x00")], 32768, False),
        ([(2, b"\x80\x3f")], 32831, False),
        ([(2, b"\x80\x40")], 32832, True),
        ([(2, b"")], 1152, False),  # in which nothing fits
        ([(2, b"\x4f")], 1152, False),
        ([(2, b"\x50")], 80, False),
        ([(2, b"\x02\x58")], 600, False),
        ([(2, b"\xff\xff\xff\xff")], 0xFFFFFFFF, True),
        ([(2, b"\x01\xff\xff\xff\xff")], 1152, True),  # of impossible length: as if not there
        ([(6, b"elective"), (100, b"")], 1152, True),
    ],
)
def test_what_a_csm_says(options: list[Option], size: int, whole: bool) -> None:
    connection = greeted(*options)
    assert connection.closing is None
    assert connection.peer_max_message_size == size
    assert connection.takes_whole_blocks is whole
    assert connection.peer_block_wise is any(number == 4 for number, _ in options)


@pytest.mark.parametrize(
    ("size", "piece"),
    [(80, 16), (95, 16), (96, 32), (600, 512), (1087, 512), (1088, 1024), (1 << 20, 1024)],
)
def test_pieces_fit_what_the_peer_takes(size: int, piece: int) -> None:
    assert greeted((2, encode_uint(size))).piece_size == piece


def test_a_later_csm_changes_the_limits() -> None:
    connection = greeted((2, b"\x04\x80"))
    assert not connection.takes_whole_blocks
    connection.receive(format_message(Code.CSM, options=[(2, b"\x10\x00\x00")]))
    assert connection.takes_whole_blocks
    connection.receive(format_message(Code.CSM, options=[(2, b"\x04\x80")]))
    assert not connection.takes_whole_blocks


@pytest.mark.parametrize("number", [1, 3, 5, 255, 65535])
def test_an_unknown_critical_option_in_a_csm(number: int) -> None:
    connection = greeted((number, b""))
    (abort,) = sent(connection)
    assert abort.code == Code.ABORT
    assert [(n, int.from_bytes(value, "big")) for n, value in abort.options] == [(2, number)]
    assert b"CSM" in abort.payload


# --- signals ----------------------------------------------------------------------------------


def test_ping_is_answered_with_its_token() -> None:
    connection = greeted()
    token = b"12345678"
    assert connection.receive(format_message(Code.PING, token)) == []
    assert sent(connection) == [Message(Code.PONG, token, (), b"")]


def test_ping_with_custody_is_answered_without_claiming_it() -> None:
    connection = greeted()
    connection.receive(format_message(Code.PING, b"t", [(2, b"")]))
    assert sent(connection) == [Message(Code.PONG, b"t", (), b"")]


def test_whoever_answers_requests_is_handed_a_ping_with_custody_among_them() -> None:
    connection = Connection(hands_on_custody=True)
    connection.take_output()
    ping = format_message(Code.PING, b"t", [(2, b"")])
    stream = b"\x00\xe1" + b"\x00\x01" + ping + b"\x00\x02" + format_message(Code.PING, b"u")
    assert codes(connection, stream) == [Code.GET, Code.PING, Code.POST]
    assert sent(connection) == [Message(Code.PONG, b"u", (), b"")]
    connection.receive(ping * 65)
    assert [message.code for message in sent(connection)] == [Code.ABORT]


@pytest.mark.parametrize("code", [Code.PING, Code.PONG])
def test_an_unknown_critical_option_in_a_signal(code: int) -> None:
    connection = greeted()
    connection.receive(format_message(code, b"t", [(3, b"")]))
    assert [message.code for message in sent(connection)] == [Code.ABORT]


def test_our_ping() -> None:
    connection = greeted()
    connection.ping(b"x")
    assert sent(connection) == [Message(Code.PING, b"x", (), b"")]
    assert connection.receive(format_message(Code.PONG, b"x")) == []
    assert connection.closing is None and not connection.has_output


def test_after_a_release_answers_may_still_come() -> None:
    connection = greeted()
    stream = b"\x00\x45" + format_message(Code.RELEASE) + b"\x00\x84"
    assert not connection.released
    assert codes(connection, stream) == [Code.CONTENT, Code.NOT_FOUND]
    assert connection.released and connection.closing is None
    assert not connection.has_output


def test_our_release() -> None:
    connection = greeted()
    connection.release()
    connection.release()
    assert sent(connection) == [Message(Code.RELEASE, b"", (), b"")]
    assert connection.closing is not None and not connection.closing.aborted
    assert connection.receive(b"\x00\x01") == []


def test_abort_says_why_in_one_printable_line() -> None:
    connection = greeted()
    words = "tired\n\x1b[2J\u202ebye".encode() + b"\xff" * 1000
    assert connection.receive(format_message(Code.ABORT, payload=words)) == []
    assert connection.closing is not None and connection.closing.aborted
    assert connection.closing.reason.startswith("aborted by the peer: tired??[2J?bye")
    assert connection.closing.reason.isprintable()
    assert len(connection.closing.reason) < 250
    assert not connection.has_output


def test_abort_without_a_reason() -> None:
    connection = greeted()
    connection.receive(format_message(Code.ABORT))
    assert connection.closing is not None
    assert connection.closing.reason == "aborted by the peer: no reason"


def test_empty_messages_are_ignored() -> None:
    connection = greeted()
    assert codes(connection, b"\x00\x00\x00\x01\x00\x00") == [Code.GET]
    assert connection.closing is None and not connection.has_output


@pytest.mark.parametrize("code", [0xE0, 0xE6, 0xFF])
def test_signals_of_later_standards_are_ignored(code: int) -> None:
    connection = greeted()
    assert codes(connection, format_message(code, b"t", [(3, b"x")]) + b"\x00\x01") == [Code.GET]
    assert connection.closing is None and not connection.has_output


def test_a_malformed_signal_ends_the_connection() -> None:
    connection = greeted()
    assert connection.receive(b"\x10\xe2\xff") == []
    (abort,) = sent(connection)
    assert abort.code == Code.ABORT
    assert b"malformed" in abort.payload


def test_what_came_before_a_broken_frame_is_still_handed_out() -> None:
    connection = greeted()
    assert codes(connection, b"\x00\x01\x0f\x01" + bytes(15)) == [Code.GET]
    assert connection.closing is not None
    assert connection.closing.reason == "a token of 15 bytes is too long"
    assert [message.code for message in sent(connection)] == [Code.ABORT]


def test_responses_are_handed_out_too() -> None:
    assert codes(greeted(), b"\x00\x45\x00\x84") == [Code.CONTENT, Code.NOT_FOUND]


@pytest.mark.parametrize(
    ("code", "expected"),
    [(0, False), (1, True), (7, True), (31, True), (32, True), (0x40, False), (0xE1, False)],
)
def test_what_a_request_is(code: int, expected: bool) -> None:
    assert is_request(code) is expected


# --- anything ---------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
def test_any_bytes_are_followed_or_aborted(pieces: list[bytes], csm: bool) -> None:
    connection = greeted() if csm else Connection()
    for piece in pieces:
        over = connection.closing is not None
        frames = connection.receive(piece)
        assert not (over and frames)
        assert all(0 < frame[0] < 0xE0 for frame in frames)
    sent(connection)


SIGNALS = st.builds(
    format_message,
    st.sampled_from([0, 1, 3, 0x45, 0xE1, 0xE2, 0xE3, 0xE6]),
    st.binary(max_size=8),
    st.lists(st.tuples(st.sampled_from([2, 4, 6]), st.binary(max_size=5)), max_size=2).map(sorted),
)


@given(st.lists(SIGNALS, max_size=10).map(b"".join), st.data())
def test_pieces_of_any_size_mean_the_same(stream: bytes, data: st.DataObject) -> None:
    def outcome(pieces: list[bytes]) -> object:
        connection = Connection()
        found = [
            (frame[0], frame[1], frame[2][frame[3] : frame[4]])
            for piece in pieces
            for frame in connection.receive(piece)
        ]
        closing = connection.closing and (connection.closing.reason, connection.closing.aborted)
        return found, connection.take_output(), closing, connection.takes_whole_blocks

    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6).map(sorted))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert outcome(pieces) == outcome([stream])
