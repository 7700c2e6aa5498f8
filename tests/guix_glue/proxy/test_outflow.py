"""What of a nar may go out: sources are played through, byte by byte if need be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.errors import FetchFailed, HashMismatch, InvalidNar
from guix_glue.proxy.outflow import HELD, OtherBeginning, Outflow

NAR = hashlib.shake_128(b"nar").digest(1000)


def outflow(nar: bytes = NAR, held: int = 100) -> Outflow:
    return Outflow(hashlib.sha256(nar).digest(), len(nar), held)


def cut(data: bytes, step: int) -> Iterator[bytes]:
    return (data[start : start + step] for start in range(0, len(data), step))


def play(flow: Outflow, source: bytes, step: int) -> bytes:
    """What goes out of a source."""
    flow.begin()
    out = b"".join(flow.feed(piece) for piece in cut(source, step))
    return out + flow.finish()


@pytest.mark.parametrize("step", [1, 7, 99, 100, 101, 900, 1000])
@pytest.mark.parametrize("held", [0, 1, 100, 999, 1000, 5000])
def test_all_of_a_right_nar(step: int, held: int) -> None:
    assert play(outflow(held=held), NAR, step) == NAR


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_the_last_bytes_wait_for_the_hash(step: int) -> None:
    flow = outflow()
    flow.begin()
    out = b"".join(flow.feed(piece) for piece in cut(NAR, step))
    assert out == NAR[:-100]
    assert flow.sent == 900
    assert flow.finish() == NAR[-100:]
    assert flow.sent == 1000


def test_by_default_64_kib_are_held_back() -> None:
    nar = bytes(HELD + 1)
    flow = Outflow(hashlib.sha256(nar).digest(), len(nar))
    flow.begin()
    assert flow.feed(nar) == nar[:1]
    assert flow.finish() == nar[1:]


@pytest.mark.parametrize("place", [0, 500, 899, 900, 999])
def test_nothing_wrong_is_ever_whole(place: int) -> None:
    wrong = NAR[:place] + bytes([NAR[place] ^ 1]) + NAR[place + 1 :]
    flow = outflow()
    with pytest.raises(HashMismatch):
        play(flow, wrong, 10)
    assert flow.sent == 900


def test_a_nar_that_is_too_short_or_too_long() -> None:
    for held in (0, 100):
        with pytest.raises(InvalidNar):
            play(outflow(held=held), NAR[:-1], 10)
        with pytest.raises(FetchFailed, match="longer than 1000 bytes"):
            play(outflow(held=held), NAR + b"x", 10)


@given(st.integers(0, 1000), st.integers(1, 300), st.integers(1, 300))
def test_another_source_goes_on(broken_off: int, step: int, other_step: int) -> None:
    flow = outflow()
    flow.begin()
    out = b"".join(flow.feed(piece) for piece in cut(NAR[:broken_off], step))
    assert out + play(flow, NAR, other_step) == NAR


@given(st.lists(st.integers(0, 1000), max_size=5), st.integers(1, 300))
def test_however_often_it_breaks_off(places: list[int], step: int) -> None:
    flow = outflow()
    out = b""
    for place in places:
        flow.begin()
        out += b"".join(flow.feed(piece) for piece in cut(NAR[:place], step))
        assert out == NAR[: flow.sent]
    assert out + play(flow, NAR, step) == NAR


@pytest.mark.parametrize("place", [0, 250, 499])
def test_a_source_that_begins_otherwise_is_passed_over(place: int) -> None:
    wrong = NAR[:place] + bytes([NAR[place] ^ 1]) + NAR[place + 1 :]
    flow = outflow()
    flow.begin()
    out = flow.feed(NAR[:500])
    for step in (1, 100, 1000):
        with pytest.raises(OtherBeginning):
            play(flow, wrong, step)
        assert flow.sent == 500
    # One that never came so far says nothing.
    flow.begin()
    assert flow.feed(wrong[:400]) == b""
    assert out + play(flow, NAR, 70) == NAR


def test_a_wrong_end_can_be_mended_by_another_source() -> None:
    flow = outflow()
    flow.begin()
    out = flow.feed(NAR[:-1] + b"?")
    with pytest.raises(HashMismatch):
        flow.finish()
    assert out + play(flow, NAR, 1000) == NAR


def test_a_wrong_beginning_cannot() -> None:
    flow = outflow()
    with pytest.raises(HashMismatch):
        play(flow, b"?" + NAR[1:], 1000)
    with pytest.raises(OtherBeginning):
        play(flow, NAR, 1000)
