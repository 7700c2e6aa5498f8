from __future__ import annotations

import io
import os
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kapla.doors.file import BUFFER_SIZE, ContentFile
from tests.examples import examples

CONTENT: Final = bytes(range(251)) * 20_000


class Asked:
    """A content, and what was read of it."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        return self.content[offset : offset + length]

    def open(self) -> io.BufferedReader:
        raw = ContentFile(self.read, lambda: len(self.content), "name")
        return io.BufferedReader(raw, BUFFER_SIZE)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 3_000_000), st.just(0)),
        st.tuples(st.just("seek"), st.integers(0, len(CONTENT) + 100), st.just(os.SEEK_SET)),
        st.tuples(st.just("seek"), st.integers(-1000, 1000), st.just(os.SEEK_CUR)),
        st.tuples(st.just("seek"), st.integers(-len(CONTENT), 100), st.just(os.SEEK_END)),
        st.tuples(st.just("readline"), st.integers(0, 100_000), st.just(0)),
    ),
    max_size=12,
)


@given(STEPS)
@settings(max_examples=examples(60), deadline=None)
def test_it_is_read_as_any_file(steps: list[tuple[str, int, int]]) -> None:
    file, like = Asked().open(), io.BytesIO(CONTENT)
    for what, number, whence in steps:
        if what == "seek" and whence == os.SEEK_CUR and like.tell() + number < 0:
            continue
        arguments = (number, whence) if what == "seek" else (number,)
        assert getattr(file, what)(*arguments) == getattr(like, what)(*arguments)
        assert file.tell() == like.tell()


def test_who_reads_in_order_gets_more_at_a_time() -> None:
    asked = Asked()
    file = asked.open()
    while file.read(4096):
        pass
    assert len(asked.reads) < 20
    # Nothing is read twice.
    ends = [min(offset + length, len(CONTENT)) for offset, length in asked.reads]
    assert all(offset == end for (offset, _), end in zip(asked.reads[1:], ends, strict=False))


def test_who_jumps_about_gets_no_more_than_a_buffer() -> None:
    asked = Asked()
    file = asked.open()
    for at in (4_000_000, 1_000_000, 3_000_000, 2_000_000):
        file.seek(at)
        file.read(100)
    assert [length for _, length in asked.reads] == [BUFFER_SIZE] * 4


def test_what_is_large_is_read_in_one() -> None:
    asked = Asked()
    assert len(asked.open().read(2_000_000)) == 2_000_000
    assert len(asked.reads) <= 2


def test_what_is_no_place_or_closed() -> None:
    raw = ContentFile(Asked().read, lambda: len(CONTENT), "")
    assert not hasattr(raw, "name")
    for offset, whence in ((-1, os.SEEK_SET), (-len(CONTENT) - 1, os.SEEK_END), (0, 7)):
        with pytest.raises(ValueError, match=r"place|whence"):
            raw.seek(offset, whence)
    with pytest.raises(io.UnsupportedOperation):
        Asked().open().write(b"x")
    raw.close()
    raw.close()
    for use in (raw.read, raw.readall, raw.tell, raw.seekable, lambda: raw.seek(0)):
        with pytest.raises(ValueError, match="closed"):
            use()
