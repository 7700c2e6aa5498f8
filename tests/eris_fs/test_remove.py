"""Removing trees that somebody else may still change: what is outside stays as it is."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eris_fs import remove as remove_module
from eris_fs import remove_at, remove_tree
from tests.descriptors import descriptors, left_open
from tests.eris_fs.trees import File, Link, Node, lay_out, read_back
from tests.integration.users import as_a_user

_EXCHANGE = 2
_CALLS = ("open", "unlink", "rmdir", "scandir", "stat", "fstat", "chmod", "rename", "close")
_NOBODY = 65534


def outside(path: Path) -> dict[str, tuple[int, int, int, int]]:
    """All that is at a path: modes and owners, and when contents were changed."""
    found = {}
    for top, directories, files in os.walk(path):
        for name in (".", *directories, *files):
            at = Path(top, name)
            status = at.lstat()
            found[str(at)] = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns)
    return found


def exchange(one: Path, other: Path) -> None:
    """Exchange two names, as whoever owns a tree may at any time."""
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    renameat2(-100, os.fsencode(one), -100, os.fsencode(other), _EXCHANGE)


@contextmanager
def before_each_call(act: Callable[[int], None]) -> Iterator[list[str]]:
    """Act before each call of the system that removing makes, told its number; gives the calls."""
    calls: list[str] = []
    acting = False

    def hooked(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal acting
            if not acting:
                acting = True
                try:
                    act(len(calls))
                finally:
                    acting = False
                calls.append(name)
            return real(*arguments, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in _CALLS:
            patch.setattr(os, name, hooked(name, getattr(os, name)))
        yield calls


@pytest.mark.parametrize(
    "node", [File(b"x"), Link("kept"), Link("nowhere"), {}, {"a": {"b": Link("../../kept")}}]
)
def test_removing(tmp_path: Path, node: Node) -> None:
    lay_out({"inside": File(b"")}, tmp_path / "kept")
    lay_out(node, tmp_path / "gone")
    before = descriptors()
    remove_tree(tmp_path / "gone")
    remove_tree(tmp_path / "gone")
    remove_tree(tmp_path / "never" / "there")
    assert not left_open(before)
    assert read_back(tmp_path) == {"kept": {"inside": File(b"")}}


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/.", "a/..", "a/"])
def test_only_a_name_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    lay_out({"a": {}, "b": File(b"")}, tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    parent = os.open(".", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Invalid argument"):
            remove_at(parent, name)
    finally:
        os.close(parent)
    assert read_back(tmp_path / "there") == {"a": {}, "b": File(b"")}


# --- somebody else changes the tree meanwhile ---------------------------------------------------


def hostile(where: Path) -> Path:
    """A tree whose `m` can be exchanged for a symlink to a directory of others; returns that."""
    victim, shared = where / "victim", where / "shared"
    lay_out(
        {
            "victim": {"b": File(b"root's"), "d": {"b": File(b"root's")}},
            "shared": {"old": _flippable(victim)},
        },
        where,
    )
    os.chmod(victim, 0o751)
    os.chmod(victim / "d", 0o555)
    os.chmod(shared / "old" / "m" / "d", 0o300)
    os.chmod(shared, 0o1777)
    return victim


def _flippable(victim: Path) -> Node:
    return {"m": {"b": File(b""), "d": {"b": File(b"")}}, "evil": Link(str(victim))}


def test_a_symlink_put_in_the_way_at_any_moment(tmp_path: Path) -> None:
    """At each call in turn, and back again at the next one, or never."""
    number, made = 0, 1
    while number < made:
        for again in (False, True):
            place = tmp_path / f"{number}-{again}"
            victim = hostile(place)
            old = place / "shared" / "old"

            moments = range(number, number + 1 + again)

            def flip(call: int, moments: range = moments, old: Path = old) -> None:
                if call in moments:
                    exchange(old / "m", old / "evil")

            before = outside(victim)
            shared = os.stat(place / "shared").st_mode
            with before_each_call(flip) as calls:
                remove_tree(old)
            assert outside(victim) == before, (number, calls)
            assert os.stat(place / "shared").st_mode == shared
            assert os.listdir(place / "shared") == []
            made = max(made, len(calls))
        number += 1
    assert made > 20


def test_what_was_moved_away_is_emptied_and_no_more(tmp_path: Path) -> None:
    """A directory that is being emptied is taken elsewhere: nothing beside it is touched."""
    for number in range(40):
        place = tmp_path / str(number)
        elsewhere: Node = {"kept": File(b"kept"), "n": {"b": File(b"kept")}}
        lay_out({"old": {"m": {"n": {"b": File(b"")}}}, "elsewhere": elsewhere}, place)

        def move(call: int, wanted: int = number, place: Path = place) -> None:
            if call == wanted and (place / "old" / "m").is_dir():
                os.rename(place / "old" / "m", place / "elsewhere" / "m")

        with before_each_call(move):
            remove_tree(place / "old")
        assert not (place / "old").exists()
        assert (place / "elsewhere" / "kept").read_bytes() == b"kept"
        assert (place / "elsewhere" / "n" / "b").read_bytes() == b"kept"


_FLIP = """
import ctypes, os, sys
renameat2 = ctypes.CDLL(None).renameat2
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
os.chdir(sys.argv[1])
print(flush=True)
while True:
    renameat2(-100, b"m", -100, b"evil", 2)
    renameat2(-100, b"m/b", -100, b"m/d", 2)
