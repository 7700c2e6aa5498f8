"""`eris://` for fsspec, on a real daemon."""

from __future__ import annotations

import asyncio
import errno
import gc
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fsspec")

import fsspec

from eris.errors import InvalidCapability
from kapla.doors.filesystem import ErisFileSystem
from kapla.doors.sync import Store, open_store
from tests.integration.daemon import GUARD_S, Daemon, running_daemon, wait_until
from tests.kapla.doors.conftest import LARGE, TREE, connections


@pytest.fixture
def fs(daemon: Daemon, urn: str) -> ErisFileSystem:
    return ErisFileSystem(urn=urn, store_url=daemon.url)


@pytest.fixture
def letters(urn: str) -> str:
    return urn.removeprefix("urn:eris:")


def test_it_is_found_by_its_protocol(daemon: Daemon, urn: str, letters: str) -> None:
    fs = fsspec.filesystem("eris", urn=urn, store_url=[daemon.url])
    assert isinstance(fs, ErisFileSystem)
    for place in (letters, letters.lower()):
        with fsspec.open(f"eris://{place}/guide.txt", "rt", store_url=daemon.url) as file:
            assert file.read().encode() == TREE["guide.txt"]
    with fsspec.open("eris://guide.txt", urn=urn, store_url=daemon.url) as file:
        assert file.read() == TREE["guide.txt"]


def test_info(fs: ErisFileSystem, store: Store) -> None:
    assert fs.info("guide.txt") == {
        "name": "guide.txt",
        "size": len(TREE["guide.txt"]),
        "type": "file",
        "executable": False,
    }
    assert fs.info("") == {"name": "", "size": 0, "type": "directory"}
    assert fs.info("latest")["executable"]
    assert fs.info("eris://docs/")["type"] == "directory"
    assert fs.isdir("there") and fs.isfile("docs/up") and not fs.exists("gone")
    # A content that is no tree is a file.
    capability = store.put_content(LARGE)
    single = ErisFileSystem(store_url=fs.storage_options["store_url"])
    assert single.info(capability.to_urn())["size"] == len(LARGE)
    assert single.cat(capability.to_urn(), start=-5) == LARGE[-5:]


def test_ls(fs: ErisFileSystem, letters: str) -> None:
    listed = {info["name"]: info for info in fs.ls("", detail=True)}
    kinds = {name: info["type"] for name, info in listed.items()}
    assert kinds == {
        "above": "link",
        "circle": "link",
        "docs": "directory",
        "guide.txt": "file",
        "latest": "file",
        "nowhere": "link",
        "out": "link",
        "there": "link",
    }
    assert listed["latest"]["size"] == 10
    assert listed["latest"]["destination"] == "docs/deep/note.txt"
    assert fs.ls("guide.txt", detail=False) == ["guide.txt"]
    by_letters = ErisFileSystem(store_url=fs.storage_options["store_url"])
    names = [f"{letters}/docs/{name}" for name in ("deep", "empty", "large.bin", "up")]
    assert by_letters.ls(f"eris://{letters}/docs", detail=False) == names


def test_find_walk_and_glob(fs: ErisFileSystem) -> None:
    files = sorted([*TREE, "latest", "docs/up"])
    assert fs.find("") == files
    found = fs.find("docs", detail=True)
    assert found["docs/large.bin"]["size"] == len(LARGE)
    assert fs.glob("docs/*.bin") == ["docs/large.bin"]
    assert fs.glob("**/note.txt") == ["docs/deep/note.txt"]
    walked = {path: (dirs, names) for path, dirs, names in fs.walk("docs")}
    assert walked["docs"][0] == ["deep"]
    assert walked["docs/deep"] == ([], ["note.txt"])
    assert fs.du("docs") == len(LARGE) + 10 + len(TREE["guide.txt"])


def test_what_is_not_asked_costs_nothing(daemon: Daemon, store: Store, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"file-{number}").write_bytes(b"%d" % number * 9000)
    urn = store.put_tree(tmp_path).to_urn()
    fs = ErisFileSystem(urn=urn, store_url=daemon.url, cache_size=5 << 20)

    def gets() -> int:
        stat = store._call(lambda session: session.store.stat())
        return int(stat["requests"]["get"])

    before = gets()
    assert len(fs.find("")) == len(fs.glob("*")) == 40
    # The index, and what asking costs.
    assert gets() - before < 10
    assert sum(info["size"] for info in fs.find("", detail=True).values()) > 0
    assert gets() - before > 40


