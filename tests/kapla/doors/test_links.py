from __future__ import annotations

import errno

import pytest

import eris
from eris_fs import EmptyDirectory, Kind, RegularFile, Symlink, TreeReader
from eris_fs.errors import NotADirectory, NotFound, PathError
from kapla.doors.links import LeadsOut, follow, path_of, system_error

FILE = RegularFile(eris.encode(b"Hail ERIS!")[0])
READER = TreeReader(
    eris.MemoryStore(),
    {
        ("a", "b", "file"): FILE,
        ("a", "up"): Symlink("../other"),
        ("other",): FILE,
        ("dir",): Symlink("./a//b/"),
        ("twice",): Symlink("dir/file"),
        ("empty",): EmptyDirectory(),
        ("absolute",): Symlink("/other"),
        ("above",): Symlink("a/../../other"),
        ("circle",): Symlink("back"),
        ("back",): Symlink("circle"),
        ("gone",): Symlink("nothing"),
        ("through",): Symlink("other/x"),
    },
)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("", ""),
        ("/a//./b/", "a/b"),
        ("a/up", "other"),
        ("dir", "a/b"),
        ("dir/file", "a/b/file"),
        ("twice", "a/b/file"),
        ("dir/../up", "other"),
        ("empty", "empty"),
    ],
)
def test_symlinks_are_followed_within_the_tree(path: str, found: str) -> None:
    assert follow(READER.info, path_of(path)).path == path_of(found)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("absolute", LeadsOut),
        ("above", LeadsOut),
        ("../other", LeadsOut),
        ("circle", LeadsOut),
        ("gone", NotFound),
        ("through", NotADirectory),
        ("other/x", NotADirectory),
        ("a/nothing", NotFound),
    ],
)
def test_what_cannot_be_followed(path: str, error: type[PathError]) -> None:
    with pytest.raises(error):
        follow(READER.info, path_of(path))


def test_a_tree_that_is_a_symlink_leads_nowhere() -> None:
    reader = TreeReader(eris.MemoryStore(), {(): Symlink("x")})
    with pytest.raises(LeadsOut):
        follow(reader.info, ())
    single = TreeReader(eris.MemoryStore(), {(): FILE})
    assert follow(single.info, ()).kind is Kind.FILE


def test_errors_are_those_of_the_system() -> None:
    assert isinstance(system_error(NotFound(("a", "b"))), FileNotFoundError)
    assert isinstance(system_error(NotADirectory(("a",))), NotADirectoryError)
    error = system_error(LeadsOut(("a\n",)))
    assert error.errno == errno.ELOOP
    assert error.filename == "a\\n"
