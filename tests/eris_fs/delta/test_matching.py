"""Which file of a base is like a new one: by names, and by samples of content."""

from __future__ import annotations

import random
from hashlib import blake2b
from typing import Any

import pytest

from eris_fs.delta.matching import match_by_name, without_versions
from eris_fs.delta.model import BaseRange
from eris_fs.delta.patching import PIECE_SIZE, PREFIX_SIZE, cut_stream, whole_files
from eris_fs.delta.placing import PART, Marks, around, choose_parts, rows_of, stride_for
from eris_fs.outline import Outline, OutlineFile

MIB = 1024 * 1024


def _outline(files: dict[str, int]) -> Outline:
    return Outline({tuple(path.split("/")): OutlineFile(size) for path, size in files.items()})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("django-5.0.6.dist-info", "django-5.0.17.dist-info"),
        ("libopenblas64_p-r0-5007b62f.3.23.dev.so", "libopenblas64_p-r0-0cf96a72.3.24.dev.so"),
        (
            "0v3g8sl0rq4yxcprp5ywzq23a8qmbwhq-glibc-2.35",
            "zybx1s2m1ia8rznwd9qj6fksqwf9mh0a-glibc-2.36",
        ),
        ("libpython3.11.so.1.0", "libpython3.12.so.1.0"),
    ],
)
def test_names_are_alike_without_what_tells_releases_apart(one: str, other: str) -> None:
    assert without_versions(one) == without_versions(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("deadbeef", "facade"), ("decoder", "encoder"), ("libssl.so.3", "libcrypto.so.3")],
)
def test_other_names_stay_others(one: str, other: str) -> None:
    assert without_versions(one) != without_versions(other)


def _like(base: dict[str, int], new: dict[str, int]) -> dict[str, str]:
    old, tree = _outline(base), _outline(new)
    found = match_by_name(old, tree, range(len(tree.files)))
    return {"/".join(tree.files[file]): "/".join(old.files[at]) for file, at in found.items()}


def test_the_same_path_is_taken_first() -> None:
    base = {"lib/x-1.so": 100, "lib/x-2.so": 5000}
    assert _like(base, {"lib/x-1.so": 5000}) == {"lib/x-1.so": "lib/x-1.so"}


def test_of_several_versions_the_one_of_the_nearest_size_is_taken() -> None:
    base = {"lib/x-1.so": 100, "lib/x-2.so": 5000, "lib/x-3.so": 0}
    assert _like(base, {"lib/x-4.so": 4000}) == {"lib/x-4.so": "lib/x-2.so"}


def test_a_name_is_looked_for_in_the_most_similar_directory() -> None:
    base = {"share/a/names.txt": 10, "share/b/names.txt": 10, "share/b/deep/names.txt": 10}
    new = {"share/b/other/names.txt": 10, "share/c/unknown.txt": 10}
    assert _like(base, new) == {"share/b/other/names.txt": "share/b/deep/names.txt"}


def test_files_that_follow_each_other_share_a_patch() -> None:
    sizes, base = [10, 20, 30], [12, 24]
    cut = list(cut_stream(sizes, [0, 1, 2], {0: 0, 2: 1}, base))
    assert cut == [[BaseRange(0, 0, 10), BaseRange(1, 0, 20), BaseRange(2, 0, 30)]]
    assert whole_files(cut[0], {0: 0, 2: 1}, base) == [BaseRange(0, 0, 12), BaseRange(1, 0, 24)]


def test_a_large_file_is_cut_into_pieces_of_about_one_size() -> None:
    size = 2 * PIECE_SIZE + 10
    (first, second, third, rest) = cut_stream([size, 5], [0, 1], {}, [])
    lengths = [one.length for piece in (first, second, third) for one in piece]
    assert sum(lengths) == size
    assert max(lengths) - min(lengths) <= 1
    assert rest == [BaseRange(1, 0, 5)]


def test_patches_have_room_for_what_their_files_are_like() -> None:
    base = [PREFIX_SIZE - 10, 20]
    assert len(list(cut_stream([5, 5], [0, 1], {0: 0, 1: 1}, base))) == 2
    assert len(list(cut_stream([5, 5], [0, 1], {0: 0, 1: 0}, base))) == 1


def _look(marks: Marks, content: bytes, rows: list[BaseRange]) -> list[tuple[int, int]]:
    data = b"".join(content[one.offset : one.offset + one.length] for one in rows)
    return marks.find_all(rows, data)