def test_ranges(fs: ErisFileSystem) -> None:
    name, size = "docs/large.bin", len(LARGE)
    for start, end in ((0, 10), (None, 7), (5, None), (-9, None), (-9, -2), (3, -4), (size, size)):
        assert fs.cat_file(name, start, end) == LARGE[start:end]
    assert fs.cat_file(name, size - 3, size + 100) == LARGE[-3:]
    assert fs.cat_ranges([name, "guide.txt", name], [0, 4, 1000], [9, 9, 2000]) == [
        LARGE[:9],
        TREE["guide.txt"][4:9],
        LARGE[1000:2000],
    ]
    assert fs.cat(["guide.txt", "latest"]) == {
        "guide.txt": TREE["guide.txt"],
        "latest": TREE["docs/deep/note.txt"],
    }
    assert fs.cat("docs/deep", recursive=True, on_error="omit") == {
        "docs/deep/note.txt": TREE["docs/deep/note.txt"]
    }


def test_a_file_is_read_and_sought_in(fs: ErisFileSystem) -> None:
    with fs.open("docs/large.bin") as file:
        assert file.size == len(LARGE)
        file.seek(-100, os.SEEK_END)
        assert file.read() == LARGE[-100:]
        file.seek(0)
        assert b"".join(iter(lambda: file.read(300_000), b"")) == LARGE
    with fs.open("docs/large.bin", cache_type="none", block_size=4096) as file:
        file.seek(1234)
        assert file.read(100) == LARGE[1234:1334]
    with fs.open("docs/empty") as file:
        assert file.read() == b""


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("gone", FileNotFoundError),
        ("docs", IsADirectoryError),
        ("guide.txt/x", NotADirectoryError),
        ("circle", OSError),
    ],
)
def test_what_cannot_be_read(fs: ErisFileSystem, path: str, error: type[OSError]) -> None:
    for read in (fs.open, fs.cat_file):
        with pytest.raises(error):
            read(path)


def test_a_path_without_letters(daemon: Daemon) -> None:
    fs = ErisFileSystem(store_url=daemon.url)
    for path in ("", "guide.txt"):
        with pytest.raises(InvalidCapability, match="106 letters"):
            fs.info(path)


