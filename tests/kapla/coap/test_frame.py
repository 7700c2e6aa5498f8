from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kapla.coap.frame import (
    Code,
    Frame,
    FrameReader,
    MalformedMessage,
    Message,
    Option,
    encode_options,
    encode_uint,
    format_frame,
    format_message,
    is_critical,
    parse_body,
)

REFERENCE_TEXT = b"H77AB7KBIM3SN3P7AP6ETIIUQW3KWQ3IMIVLG5RNQ5YAH5LQHFTQ"

# As python-eris sends them.
CSM = bytes.fromhex("50e12310000020")
GET = (
    bytes.fromhex("d24501f67dbb2e77656c6c2d6b6e6f776e046572697306626c6f636b73")
    + bytes.fromhex("4d27")
    + REFERENCE_TEXT
    + bytes.fromhex("d2200400")
)
PUT_HEAD = bytes.fromhex("e2030c03f67d") + (
    b"\xbb.well-known" + b"\x04eris" + b"\x06blocks" + b"\xff"
)


def message_of(frame: Frame) -> Message:
    code, token, buffer, start, stop = frame
    options, payload = parse_body(buffer, start, stop)
    return Message(code, token, options, payload)


def read(data: bytes, **limits: int) -> list[Message]:
    reader = FrameReader(**limits)
    frames = reader.feed(data)
    assert reader.failure is None
    return [message_of(frame) for frame in frames]


def copied(frames: list[Frame]) -> list[tuple[int, bytes, bytes]]:
    """What frames hold, wherever they point."""
    return [(code, token, buffer[start:stop]) for code, token, buffer, start, stop in frames]


# --- known bytes ------------------------------------------------------------------------------


def test_csm_of_python_eris() -> None:
    assert read(CSM) == [Message(Code.CSM, b"", ((2, b"\x10\x00\x00"), (4, b"")), b"")]


def test_get_of_python_eris() -> None:
    (message,) = read(GET)
    assert message == Message(
        Code.GET,
        b"\xf6\x7d",
        (
            (11, b".well-known"),
            (11, b"eris"),
            (11, b"blocks"),
            (15, REFERENCE_TEXT),
            (60, b"\x04\x00"),
        ),
        b"",
    )
    assert format_message(*message[:3]) == GET


def test_put_of_python_eris() -> None:
    block = bytes(range(256)) * 4
    (message,) = read(PUT_HEAD + block)
    assert message.code == Code.PUT
    assert message.values(11) == [b".well-known", b"eris", b"blocks"]
    assert message.payload == block
    assert format_message(*message) == PUT_HEAD + block


def test_an_empty_message() -> None:
    assert read(b"\x00\x00") == [Message(Code.EMPTY, b"", (), b"")]


# --- lengths and tokens -----------------------------------------------------------------------

LIMIT = 1 << 20


@pytest.mark.parametrize(
    ("length", "header"),
    [
        (0, "0045"),
        (1, "1045"),
        (12, "c045"),
        (13, "d00045"),
        (268, "d0ff45"),
        (269, "e0000045"),
        (65804, "e0ffff45"),
        (65805, "f00000000045"),
        (70000, "f00000106345"),
    ],
)
def test_length_classes(length: int, header: str) -> None:
    body = (b"\xff" + bytes(length - 1)) if length > 1 else bytes(length)
    data = bytes.fromhex(header) + body
    assert format_frame(Code.CONTENT, b"", body) == data
    (frame,) = FrameReader(LIMIT).feed(data + b"\x00")
    assert copied([frame]) == [(Code.CONTENT, b"", body)]
    # One byte less is no frame yet; the byte then completes it.
    reader = FrameReader(LIMIT)
    assert reader.feed(data[:-1]) == []
    assert copied(reader.feed(data[-1:])) == [(Code.CONTENT, b"", body)]


@pytest.mark.parametrize("length", range(9))
def test_tokens(length: int) -> None:
    token = bytes(range(length))
    data = format_message(Code.GET, token, [(11, b"x")])
    assert data[0] & 15 == length
    assert read(data) == [Message(Code.GET, token, ((11, b"x"),), b"")]


@pytest.mark.parametrize("length", range(9, 16))
def test_a_token_that_is_too_long_ends_the_stream(length: int) -> None:
    reader = FrameReader()
    frames = reader.feed(b"\x00\x00" + bytes([length, Code.GET]) + bytes(length) + b"\x00\x00")
    assert len(frames) == 1
    assert str(reader.failure) == f"a token of {length} bytes is too long"
    assert reader.feed(b"\x00\x00") == []


def test_a_message_that_is_too_long_ends_the_stream_before_it_arrives() -> None:
    reader = FrameReader(100)
    whole = format_frame(Code.PUT, b"tt", bytes(95))  # 3 + 2 + 95
    longer = format_frame(Code.PUT, b"tt", bytes(96))
    frames = reader.feed(whole + longer[:3])
    assert len(frames) == 1
    assert str(reader.failure) == "a message of 101 bytes is longer than 100"
    assert reader.feed(longer[3:] + whole) == []


