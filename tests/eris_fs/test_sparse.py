"""Zeros that take no room: what is written of a content, and how long the file gets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eris.model import Hole
from eris_fs import FileChanged, OpenFile, SparseFile
from eris_fs.sparse import data_in

PAGE = 4096

runs = st.lists(
    st.integers(1, 3 * PAGE).map(bytes) | st.integers(1, PAGE).map(lambda size: b"x" * size),
    max_size=6,
).map(b"".join)


@given(runs, st.integers(0, 2 * PAGE))
@example(bytes(PAGE), 0)
@example(bytes(2 * PAGE), 1)
def test_what_is_not_written_is_pages_of_zeros(content: bytes, place: int) -> None:
    written = bytearray(len(content))
    end = skipped = 0
    for start, stop in data_in(content, place):
        assert end <= start < stop
        skipped += start - end
        written[start:stop] = content[start:stop]
        end = stop
    assert written == content
    pages = range(-place % PAGE, len(content) - PAGE + 1, PAGE)
    zeros = sum(content[at : at + PAGE] == bytes(PAGE) for at in pages)
    assert skipped + len(content) - end == zeros * PAGE


@given(st.lists(runs, max_size=4))
@example([bytes(PAGE), b"x", bytes(2 * PAGE)])
def test_the_file_is_its_content(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "sparse"
    with path.open("wb", buffering=0) as file:
        sparse = SparseFile(file.fileno())
        for piece in pieces:
            sparse.write(piece)
        sparse.finish()
    assert path.read_bytes() == b"".join(pieces)


def has_holes(path: Path) -> bool:
    status = path.stat()
    return status.st_blocks * 512 < status.st_size


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """Data between two holes, and at the end."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(10 << 20)
        file.seek(4 << 20)
        file.write(b"middle" * 1000)
        file.seek((10 << 20) - 3)
        file.write(b"end")
    if not has_holes(path):
        pytest.skip("this file system keeps no holes")
    return path


def opened(path: Path) -> OpenFile:
    descriptor = os.open(path, os.O_RDONLY)
    return OpenFile(descriptor, str(path), os.fstat(descriptor))


def read(file: OpenFile) -> tuple[bytes, int]:
    """All of it, and how much of that came as holes."""
    content, passed = b"", 0
    while piece := file.read_piece(1 << 16):
        if isinstance(piece, Hole):
            passed += piece
        content += bytes(piece)
    return content, passed


def test_holes_are_passed(sparse: Path) -> None:
    with opened(sparse) as file:
        content, passed = read(file)
        assert content == sparse.read_bytes()
        assert passed > 9 << 20
        file.rewind()
        assert read(file) == (content, passed)


def test_a_hole_at_the_end_and_one_alone(tmp_path: Path, sparse: Path) -> None:
    os.truncate(sparse, 8 << 20)
    with opened(sparse) as file:
        assert read(file)[0] == sparse.read_bytes()
    alone = tmp_path / "alone"
    alone.touch()
    os.truncate(alone, 1 << 30)
    with opened(alone) as file:
        assert file.read_piece(1) == Hole(1 << 30)
        assert file.read_piece(1) == b""


def test_a_file_that_is_written_to_between_two_holes(sparse: Path) -> None:
    with opened(sparse) as file:
        assert isinstance(file.read_piece(1 << 16), Hole)
        with sparse.open("r+b") as other:
            other.write(b"x")
        os.utime(sparse, (1.5e9, 1.5e9))
        with pytest.raises(FileChanged):
            read(file)


def test_a_file_that_is_cut_short_in_a_hole(sparse: Path) -> None:
    with opened(sparse) as file:
        os.truncate(sparse, 100)
        with pytest.raises(FileChanged):
            read(file)
