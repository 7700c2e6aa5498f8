"""The synchronous door, on a real daemon."""

from __future__ import annotations

import io
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import eris
import eris_fs
from eris.errors import BlockNotFound, InvalidCapability, StoreUnavailable
from eris_fs import Kind, TargetExists
from kapla.doors.sync import Store, open_store
from tests.integration.daemon import Daemon, running_daemon, wait_until
from tests.kapla.doors.conftest import LARGE, TREE, connections

ABSENT = eris.encode(b"nobody has this")[0]


def test_contents_go_in_and_come_out(store: Store) -> None:
    capability = store.put_content(b"Hail ERIS!")
    assert capability == eris.encode(b"Hail ERIS!")[0]
    assert store.get_content(capability) == store.get_content(capability.to_urn()) == b"Hail ERIS!"
    assert "redacted" in repr(capability)


def test_a_file_is_put_from_where_it_stands(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(LARGE)
    with file.open("rb") as source:
        source.seek(1000)
        capability = store.put_content(source)
    assert store.get_content(capability) == LARGE[1000:]
    # Also one that is in a store itself.
    with store.open(capability) as source:
        assert store.put_content(source) == capability


def test_equal_content_has_another_urn_with_a_secret(store: Store) -> None:
    secret = eris.ConvergenceSecret.unique()
    capability = store.put_content(b"secret", convergence_secret=secret)
    assert capability != store.put_content(b"secret")
    assert store.get_content(capability) == b"secret"


def test_what_fails_in_the_source_comes_out(store: Store) -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        store.put_content(Broken())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("text", "encode the text"),
        (io.StringIO("text"), "encode the text"),
        (Path("file"), "open the path"),
        (None, "not None"),
        (7, "not int"),
    ],
)
def test_what_is_no_content_is_said_at_once(store: Store, source: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        store.put_content(source)


def test_what_names_no_content_is_said_at_once(store: Store) -> None:
    wrong: Any
    for wrong in (None, b"urn:eris:", Path("x")):
        for use in (store.get_content, store.open, store.info, store.entries):
            with pytest.raises(TypeError, match="named by its URN"):
                use(wrong)
    with pytest.raises(InvalidCapability):
        store.open("urn:eris:ABC")
    with pytest.raises(TypeError, match="a path in a tree is text"):
        store.open(ABSENT, b"docs")  # type: ignore[arg-type]


def test_a_content_is_a_file(store: Store) -> None:
    with store.open(store.put_content(LARGE)) as file:
        assert isinstance(file, io.BufferedReader)
        assert file.readable() and file.seekable() and not file.writable()
        assert file.read(10) == LARGE[:10]
        assert file.seek(-5, os.SEEK_END) == len(LARGE) - 5
        assert file.read() == LARGE[-5:]
        file.seek(100_000)
        room = bytearray(500_000)
        assert file.readinto(room) == len(room)
        assert room == LARGE[100_000:600_000]
        file.seek(0)
        assert file.read() == LARGE
    assert file.closed


def test_files_of_a_tree(store: Store, urn: str) -> None:
    for name, content in TREE.items():
        with store.open(urn, name) as file:
            assert file.read() == content
    with store.open(urn, "guide.txt") as file:
        assert file.name == "guide.txt"
        assert list(file) == [b"the first line\n", b"the second\n"]
    with store.open(urn, "there/deep/../up") as file:
        assert file.read() == TREE["guide.txt"]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (None, IsADirectoryError),
        ("docs", IsADirectoryError),
        ("gone", FileNotFoundError),
        ("nowhere", FileNotFoundError),
        ("guide.txt/x", NotADirectoryError),
        ("out", OSError),
        ("above", OSError),
        ("circle", OSError),
    ],
)
def test_what_cannot_be_opened(
    store: Store, urn: str, path: str | None, error: type[OSError]
) -> None:
    with pytest.raises(error) as caught:
        store.open(urn, path)
    assert urn not in str(caught.value)