def test_moved_content_is_found_at_any_alignment() -> None:
    content = random.Random(4).randbytes(8 * MIB)
    marks = Marks(len(content))
    for start in range(0, len(content), MIB):
        marks.add(BaseRange(7, start, MIB), content[start : start + MIB])
    moved = bytes(33) + content[5 * MIB + 77 : 6 * MIB]
    rows = rows_of(BaseRange(0, 0, len(moved)), marks.stride, 16)
    found = _look(marks, moved, rows)
    assert len(found) >= len(rows) - 1
    assert all(file == 7 and 5 * MIB <= offset < 6 * MIB for file, offset in found)


def test_what_is_everywhere_tells_nothing() -> None:
    marks = Marks(MIB)
    twice = random.Random(5).randbytes(MIB // 2)
    marks.add(BaseRange(0, 0, MIB), twice + twice)
    marks.add(BaseRange(1, 0, MIB), bytes(MIB))
    for content in (twice[:8192], bytes(8192)):
        assert _look(marks, content, [BaseRange(0, 0, len(content))]) == []


class _Seen(bytes):
    """Bytes that count what is taken out of them."""

    taken = 0

    def __getitem__(self, place: Any) -> Any:
        _Seen.taken += 1
        return _Seen(super().__getitem__(place)) if isinstance(place, slice) else place


def test_holes_are_not_looked_through() -> None:
    rows = [BaseRange(0, number * 50_000, 50_000) for number in range(4)]
    hole, full = bytes(200_000), random.Random(6).randbytes(200_000)
    for noted, content in ((hole, full), (full, hole)):
        marks = Marks(len(noted))
        marks.add(BaseRange(0, 0, len(noted)), noted)
        _Seen.taken = 0
        assert marks.find_all(rows, _Seen(content)) == []
        assert _Seen.taken == len(rows)


def test_what_goes_on_is_found_where_it_goes_on() -> None:
    content = random.Random(7).randbytes(2 * MIB)
    marks = Marks(4 * MIB)
    marks.add(BaseRange(0, 0, 2 * MIB), content)
    # The same once more, and earlier by less than the distance of two notes.
    marks.add(BaseRange(1, 0, 2 * MIB - 1000), content[1000:])
    rows = rows_of(BaseRange(0, 0, 2 * MIB), marks.stride, 64)
    assert len({file for file, _ in _look(marks, content, rows)}) == 1


def _string(number: int) -> bytes:
    return blake2b(number.to_bytes(8, "big"), digest_size=40).digest()


def test_marks_take_no_more_memory_for_a_larger_base() -> None:
    assert stride_for(1) == stride_for(128 * MIB) == 4096
    marks = Marks(1 << 50)
    assert marks.stride == stride_for(1 << 31) == 65_536
    for number in range(33_000):
        marks.add(BaseRange(0, number * 65_536, 40), _string(number))
    assert _look(marks, _string(7), [BaseRange(0, 0, 40)]) == [(0, 7 * 65_536)]
    assert _look(marks, _string(32_999), [BaseRange(0, 0, 40)]) == []


def test_parts_with_most_finds_are_taken_and_their_neighbours() -> None:
    sizes = [10 * PART, 3 * PART + 5]
    found = [(0, 4 * PART + 9)] * 3 + [(1, 3 * PART + 1)] * 2 + [(0, 9 * PART)]
    assert choose_parts(found, sizes, 2 * PART) == [
        BaseRange(0, 4 * PART, PART),
        BaseRange(1, 3 * PART, 5),
    ]
    assert choose_parts(found, sizes, 100 * PART) == [
        BaseRange(0, 3 * PART, 3 * PART),
        BaseRange(0, 8 * PART, 2 * PART),
        BaseRange(1, 2 * PART, PART + 5),
    ]
    assert choose_parts([], sizes, 2 * PART) == []


def test_a_range_around_a_place_stays_within_the_file() -> None:
    assert around(3, 100, 0, 40) == BaseRange(3, 0, 40)
    assert around(3, 100, 50, 40) == BaseRange(3, 30, 40)
    assert around(3, 100, 100, 40) == BaseRange(3, 60, 40)
    assert around(3, 30, 10, 40) == BaseRange(3, 0, 30)


def test_a_small_file_like_none_is_like_its_neighbours() -> None:
    base = {"zones/Lima": 900, "zones/Quito": 1300, "zones/list.tab": 1000, "other/Bern": 1000}
    assert _like(base, {"zones/Santiago": 1200}) == {"zones/Santiago": "zones/Quito"}
    assert _like(base, {"zones/Large": MIB}) == {}


def test_what_is_much_larger_is_not_worth_reading() -> None:
    assert _like({"log": 100 * MIB}, {"log": 1000}) == {}
    assert _like({"log": 100 * MIB}, {"log": 10 * MIB}) == {"log": "log"}
