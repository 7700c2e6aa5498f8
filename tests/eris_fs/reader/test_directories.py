"""What is in the directories of a tree, and which small files come together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eris import BlockSize, ReadCapability
from eris.encode import encode
from eris_fs import EmptyDirectory, Entry, Path, RegularFile, Symlink
from eris_fs.reader.directories import Directories
from eris_fs.reader.small import is_small
from eris_fs.reader.together import Together
from tests.eris.helpers import make_content
from tests.eris_fs.trees import capability

FILE = RegularFile(capability())
entries: st.SearchStrategy[Entry] = st.sampled_from([FILE, Symlink("x"), EmptyDirectory()])
names = st.sampled_from(["a", "a ", "a\x01", "ab", "b", "é", "\udcff", "~"])


@st.composite
def trees(draw: st.DrawFn) -> dict[Path, Entry]:
    """Trees whose names begin like each other."""
    tree: dict[Path, Entry] = {}
    for path in draw(st.lists(st.lists(names, min_size=1, max_size=4).map(tuple), max_size=12)):
        within = [other for other in tree if other[: len(path)] == path]
        under = [other for other in tree if path[: len(other)] == other]
        if not within and not under:
            tree[path] = draw(entries)
    return tree


@given(trees())
def test_directories_hold_what_paths_imply(tree: dict[Path, Entry]) -> None:
    directories = Directories(tree)
    implied: dict[Path, set[str]] = {(): set()}
    for path, entry in tree.items():
        for depth, name in enumerate(path):
            implied.setdefault(path[:depth], set()).add(name)
        if isinstance(entry, EmptyDirectory):
            implied[path] = set()
    for path in {*implied, *tree, ("a", "nowhere"), ("nowhere",), ("a\0",)}:
        assert (path in directories) == (path in implied)
        expected = sorted(implied.get(path, ()))
        assert list(directories.names(path)) == expected
        for begin in ("a", "b"):
            assert list(directories.names(path, begin)) == [one for one in expected if one >= begin]


def test_a_tree_that_is_a_file_has_no_directory() -> None:
    directories = Directories({(): FILE})
    assert () not in directories
    assert list(directories.names(())) == []


def small(number: int, level: int = 0, size: BlockSize = BlockSize.SMALL) -> RegularFile:
    data = bytes([size.code, level]) + number.to_bytes(64, "big")
    return RegularFile(ReadCapability.from_bytes(data))


def test_small_is_what_a_part_is_not_worth_asking_for() -> None:
    for length in (0, 1023, 1024, 16 * 1024 - 1):
        assert is_small(encode(make_content(length))[0])
    for length in (16 * 1024, 40_000):
        assert is_small(encode(make_content(length))[0]) == (length < 32 * 1024)
    assert not is_small(encode(make_content(20_000), block_size=BlockSize.SMALL)[0])


def test_a_directory_comes_together_but_for_what_came_before() -> None:
    tree: dict[Path, Entry] = {("d", f"{number:03}"): small(number) for number in range(200)}
    tree[("d", "050-large")] = small(1000, level=2)
    tree[("d", "060-in", "file")] = small(1001)
    tree[("d", "070-link")] = Symlink("x")
    together = Together(tree, Directories(tree))
    brought = list(together.bring(("d", "100")))
    # What is behind it first, then what is before.
    assert [one.root.key[-1] for one in brought] == [*range(101, 200), *range(100)]
    assert list(together.bring(("d", "100"))) == []
    assert list(together.bring(("d", "020"))) == []
    assert list(together.bring(("d", "060-in", "file"))) == []


def test_one_read_brings_no_more_than_costs_little() -> None:
    many: dict[Path, Entry] = {(f"{number:05}",): small(number) for number in range(5000)}
    together = Together(many, Directories(many))
    assert len(list(together.bring(("01000",)))) == 256
    # On from there, as far as nothing was brought.
    assert len(list(together.bring(("00900",)))) == 99
    assert len(list(together.bring(("01257",)))) == 256
    large: dict[Path, Entry] = {
        (f"{number:05}",): small(number, size=BlockSize.LARGE) for number in range(100)
    }
    together = Together(large, Directories(large))
    assert len(list(together.bring(("00000",)))) == 32
