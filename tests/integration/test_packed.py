"""Packed trees through `kapla`, installed and in this process, and a real daemon: every command."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from eris.capability import ReadCapability
from eris.model import CAPABILITY_SIZE
from tests.eris_fs.trees import File, Link, Node, lay_out, read_back
from tests.integration.commands import Kapla
from tests.integration.daemon import Daemon, running_daemon
from tests.integration.here import User

SOURCE = random.Random(1)
TREE: Node = {
    "a file": File(b"hello\n" * 1000),
    "the same": File(b"hello\n" * 1000, executable=True),
    "empty": File(b""),
    "hollow": {},
    "link": Link("a file"),
    "deep": {"er": {"large": File(SOURCE.randbytes(100_000)), "away": Link("/etc")}},
    "many": {f"{number}": File(SOURCE.randbytes(9000)) for number in range(100)},
}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon() as running:
        yield running


@pytest.fixture
def kapla(daemon: Daemon, tmp_path: Path) -> Kapla:
    return Kapla(tmp_path, daemon.url)


@pytest.fixture
def here(daemon: Daemon, tmp_path: Path) -> User:
    """The same in this process."""
    return User(tmp_path, daemon.url)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "tree"
    lay_out(TREE, root)
    return root


@pytest.fixture(scope="module")
def tree(daemon: Daemon, made: Path) -> str:
    return Kapla(made.parent, daemon.url).out("encode", "--packed", "--level", "1", made)


def test_encode_and_decode(kapla: Kapla, made: Path, tree: str, tmp_path: Path) -> None:
    kapla("decode", tree, "copy")
    assert read_back(tmp_path / "copy") == TREE
    again = kapla.out("encode", "--packed", "--level", "1", made)
    assert again == tree == kapla.out("encode", "--packed", "--level=1", "--no-store", "copy")
    # What the cache knows of one level is nothing that another may use.
    assert kapla.out("encode", "--packed", made) != tree


def test_a_packed_file(here: User, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    os.symlink("file", tmp_path / "link")
    urn = here.out("encode", "--packed", "file")
    assert urn == here.out("encode", "--packed", "link")
    assert here.out("ls", urn) == "."
    here("decode", urn, "copy")
    assert (tmp_path / "copy").read_bytes() == b"x" * 100_000


def test_ls_and_cat(kapla: Kapla, tree: str) -> None:
    lines = [" ".join(line.split()) for line in kapla.out("ls", "-Rl", tree).splitlines()]
    assert lines[:2] == ["- 5.9 KiB a file", "l deep/er/away -> /etc"]
    assert "x 5.9 KiB the same" in lines and "d hollow/" in lines
    facts = [json.loads(line) for line in kapla.out("ls", "--json", tree).splitlines()]
    assert facts[0] == {"path": ["a file"], "kind": "file", "size": 6000}
    assert kapla("cat", tree, "the same").stdout == b"hello\n" * 1000
    assert kapla("cat", tree, "empty").stdout == b""
    assert kapla.error("cat", tree, "hollow", code=1) == "hollow is a directory"


def test_info(here: User, made: Path, tree: str) -> None:
    facts = json.loads(here.out("info", "--json", tree))
    assert facts["format"] == "kapla-packed-1" and facts["writer"].endswith(" level 1")
    assert (facts["files"], facts["executables"], facts["symlinks"]) == (104, 1, 2)
    assert facts["raw_bytes"] == 2 * 6000 + 100_000 + 900_000
    assert facts["block_bytes"] < 1_100_000
    same = json.loads(here.out("info", "--json", tree, "--against", tree))
    assert same["new_blocks"] == same["new_block_bytes"] == 0
    standard = here.out("encode", made)
    facts = json.loads(here.out("info", "--json", standard, "--against", tree))
    assert facts["format"] == "eris-fs-1"
    assert facts["raw_bytes"] == 1_012_000
    assert facts["new_block_bytes"] == facts["block_bytes"] > 1_012_000
    assert f"blocks:             {facts['blocks']}\n" in here.out("info", standard) + "\n"
    plain = here.out("encode", "-", stdin=bytes(100_000))
    facts = json.loads(here.out("info", "--json", plain, "--against", plain))
    assert (facts["raw_bytes"], facts["new_blocks"]) == (100_000, 0)


def test_verify_of_what_is_whole(kapla: Kapla, tree: str) -> None:
    blocks = json.loads(kapla.out("info", "--json", tree))["blocks"]
    assert kapla.out("verify", tree) == f"{blocks} blocks, 0 missing, 0 bad"


def test_what_does_not_go_together(kapla: Kapla, made: Path) -> None:
    for arguments in (
        ["--packed", "-"],
        ["--packed", "--block-size", "1KiB", made],
        ["--level", "3", made],
        ["--packed", "--level", "0", made],
    ):
        kapla("encode", *arguments, code=2)
    assert "use a file" in kapla.error("encode", "--block-size=cost", "-", code=2, stdin=b"x")


def test_blocks_by_cost(here: User, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(33_000))
    urn = here.out("encode", "--block-size", "cost", "file")
    facts = json.loads(here.out("info", "--json", urn))
    assert facts["block_size"] == 1024 and facts["block_bytes"] < 40_000
    here("decode", urn, "copy")
    assert (tmp_path / "copy").read_bytes() == bytes(33_000)


def test_a_size_limit(here: User, tree: str, tmp_path: Path) -> None:
    assert "1,000,000 bytes" in here.error("decode", "--max-size=1000000", tree, "copy", code=7)
    assert not (tmp_path / "copy").exists()


def test_a_bad_frame_is_found(here: User, tmp_path: Path) -> None:
    """Whole blocks of a pack that is none: an encoder's fault, or somebody's intent."""
    from eris_fs.model import Pack, PackedFile, PackedTree
    from eris_fs.packed import format_index

    (tmp_path / "pack").write_bytes(b"not compressed")
    urn = here.out("encode", "--block-size=1KiB", "pack")
    piece = ReadCapability.from_urn(urn).to_bytes()
    assert len(piece) == CAPABILITY_SIZE
    bad = PackedTree({("a",): PackedFile(0, 100)}, [Pack(0, 100, 14, piece)])
    (tmp_path / "index").write_bytes(format_index(bad))
    urn = here.out("encode", "index")
    assert "not a Zstandard frame" in here.error("decode", urn, "copy", code=5)
    assert "not a Zstandard frame" in here.error("cat", urn, "a", code=5)
    done = here("verify", urn, code=5)
    assert b"bad pack 0, with a" in done.stdout and b"0 missing, 1 bad" in done.stdout
    assert json.loads(here("verify", "--json", urn, code=5).stdout.splitlines()[0])["bad"] is None
    (tmp_path / "index").write_bytes(format_index(bad)[:-1])
    assert "looks like a tree" in here.error("ls", here.out("encode", "index"), code=5)