def test_the_largest_length_there_is() -> None:
    reader = FrameReader()
    assert reader.feed(b"\xf0\xff\xff\xff\xff\x45") == []
    assert reader.failure is not None


# --- pieces -----------------------------------------------------------------------------------

BODIES = st.one_of(
    st.binary(max_size=20),
    st.integers(0, 300).map(bytes),
    st.sampled_from([65804, 65805]).map(bytes),
)
FRAMES = st.lists(
    st.builds(format_frame, st.integers(0, 255), st.binary(max_size=8), BODIES), max_size=8
).map(b"".join)


@given(FRAMES, st.data())
def test_pieces_of_any_size_give_the_same_frames(stream: bytes, data: st.DataObject) -> None:
    whole = copied(FrameReader(LIMIT).feed(stream))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12).map(sorted))
    reader = FrameReader(LIMIT)
    pieces: list[Frame] = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        pieces += reader.feed(stream[start:stop])
    assert copied(pieces) == whole
    assert reader.failure is None


@given(st.binary(max_size=300), st.integers(2, 64))
def test_any_bytes_byte_by_byte(stream: bytes, limit: int) -> None:
    whole, single = FrameReader(limit), FrameReader(limit)
    frames = whole.feed(stream)
    assert copied(frames) == copied([f for byte in stream for f in single.feed(bytes([byte]))])
    assert str(whole.failure) == str(single.failure)


def test_three_ways_in() -> None:
    stream = CSM + GET + PUT_HEAD + bytes(1024) + b"\x00\x00"
    whole = copied(FrameReader().feed(stream))
    assert len(whole) == 4
    single = FrameReader()
    assert [f for byte in stream for f in copied(single.feed(bytes([byte])))] == whole
    trailing = FrameReader()
    assert copied(trailing.feed(stream + b"\xd0")) == whole
    assert trailing.failure is None


# --- bodies -----------------------------------------------------------------------------------

OPTION_VALUES = st.one_of(st.binary(max_size=16), st.integers(0, 400).map(bytes))
OPTIONS = st.lists(st.tuples(st.integers(0, 0xFFFF), OPTION_VALUES), max_size=12).map(
    lambda options: tuple(sorted(options, key=lambda option: option[0]))
)


@given(
    st.integers(0, 255),
    st.binary(max_size=8),
    OPTIONS,
    st.one_of(st.binary(), st.just(bytes(70000))),
)
def test_parse_inverts_format(
    code: int, token: bytes, options: tuple[Option, ...], payload: bytes
) -> None:
    data = format_message(code, token, options, payload)
    assert read(data, max_message_size=LIMIT) == [Message(code, token, options, payload)]


@given(st.binary(max_size=80))
def test_any_body_is_read_or_malformed(body: bytes) -> None:
    try:
        options, payload = parse_body(body, 0, len(body))
    except MalformedMessage:
        return
    # What was read says as much as the bytes did, though lengths may have had a longer spelling.
    again = encode_options(options) + (b"\xff" + payload if payload else b"")
    assert parse_body(again, 0, len(again)) == (options, payload)


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
def test_a_body_is_read_between_its_bounds(before: bytes, body: bytes, after: bytes) -> None:
    def outcome(buffer: bytes, start: int, stop: int) -> object:
        try:
            return parse_body(buffer, start, stop)
        except MalformedMessage as error:
            return str(error)

    alone = outcome(body, 0, len(body))
    assert outcome(before + body + after, len(before), len(before) + len(body)) == alone


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("f0", "reserved value 15"),
        ("0f", "reserved value 15"),
        ("f1aa", "reserved value 15"),
        ("d0", "cut off"),
        ("0d", "cut off"),
        ("e000", "cut off"),
        ("0e00", "cut off"),
        ("dd00", "cut off"),
        ("b2aa", "longer than the message"),
        ("bdff" + "00" * 10, "longer than the message"),
        ("ff", "without a payload"),
        ("b161ff", "without a payload"),
        ("e0ffff", "beyond 65535"),
        ("e0fef200" + "10", "beyond 65535"),
        ("00" * 65, "more than 64 options"),
    ],
)
def test_malformed_bodies(body: str, reason: str) -> None:
    with pytest.raises(MalformedMessage, match=reason):
        parse_body(bytes.fromhex(body), 0, len(body) // 2)


def test_limits_of_what_is_well_formed() -> None:
    highest = bytes.fromhex("e0fef2")
    assert parse_body(highest, 0, 3) == (((65535, b""),), b"")
    assert len(parse_body(bytes(64), 0, 64)[0]) == 64
    assert parse_body(b"", 0, 0) == ((), b"")


def test_options_must_be_in_order() -> None:
    with pytest.raises(ValueError, match="order"):
        encode_options([(15, b""), (11, b"")])


@given(st.integers(0, 2**64))
def test_uint_values(value: int) -> None:
    data = encode_uint(value)
    assert int.from_bytes(data, "big") == value
    assert not data.startswith(b"\0")


def test_critical_options_are_odd() -> None:
    assert [number for number in (1, 2, 11, 12, 23, 60, 65535) if is_critical(number)] == [
        1,
        11,
        23,
        65535,
    ]