def test_what_is_told_of_entries(store: Store, urn: str) -> None:
    told = {entry.name: entry for entry in store.entries(urn)}
    assert sorted(told) == sorted(
        ["above", "circle", "docs", "guide.txt", "latest", "nowhere", "out", "there"]
    )
    assert told["docs"].kind is Kind.DIRECTORY
    assert told["guide.txt"].size == len(TREE["guide.txt"])
    assert told["latest"].target == "docs/deep/note.txt"
    assert [entry.name for entry in store.entries(urn, "there/deep")] == ["note.txt"]
    info = store.info(urn, "latest")
    assert (info.kind, info.size, info.executable) == (Kind.FILE, 10, True)
    assert store.info(urn).kind is Kind.DIRECTORY
    assert store.info(store.put_content(LARGE)).size == len(LARGE)
    with pytest.raises(NotADirectoryError):
        store.entries(urn, "guide.txt")


def test_a_tree_comes_out_as_it_went_in(
    store: Store, urn: str, directory: Path, tmp_path: Path
) -> None:
    target = tmp_path / "copy"
    store.get_tree(urn, target)
    for name, content in TREE.items():
        assert (target / name).read_bytes() == content
    assert os.readlink(target / "latest") == os.readlink(directory / "latest")
    with pytest.raises(TargetExists):
        store.get_tree(urn, target)


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_not_chosen_is_left_out(store: Store, directory: Path, packed: bool) -> None:
    selection = eris_fs.Selection(exclude=eris_fs.Patterns(eris_fs.parse_patterns("/docs")))
    tree = store.put_tree(directory, packed=packed, selection=selection)
    assert store.info(tree, "guide.txt").kind is Kind.FILE
    with pytest.raises(FileNotFoundError):
        store.info(tree, "docs")


def test_other_libraries_read_it(store: Store) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for number in range(20):
            archive.writestr(f"file-{number}", LARGE[number * 7 : 50_000])
    capability = store.put_content(made.getvalue())
    with store.open(capability) as file, zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert archive.read("file-13") == LARGE[13 * 7 : 50_000]


def test_many_threads_use_one_store(store: Store, urn: str) -> None:
    def read(number: int) -> bool:
        with store.open(urn, "docs/large.bin") as file:
            file.seek(number * 100_000)
            return file.read(150_000) == LARGE[number * 100_000 :][:150_000]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(20)))


def test_more_contents_than_are_kept_are_read_at_the_same_time(store: Store) -> None:
    files = [store.open(store.put_content(LARGE[number:])) for number in range(9)]
    for _ in range(2):
        for number, file in enumerate(files):
            at = file.tell()
            assert file.read(50_000) == LARGE[number + at :][:50_000]


def test_what_is_missing_is_said_of_the_block(store: Store) -> None:
    for use in (store.get_content, store.open, store.info):
        with pytest.raises(BlockNotFound):
            use(ABSENT)


def test_a_store_that_is_closed(daemon: Daemon) -> None:
    store = open_store([daemon.url])
    file = store.open(store.put_content(LARGE))
    assert not store.closed
    store.close()
    store.close()
    assert store.closed
    assert "closed" in repr(store)
    with pytest.raises(ValueError, match="the store is closed"):
        store.get_content(ABSENT)
    with pytest.raises(ValueError, match="the store is closed"):
        file.read()
    with pytest.raises(ValueError, match="the store is closed"), store:
        pass


def test_a_store_that_is_forgotten_says_so_and_is_closed() -> None:
    with running_daemon() as daemon, open_store(daemon.url) as store:
        with pytest.warns(ResourceWarning, match="was never closed"):
            open_store(daemon.url)
        wait_until(lambda: connections(store) == 1, "the connection to be closed")


def test_the_store_of_the_environment(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERIS_STORE_URL", daemon.url)
    with open_store() as store:
        assert store.get_content(store.put_content(b"here")) == b"here"


def test_a_store_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="No such file"):
        open_store(f"coap+unix://{tmp_path}/no.sock")
    wrong: Any
    for wrong in (b"coap+tcp://a", tmp_path, 7):
        with pytest.raises(TypeError, match="text"):
            open_store(wrong)
    with pytest.raises(ValueError, match="this is a path"):
        open_store("/run/eris.sock")