class Noting(fsspec.Callback):  # type: ignore[misc]
    """Notes what it is told, and fails when it is told to."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.fails = fails

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        if self.fails:
            raise RuntimeError("enough")


def test_a_file_is_got_whole_or_not_at_all(fs: ErisFileSystem, tmp_path: Path) -> None:
    target = tmp_path / "got"
    noting = Noting()
    fs.get_file("docs/large.bin", str(target), callback=noting)
    assert target.read_bytes() == LARGE
    assert noting.size == noting.value == len(LARGE)
    with pytest.raises(RuntimeError, match="enough"):
        fs.get_file("guide.txt", str(target), callback=Noting(fails=True))
    assert target.read_bytes() == LARGE
    assert os.listdir(tmp_path) == ["got"]
    fs.get_file("latest", str(target))
    assert target.stat().st_mode & 0o100
    into = io.BytesIO()
    fs.get_file("guide.txt", into)
    assert into.getvalue() == TREE["guide.txt"]


def test_a_tree_is_got(fs: ErisFileSystem, tmp_path: Path) -> None:
    fs.get("", str(tmp_path / "got"), recursive=True)
    got = {
        file.relative_to(tmp_path / "got").as_posix(): file.read_bytes()
        for file in (tmp_path / "got").rglob("*")
        if file.is_file()
    }
    assert got == {**TREE, "latest": TREE["docs/deep/note.txt"], "docs/up": TREE["guide.txt"]}


@pytest.mark.parametrize(
    "write",
    [
        lambda fs: fs.open("new", "wb"),
        lambda fs: fs.open("new", "w"),
        lambda fs: fs.pipe("new", b"x"),
        lambda fs: fs.touch("new"),
        lambda fs: fs.put(__file__, "new"),
        lambda fs: fs.copy("guide.txt", "new"),
        lambda fs: fs.mv("guide.txt", "new"),
        lambda fs: fs.rm("guide.txt"),
        lambda fs: fs.rm("docs", recursive=True),
        lambda fs: fs.rm_file("guide.txt"),
        lambda fs: fs.mkdir("new"),
        lambda fs: fs.makedirs("new/new"),
        lambda fs: fs.rmdir("docs"),
    ],
)
def test_nothing_can_be_written(fs: ErisFileSystem, write: Any) -> None:
    with pytest.raises(OSError, match="kapla encode") as caught:
        write(fs)
    assert caught.value.errno == errno.EROFS


def test_pickled_and_told_in_json(fs: ErisFileSystem) -> None:
    assert pickle.loads(pickle.dumps(fs)) is fs
    assert fsspec.AbstractFileSystem.from_json(fs.to_json()) is fs
    with fs.open("docs/large.bin") as file:
        file.seek(70_000)
        again = pickle.loads(pickle.dumps(file))
        assert again.tell() == 70_000
        assert again.read(10) == file.read(10)


def test_no_secret_is_shown(fs: ErisFileSystem, letters: str) -> None:
    file = fs.open("guide.txt")
    for shown in (repr(fs), str(fs), repr(file), fs._fs_token, repr(fs.__dict__.get("_content"))):
        assert letters not in shown
    with pytest.raises(FileNotFoundError) as caught:
        fs.info("gone")
    assert letters not in str(caught.value)


def test_an_option_that_there_is_not_is_refused(daemon: Daemon) -> None:
    with pytest.raises(TypeError, match="'url'"):
        fsspec.filesystem("eris", url=daemon.url)


def test_file_systems_are_told_apart(fs: ErisFileSystem, store: Store) -> None:
    url = fs.storage_options["store_url"]
    assert ErisFileSystem(urn=fs.storage_options["urn"], store_url=url) is fs
    other = ErisFileSystem(urn=store.put_content(LARGE).to_urn(), store_url=url)
    assert other is not fs
    # What fsspec would take for the same: these show nothing of what they are.
    wrong: Any = store.put_content(LARGE)
    with pytest.raises(TypeError, match="urn= is a URN as text"):
        ErisFileSystem(urn=wrong, store_url=url)
    with pytest.raises(TypeError, match="store_url= is a store URL as text"):
        ErisFileSystem(urn=fs.storage_options["urn"], store_url=b"coap+tcp://a")  # type: ignore[arg-type]
    assert fs.ukey("guide.txt") == fs.ukey("eris://guide.txt") != fs.ukey("docs/up")
    assert fs.ukey("") != other.ukey("")
    assert fs.checksum("guide.txt") == int(fs.ukey("guide.txt"), 16)


def test_caches_of_fsspec(fs: ErisFileSystem, tmp_path: Path) -> None:
    options = {"eris": fs.storage_options, "simplecache": {"cache_storage": str(tmp_path)}}
    for _ in range(2):
        with fsspec.open("simplecache::eris://docs/large.bin", **options) as file:
            assert file.read() == LARGE
    assert len(os.listdir(tmp_path)) == 1


def test_inside_of_a_loop(daemon: Daemon, urn: str) -> None:
    async def main() -> None:
        fs = ErisFileSystem(urn=urn, store_url=daemon.url, asynchronous=True)
        assert fs.loop is None
        assert await fs._cat_file("guide.txt") == TREE["guide.txt"]
        assert await fs._find("docs/deep") == ["docs/deep/note.txt"]
        assert len(await asyncio.gather(*(fs._cat_file("docs/large.bin") for _ in range(5)))) == 5
        async with await fs.open_async("docs/large.bin") as file:
            file.seek(5)
            assert await file.read(100) == LARGE[5:105]
            assert await file.read() == LARGE[105:]
        for wrong in ({"mode": "wb"}, {"compression": "gzip"}):
            with pytest.raises((OSError, ValueError)):
                await fs.open_async("guide.txt", **wrong)
        with pytest.raises(IsADirectoryError):
            await fs.open_async("docs")
        # One that was made outside works here too, by itself.
        outside = ErisFileSystem(urn=urn, store_url=daemon.url)
        assert await outside._cat_file("guide.txt") == outside.cat_file("guide.txt")
        await fs.aclose()
        await outside.aclose()

    # The second loop has a store of its own.
    for _ in range(2):
        asyncio.run(main())


FORK = """
import os, sys
from kapla.doors.filesystem import ErisFileSystem
fs = ErisFileSystem(urn=sys.argv[1], store_url=sys.argv[2])
file = fs.open("docs/large.bin")
read = [len(file.read(100))]
child = os.fork()
if not child:
    read += [len(file.read(300_000)), len(fs.cat("guide.txt"))]
    same = ErisFileSystem(urn=sys.argv[1], store_url=sys.argv[2])
    print(*read, len(same.cat("guide.txt")), flush=True)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
print(len(file.read()))
"""


def test_a_process_and_its_fork_read_on(daemon: Daemon, urn: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK, urn, daemon.url],
        capture_output=True,
        text=True,
        timeout=2 * GUARD_S,
        check=False,
    )
    size = len(TREE["guide.txt"])
    assert done.stdout == f"100 300000 {size} {size}\n{len(LARGE) - 100}\n", done
    assert not done.stderr


def test_a_file_system_that_is_forgotten_is_closed() -> None:
    with running_daemon() as daemon, open_store(daemon.url) as store:
        capability = store.put_content(LARGE)
        fs = fsspec.filesystem("eris", store_url=daemon.url, skip_instance_cache=True)
        assert fs.cat_file(capability.to_urn(), 5, 9) == LARGE[5:9]
        assert connections(store) == 2
        del fs
        gc.collect()
        wait_until(lambda: connections(store) == 1, "the connection to be closed")