"""


def test_a_tree_whose_owner_goes_on_flipping(tmp_path: Path) -> None:
    """As root a tree of somebody else's, who may do no more than anybody; else one's own."""
    root = os.geteuid() == 0
    top = Path(tempfile.mkdtemp())
    place = top / "place"
    try:
        os.chmod(top, 0o755)
        victim = hostile(place)
        before = outside(victim)
        old = place / "shared" / "old"
        for _ in range(15):
            if not old.exists():
                lay_out(_flippable(victim), old)
            if root:
                subprocess.run(["chown", "-hR", str(_NOBODY), old], check=True)
            flipping = subprocess.Popen(
                [sys.executable, "-S", "-c", _FLIP, old], stdout=subprocess.PIPE
            )
            try:
                assert flipping.stdout is not None
                flipping.stdout.readline()
                try:
                    remove_tree(old)
                except OSError as error:
                    assert error.errno == errno.ENOTEMPTY
            finally:
                flipping.kill()
                flipping.communicate()
            assert outside(victim) == before
            assert stat.S_IMODE(os.stat(place / "shared").st_mode) == 0o1777
    finally:
        shutil.rmtree(top)


@pytest.mark.parametrize(("times", "goes"), [(3, True), (10_000, False)])
def test_what_is_added_meanwhile_goes_too_but_not_without_end(
    tmp_path: Path, times: int, goes: bool
) -> None:
    lay_out({"d": {"a": File(b"")}}, tmp_path / "old")
    added = 0

    def add(call: int) -> None:
        nonlocal added
        # Whenever the directory is about to go.
        if calls and calls[-1] == "close" and added < times and (tmp_path / "old" / "d").exists():
            (tmp_path / "old" / "d" / f"n{added}").write_bytes(b"")
            added += 1

    with before_each_call(add) as calls:
        if goes:
            remove_tree(tmp_path / "old")
        else:
            with pytest.raises(OSError, match="goes on adding"):
                remove_tree(tmp_path / "old")
    assert (tmp_path / "old").exists() is not goes
    assert added < 1000


@pytest.mark.parametrize("added", [25, 10_000], ids=["some", "without end"])
def test_a_directory_that_grows_while_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, added: int
) -> None:
    """As file systems may show what is added last of all."""
    old = tmp_path / "old"
    lay_out({"d": {"f": File(b"")}}, old)
    monkeypatch.setattr(remove_module, "_MOST_AT_ONCE", 10)
    names = iter(range(added))

    class Growing:
        def __init__(self, descriptor: int) -> None:
            self._names = os.listdir(descriptor)
            self._descriptor = descriptor

        def __iter__(self) -> Growing:
            return self

        def __next__(self) -> Any:
            # There is always one more, and it is there already.
            if (number := next(names, None)) is not None:
                self._names.append(f"n{number}")
                os.close(os.open(self._names[-1], os.O_CREAT, dir_fd=self._descriptor))
            if not self._names:
                raise StopIteration
            return SimpleNamespace(name=self._names.pop(0))

    monkeypatch.setattr(os, "scandir", Growing)
    if added < 1000:
        remove_tree(old)
        assert not old.exists()
    else:
        with pytest.raises(OSError, match="goes on adding"):
            remove_tree(old)


# --- unusual trees ------------------------------------------------------------------------------


def make_deep(top: Path, levels: int, mode: int = 0o700) -> None:
    """A directory in a directory in a directory …, with a file in each."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.fchmod(here, mode)
        os.close(here)
        here = below
    os.close(here)


def test_a_deep_tree_takes_few_descriptors(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    make_deep(tmp_path / "old", 2000, 0o500)
    before, most = len(descriptors()), 0

    def count(call: int) -> None:
        nonlocal most
        most = max(most, 0 if call % 61 else len(descriptors()))

    try:
        with before_each_call(count):
            remove_tree(tmp_path / "old")
        assert read_back(tmp_path) == {}
        assert most - before < 200
    finally:
        # What pytest removes it with does not go that deep.
        subprocess.run(["rm", "-rf", tmp_path / "old"], check=True)


def test_where_directories_cannot_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "an overlay does not")

    (tmp_path / "old").mkdir()
    make_deep(tmp_path / "old", 100)
    monkeypatch.setattr(os, "rename", refuse)
    remove_tree(tmp_path / "old")
    assert read_back(tmp_path) == {}


_REMOVE = "import sys; from eris_fs import remove_tree; remove_tree(sys.argv[1])"


@pytest.mark.parametrize("mode", [0, 0o100, 0o200, 0o300, 0o400, 0o500, 0o555])
def test_directories_without_permissions(tmp_path: Path, mode: int) -> None:
    """What its owner may not look into, or change; and deeper than what is open at a time."""
    shared = tmp_path / "shared"
    lay_out({"kept": File(b"kept"), "old": {"d": {"d": {"f": File(b"")}}}}, shared)
    make_deep(shared / "old" / "d" / "d", 80, mode)
    for directory in ("old/d/d", "old/d", "old"):
        os.chmod(shared / directory, mode)
    os.chmod(shared, 0o1777)
    command = [*as_a_user(), sys.executable, "-c", _REMOVE, str(shared / "old")]
    subprocess.run(command, check=True)
    assert read_back(shared) == {"kept": File(b"kept")}
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777


def test_another_file_system_within_is_left_alone(tmp_path: Path) -> None:
    lay_out({"d": {"mounted": {}}}, tmp_path / "old")
    script = (
        'mount -t tmpfs none "$1/d/mounted" || exit 9; echo > "$1/d/mounted/f"; '
        f'{sys.executable} -c \'{_REMOVE}\' "$1"; ls "$1/d/mounted"'
    )
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    done = subprocess.run([*unshare, tmp_path / "old"], capture_output=True, text=True, check=False)
    if done.returncode == 9 or "unshare" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
    assert "another file system is mounted in it" in done.stderr
    assert done.stdout == "f\n"
