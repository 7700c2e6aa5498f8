"""The installed `kapla` against a real daemon: every command, every option, every way to fail."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import sqlite3
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eris import BlockSize, ReadCapability, Reference, format_block_urn
from kapla.cli.main import EXIT_CODES
from tests.eris_fs.trees import File, Link, Node, lay_out, read_back
from tests.integration.commands import Kapla, blocks_of
from tests.integration.daemon import GUARD_S, Daemon, running_daemon
from tests.integration.here import User
from tests.integration.users import as_a_user

COMMANDS = ("cat", "decode", "encode", "info", "ls", "stat", "verify")
# Of no content anybody has, but well formed.
UNKNOWN = ReadCapability.from_bytes(bytes([10, 0]) + b"r" * 32 + b"k" * 32).to_urn()

TREE: Node = {
    "a file": File(b"hello\n"),
    "empty": File(b""),
    "hollow": {},
    "link": Link("a file"),
    "deep": {"er": {"large": File(random.Random(1).randbytes(100_000)), "away": Link("/etc")}},
    "program": File(b"#!/bin/sh\n", executable=True),
    "line\nbreak": File(b"x"),
    "é日": File(b"y"),
}


def names_in(home: Path) -> list[str]:
    """What a command left in a home, but for the catalogue."""
    return [name for name in os.listdir(home) if name != ".local"]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon(listen=["coap+tcp://127.0.0.1:0?get"]) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def kapla(daemon: Daemon, home: Path) -> Kapla:
    return Kapla(home, daemon.url)


@pytest.fixture
def here(daemon: Daemon, home: Path) -> User:
    """The same in this process, for many cases of what a program is seen to do as well."""
    return User(home, daemon.url)


@pytest.fixture
def offline_here(home: Path) -> User:
    """In this process, without any daemon."""
    return User(home, "")


@pytest.fixture
def offline(home: Path) -> Kapla:
    """A command line without any daemon."""
    return Kapla(home, "")


@pytest.fixture(scope="module")
def tree(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URN of `TREE`."""
    root = tmp_path_factory.mktemp("made") / "tree"
    lay_out(TREE, root)
    return Kapla(root.parent, daemon.url).out("encode", root)


@pytest.fixture(scope="module")
def hello(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URN of a small file."""
    return Kapla(tmp_path_factory.mktemp("made"), daemon.url).out("encode", "-", stdin=b"hello\n")


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# --- help -------------------------------------------------------------------------------------


def test_help_names_every_command_and_the_exit_codes(offline: Kapla) -> None:
    for arguments in (["--help"], ["-h"]):
        text = " ".join(offline.out(*arguments).split())
        assert all(f" {name} " in text for name in COMMANDS)
        assert all(f"{code} {meaning}" in text for code, meaning, _ in EXIT_CODES)


@pytest.mark.parametrize("name", ["encode", "stat"])
def test_help_of_a_command(offline: Kapla, name: str) -> None:
    text = " ".join(offline.out(name, "--help").split())
    assert "--store-url URL" in text
    assert "Exit codes: 0 success 1 another failure 2 wrong usage" in text


def test_version(offline: Kapla) -> None:
    assert offline.out("--version") == "kapla, version 0.1.0"


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        [UNKNOWN],
        ["encode", "--no-such-option", "a"],
    ],
)
def test_wrong_usage(offline: Kapla, arguments: list[str]) -> None:
    done = offline(*arguments, code=2)
    assert done.stdout == b""
    assert b"Usage: kapla" in done.stderr


# --- encode -----------------------------------------------------------------------------------


def test_a_file_and_standard_input_are_the_same_content(kapla: Kapla, home: Path) -> None:
    content = random.Random(2).randbytes(50_000)
    urn = kapla.out("encode", write(home / "file", content))
    assert ReadCapability.from_urn(urn).block_size == BlockSize.LARGE
    assert kapla.out("encode", "-", stdin=content) == urn
    assert kapla("decode", urn, "-").stdout == content


@pytest.mark.parametrize("size", [0, 1, 16383, 16384])
def test_small_content_has_small_blocks(here: User, size: int) -> None:
    urn = here.out("encode", "-", stdin=bytes(size))
    expected = BlockSize.SMALL if size < 16384 else BlockSize.LARGE
    assert ReadCapability.from_urn(urn).block_size == expected
    assert here("decode", urn, "-").stdout == bytes(size)


@pytest.mark.parametrize("kind", ["file", "tree"])
def test_block_size(offline_here: User, home: Path, kind: str) -> None:
    source = write(home / "file", b"x" * 20_000)
    if kind == "tree":
        source = home / "tree"
        lay_out({"a": File(b"small"), "b": File(b"x" * 20_000)}, source)
    urns = {
        size: offline_here.out("encode", "--no-store", "--block-size", size, source)
        for size in ("1KiB", "32kib", "AUTO")
    }
    assert ReadCapability.from_urn(urns["1KiB"]).block_size == BlockSize.SMALL
    assert ReadCapability.from_urn(urns["32kib"]).block_size == BlockSize.LARGE
    assert (urns["AUTO"] == urns["32kib"]) == (kind == "file")


def test_no_store_computes_what_would_be_stored(offline: Kapla, tree: str, home: Path) -> None:
    lay_out(TREE, home / "tree")
    assert offline.out("encode", "--no-store", "tree") == tree
    assert offline.out("encode", "--no-store", "tree/") == tree


def test_a_symlink_that_is_named_means_what_it_leads_to(
    offline: Kapla, tree: str, home: Path
) -> None:
    lay_out(TREE, home / "tree")
    (home / "to-tree").symlink_to("tree")
    (home / "to-file").symlink_to("tree/a file")
    (home / "dangling").symlink_to("nowhere")
    assert offline.out("encode", "--no-store", "to-tree") == tree
    direct = offline.out("encode", "--no-store", "tree/a file")
    assert offline.out("encode", "--no-store", "to-file") == direct
    error = offline.error("encode", "--no-store", "dangling", code=7)
    assert error == "dangling: No such file or directory"


def test_a_fifo(kapla: Kapla, home: Path) -> None:
    content = random.Random(3).randbytes(3_000_000)
    os.mkfifo(home / "fifo")
    with kapla.running("encode", "fifo") as process:
        with open(home / "fifo", "wb") as fifo:
            fifo.write(content)
        out, err = process.communicate(timeout=GUARD_S)
    assert (process.returncode, err) == (0, b"")
    assert kapla("decode", out.decode().strip(), "-").stdout == content


def test_process_substitution_and_devices(offline: Kapla, home: Path) -> None:
    empty = offline.out("encode", "--no-store", "-")
    assert offline.out("encode", "--no-store", "/dev/null") == empty
    through = offline("encode", "--no-store", "/dev/stdin", stdin=b"abc").stdout
    assert through == offline("encode", "--no-store", "-", stdin=b"abc").stdout


def test_unique_is_unique(kapla: Kapla) -> None:
    first, second = (kapla.out("encode", "--unique", "-", stdin=b"same") for _ in range(2))
    assert first != second
    assert kapla("decode", first, "-").stdout == kapla("decode", second, "-").stdout == b"same"


def test_a_convergence_secret(kapla: Kapla, home: Path) -> None:
    secret, other = write(home / "secret", b"s" * 32), write(home / "other", b"t" * 32)
    urns = [
        kapla.out("encode", "--convergence-secret", file, "-", stdin=b"same")
        for file in (secret, secret, other)
    ]
    urns.append(kapla.out("encode", "-", stdin=b"same"))
    assert urns[0] == urns[1]
    assert len(set(urns[1:])) == 3
    assert kapla("decode", urns[0], "-").stdout == b"same"


@pytest.mark.parametrize(("size", "found"), [(0, "0"), (31, "31"), (33, "more")])
def test_a_secret_of_another_length(offline_here: User, home: Path, size: int, found: str) -> None:
    write(home / "secret", b"s" * size)
    error = offline_here.error(
        "encode", "--no-store", "--convergence-secret", "secret", "-", code=2
    )
    assert error == f"secret: a convergence secret is 32 bytes, the file holds {found}"


def test_a_secret_that_is_not_there(offline: Kapla) -> None:
    error = offline.error("encode", "--no-store", "--convergence-secret", "none", "-", code=7)
    assert error == "none: No such file or directory"


def test_both_secrets_at_once(offline: Kapla, home: Path) -> None:
    write(home / "secret", b"s" * 32)
    done = offline("encode", "--unique", "--convergence-secret", "secret", "-", code=2)
    assert b"exclude each other" in done.stderr


def test_an_unreadable_file_is_named(daemon: Daemon, home: Path) -> None:
    user = Kapla(home, daemon.url, prefix=as_a_user())
    write(home / "locked", b"x").chmod(0)
    assert user.error("encode", "locked", code=7) == "locked: Permission denied"
    lay_out({"sub": {"locked": File(b"x")}, "z": File(b"y")}, home / "tree")
    (home / "tree" / "sub" / "locked").chmod(0)
    error = user.error("encode", "tree", code=7)
    assert "tree/sub/locked" in error
    assert "Permission denied" in error
    (home / "tree" / "sub" / "locked").chmod(0o600)
    (home / "tree" / "sub").chmod(0o300)
    assert "tree/sub" in user.error("encode", "tree", code=7)
    (home / "tree" / "sub").chmod(0o700)


def test_a_name_that_is_not_utf_8_is_named(kapla: Kapla, home: Path) -> None:
    (home / "tree").mkdir()
    write(Path(os.fsdecode(os.fsencode(home) + b"/tree/b\xffd")), b"x")
    assert r"tree/b\xffd: its name is not UTF-8" in kapla.error("encode", "tree", code=7)


@pytest.mark.parametrize("kind", ["socket", "named pipe", "character device"])
def test_what_a_tree_cannot_hold_is_named(here: User, home: Path, kind: str) -> None:
    (home / "tree").mkdir()
    place = home / "tree" / "odd\x1b[31m"
    with socket.socket(socket.AF_UNIX) as bound:
        match kind:
            case "socket":
                with tempfile.TemporaryDirectory(prefix="kapla-") as short:
                    bound.bind(f"{short}/s")
                    shutil.move(f"{short}/s", place)
            case "named pipe":
                os.mkfifo(place)
            case _:
                try:
                    os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 3))
                except OSError:
                    pytest.skip("only root may make devices, and not everywhere")
        error = here.error("encode", "tree", code=7)
    assert f"odd\\x1b[31m: it is a {kind}" in error


def test_a_socket_by_itself(kapla: Kapla, daemon: Daemon) -> None:
    assert str(daemon.socket) in kapla.error("encode", daemon.socket, code=7)


def test_a_file_that_is_not_there(kapla: Kapla) -> None:
    error = kapla.error("encode", "no\nsuch\x1b[2J", code=7)
    assert error == r"no\nsuch\x1b[2J: No such file or directory"


# --- decode -----------------------------------------------------------------------------------


def test_a_tree_there_and_back(kapla: Kapla, tree: str, home: Path) -> None:
    assert kapla("decode", tree, "copy").stdout == b""
    assert read_back(home / "copy") == TREE
    assert sorted(names_in(home)) == ["copy"]


def test_a_file_there_and_back(kapla: Kapla, hello: str, home: Path) -> None:
    assert kapla("decode", hello, "copy").stdout == b""
    assert (home / "copy").read_bytes() == b"hello\n"
    assert sorted(names_in(home)) == ["copy"]


def test_a_tree_of_one_entry(kapla: Kapla, home: Path) -> None:
    lay_out({}, home / "nothing")
    kapla("decode", kapla.out("encode", "nothing"), "copy")
    assert read_back(home / "copy") == {}


def test_raw_is_the_index(kapla: Kapla, tree: str, home: Path) -> None:
    kapla("decode", "--raw", tree, "index")
    index = (home / "index").read_bytes()
    assert kapla("decode", "--raw", tree, "-").stdout == index
    # Which, encoded as a file, is the tree again.
    assert kapla.out("encode", "index") == tree


def test_a_tree_does_not_go_to_standard_output(kapla: Kapla, tree: str) -> None:
    done = kapla("decode", tree, "-", code=2)
    assert done.stdout == b""
    assert b"cannot go to standard output" in done.stderr


def test_what_only_looks_like_a_tree(here: User, tree: str, home: Path) -> None:
    index = here("decode", "--raw", tree, "-").stdout
    urn = here.out("encode", "-", stdin=index[:-1])
    for arguments in (["decode", urn, "copy"], ["ls", urn], ["info", urn], ["verify", urn]):
        done = here(*arguments, code=5)
        assert b"--raw" in done.stderr
    assert names_in(home) == []
    assert here("decode", "--raw", urn, "-").stdout == index[:-1]


@pytest.mark.parametrize("kind", ["file", "directory", "symlink", "dangling"])
def test_what_exists_is_kept_without_force(
    here: User, hello: str, tree: str, home: Path, kind: str
) -> None:
    out = home / "out"
    match kind:
        case "file":
            out.write_text("precious")
        case "directory":
            lay_out({"precious": File(b"x")}, out)
        case "symlink":
            write(home / "target", b"precious")
            out.symlink_to("target")
        case _:
            out.symlink_to("nowhere")
    before, listed = read_back(out), sorted(names_in(home))
    for urn in (hello, tree):
        message = here.error("decode", urn, "out", code=7)
        if kind == "directory":
            assert message.startswith("out is a directory; --force")
        else:
            assert message == "out exists; --force replaces it"
    assert read_back(out) == before
    assert sorted(names_in(home)) == listed


@pytest.mark.parametrize("new", ["file", "tree"])
@pytest.mark.parametrize("kind", ["file", "directory", "symlink to a directory", "nothing"])
def test_force_replaces(here: User, hello: str, tree: str, home: Path, kind: str, new: str) -> None:
    out = home / "out"
    lay_out({"precious": File(b"x")}, home / "other")
    match kind:
        case "file":
            write(out, b"old")
        case "directory":
            lay_out({"old": {"file": File(b"x"), "link": Link("../../other")}}, out)
        case "symlink to a directory":
            out.symlink_to("other")
    if (kind, new) == ("directory", "file"):
        before = read_back(out)
        message = here.error("decode", "--force", hello, "out", code=7)
        assert message == "out is a directory, and this is a file: not replaced"
        assert read_back(out) == before
        return
    here("decode", "--force", tree if new == "tree" else hello, "out")
    assert read_back(out) == (TREE if new == "tree" else File(b"hello\n"))
    # The link itself was replaced, and nothing was followed on the way.
    assert read_back(home / "other") == {"precious": File(b"x")}
    assert sorted(names_in(home)) == ["other", "out"]


def test_force_never_takes_the_ground_away(kapla: Kapla, hello: str, home: Path) -> None:
    (home / "a" / "b").mkdir(parents=True)
    for out in ("/", ".", "..", "../..", str(home), str(home / "a")):
        done = kapla("decode", "--force", hello, out, code=7, cwd=home / "a" / "b")
        assert b"not replaced" in done.stderr, out
    assert read_back(home) == {"a": {"b": {}}}


def test_force_replaces_no_device(kapla: Kapla, hello: str, home: Path) -> None:
    assert "neither file nor directory" in kapla.error(
        "decode", "--force", hello, "/dev/null", code=7
    )
    os.mkfifo(home / "fifo")
    assert "neither file nor directory" in kapla.error("decode", "--force", hello, "fifo", code=7)
    assert stat.S_ISFIFO((home / "fifo").stat().st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_force_replaces_no_mount_point_nor_what_holds_one(
    kapla: Kapla, hello: str, home: Path
) -> None:
    point = home / "out" / "sub dir"
    point.mkdir(parents=True)
    source = home / "source"
    lay_out({"precious": File(b"x")}, source)
    # A bind mount on the same file system does not show in the device number.
    if subprocess.run(["mount", "--bind", source, point], check=False).returncode != 0:
        pytest.skip("cannot mount here")
    try:
        error = kapla.error("decode", "--force", hello, point, code=7)
        assert error == f"{point} is a mount point: not replaced"
        assert "holds a mount point" in kapla.error("decode", "--force", hello, "out", code=7)
        assert read_back(source) == {"precious": File(b"x")}
    finally:
        subprocess.run(["umount", point], check=True)
    assert sorted(names_in(home)) == ["out", "source"]


def test_the_umask_is_honoured(kapla: Kapla, hello: str, tree: str, home: Path) -> None:
    kapla("decode", hello, "file", umask=0o027)
    kapla("decode", tree, "tree", umask=0o027)
    modes = {
        path: stat.S_IMODE((home / path).stat().st_mode)
        for path in ("file", "tree", "tree/deep", "tree/a file", "tree/program")
    }
    assert modes == {
        "file": 0o640,
        "tree": 0o750,
        "tree/deep": 0o750,
        "tree/a file": 0o640,
        "tree/program": 0o750,
    }


@pytest.mark.parametrize("name", ["é" * 127, "x" * 255, "日" * 85, "-x", "a\nb", ":", "a b"])
def test_any_name_will_do(here: User, hello: str, home: Path, name: str) -> None:
    here("decode", "--", hello, name)
    assert names_in(home) == [name]
    assert (home / name).read_bytes() == b"hello\n"


def test_a_name_that_is_not_text(kapla: Kapla, tree: str, home: Path) -> None:
    kapla("decode", tree, b"b\xffd")
    assert os.listdir(os.fsencode(home)) == [b"b\xffd"]


def test_a_directory_that_is_not_there(kapla: Kapla, hello: str, home: Path) -> None:
    error = kapla.error("decode", hello, "no/such/out", code=7)
    assert error == f"{home}/no/such: there is no such directory"


def test_a_directory_where_one_may_not_write(
    daemon: Daemon, home: Path, hello: str, tree: str
) -> None:
    user = Kapla(home, daemon.url, prefix=as_a_user())
    (home / "closed").mkdir(mode=0o500)
    for urn in (hello, tree):
        assert "Permission denied" in user.error("decode", urn, "closed/out", code=7)


@pytest.mark.parametrize("kind", ["file", "tree"])
def test_more_content_than_is_allowed(here: User, home: Path, kind: str) -> None:
    lay_out({"a": File(bytes(3000)), "b": File(bytes(3000))}, home / "tree")
    source = home / "tree" if kind == "tree" else write(home / "file", bytes(6000))
    urn, before = here.out("encode", source), sorted(names_in(home))
    error = here.error("decode", "--max-size", "5999", urn, "out", code=7)
    assert "5999" in error.replace(",", "")
    assert sorted(names_in(home)) == before
    here("decode", "--max-size", "6000", urn, "out")
    assert (home / "out").exists()
    done = here("decode", "--max-size", "much", urn, "other", code=2)
    assert b"--max-size: a size is" in done.stderr


# --- the URN ----------------------------------------------------------------------------------


def test_a_urn_from_a_file_or_standard_input(kapla: Kapla, hello: str, home: Path) -> None:
    write(home / "urn", f"\n {hello}\n".encode())
    assert kapla("decode", "@urn", "-").stdout == b"hello\n"
    assert kapla("decode", "-", "-", stdin=f"{hello}\n".encode()).stdout == b"hello\n"
    assert kapla.error("decode", "@none", "-", code=7) == "none: No such file or directory"
    assert "@FILE" in kapla.error("decode", "@", "-", code=2)
    write(home / "two", f"{hello}\n\n{hello}\n".encode())
    assert "two holds 2 lines" in kapla.error("info", "@two", code=2)
    two = f"{hello}\n{hello}".encode()
    assert "standard input holds 2 lines" in kapla.error("info", "-", code=2, stdin=two)


def test_the_prefix_of_a_urn_in_any_case(kapla: Kapla, hello: str) -> None:
    assert kapla("decode", hello.replace("urn:eris", "URN:ERIS"), "-").stdout == b"hello\n"


@pytest.mark.parametrize(
    ("urn", "hint"),
    [
        ("\udcff", "does not begin with urn:eris:"),
        (UNKNOWN[:40] + " " + UNKNOWN[41:], "is a space"),
    ],
)
def test_a_bad_urn(offline: Kapla, urn: str, hint: str) -> None:
    error = offline.error("info", urn, code=2)
    assert error.startswith("not an ERIS read capability: ")
    assert hint in error


def test_a_urn_in_the_wrong_place_is_not_repeated(kapla: Kapla, hello: str) -> None:
    letters = hello.removeprefix("urn:eris:")
    for arguments in (
        ["-d", "encode", hello],
        ["-d", "decode", f"@{hello}", "-"],
        ["-d", "cat", hello, hello],
        ["-d", "decode", hello, f"{hello}/out"],
        [hello],
        ["stat", hello],
    ):
        done = subprocess.run(
            kapla.command(*arguments), env=kapla.environment(), capture_output=True, check=False
        )
        assert done.returncode in (2, 7)
        assert letters not in done.stderr.decode()
        assert letters not in done.stdout.decode()


# --- looking at it ----------------------------------------------------------------------------


def test_ls(kapla: Kapla, tree: str) -> None:
    assert kapla.out("ls", "-R", tree).splitlines() == [
        "a file",
        "deep/er/away",
        "deep/er/large",
        "empty",
        "hollow/",
        r"line\nbreak",
        "link",
        "program",
        "é日",
    ]


def test_ls_of_one_directory(here: User, tree: str) -> None:
    assert here.out("ls", tree).splitlines()[:4] == ["a file", "deep/", "empty", "hollow/"]
    assert here.out("ls", tree, "/deep/", "a file").splitlines() == ["deep/er/", "a file"]
    assert here.out("ls", tree, "deep/er").splitlines() == ["deep/er/away", "deep/er/large"]
    assert here.out("ls", tree, "hollow") == ""
    error = here.error("ls", tree, "deep/err", code=1)
    assert error == "deep/err is not in the tree; is deep/er meant?"


def test_ls_long(kapla: Kapla, tree: str) -> None:
    lines = kapla.out("ls", "-l", "-R", tree).splitlines()
    assert "l            deep/er/away -> /etc" in lines
    assert "-  97.7 KiB  deep/er/large" in lines
    assert "-       6 B  a file" in lines
    assert "d            hollow/" in lines
    assert lines[-2].startswith("x ")
    assert lines[-2].endswith(" B  program")


def test_ls_of_a_tree_that_lacks_something(here: User, tmp_path: Path) -> None:
    """All that can be told is told."""
    lay_out({"there": File(b"1234"), "gone": File(b"x" * 40_000)}, tmp_path / "made")
    urn = here.out("encode", "--no-cache", tmp_path / "made")
    whole = here.out("ls", "-l", "--json", urn)
    assert [json.loads(line)["size"] for line in whole.splitlines()] == [40_000, 4]
    with running_daemon() as other:
        elsewhere = User(here.home, other.url)
        os.unlink(tmp_path / "made" / "gone")
        elsewhere("encode", tmp_path / "made")
        elsewhere("copy", "--raw", "--from", here.url, "--to", other.url, urn)
        done = elsewhere("ls", "-l", urn, code=4)
    assert done.stdout.decode().splitlines() == ["-    ?  gone", "-  4 B  there"]
    assert done.stderr.startswith(b"kapla: the size of gone is not known: block ")


def test_ls_json(kapla: Kapla, tree: str) -> None:
    entries = [json.loads(line) for line in kapla.out("ls", "-R", "--json", tree).splitlines()]
    assert {"path": ["deep", "er", "away"], "kind": "symlink", "target": "/etc"} in entries
    assert {"path": ["line\nbreak"], "kind": "file"} in entries
    assert {entry["kind"] for entry in entries} == {"file", "executable", "symlink", "directory"}


def test_ls_where_the_output_is_not_unicode(daemon: Daemon, home: Path, tree: str) -> None:
    kapla = Kapla(home, daemon.url, env={"PYTHONIOENCODING": "latin-1"})
    assert b"\xe9\\u65e5" in kapla("ls", tree).stdout.splitlines()


def test_cat(kapla: Kapla, tree: str) -> None:
    assert kapla("cat", tree, "a file").stdout == b"hello\n"
    assert kapla("cat", tree, "/deep//./er/large").stdout == random.Random(1).randbytes(100_000)
    assert kapla("cat", tree, "empty").stdout == b""


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("deep/er", "deep/er is a directory"),
        ("hollow", "hollow is a directory"),
        ("", ". is a directory"),
        ("link", "link is a symlink to a file"),
        ("none", "none is not in the tree"),
        ("deep/../a file", "deep/../a file is not in the tree; is a file meant?"),
        ("a file/x", "a file/x is not in the tree"),
        ("\x1b[31m", r"\x1b[31m is not in the tree"),
    ],
)
def test_cat_of_what_is_no_file(here: User, tree: str, path: str, error: str) -> None:
    done = here("cat", tree, path, code=1)
    assert done.stdout == b""
    assert done.stderr.decode() == f"kapla: {error}\n"


def test_a_file_is_no_tree(kapla: Kapla, hello: str) -> None:
    assert kapla.error("ls", hello, code=2) == "this is a file, not a tree"
    assert kapla.error("cat", hello, "x", code=2) == "this is a file, not a tree"


def test_info_of_a_file(kapla: Kapla) -> None:
    urn = kapla.out("encode", "-", stdin=bytes(100_000))
    assert json.loads(kapla.out("info", "--json", urn)) == {
        "kind": "file",
        "size": 100_000,
        "block_size": 32768,
        "level": 1,
        "blocks": 5,
        "raw_bytes": 100_000,
        "block_bytes": 5 * 32768,
    }
    lines = [line.split(":") for line in kapla.out("info", urn).splitlines()]
    assert {name: value.strip() for name, value in lines} == {
        "kind": "file",
        "size": "100000",
        "block size": "32768",
        "level": "1",
        "blocks": "5",
        "raw bytes": "100000",
        "block bytes": "163840",
    }


def test_info_of_a_tree(kapla: Kapla, tree: str) -> None:
    facts = json.loads(kapla.out("info", "--json", tree))
    counts = {name: facts[name] for name in ("files", "executables", "symlinks")}
    assert facts["kind"] == "tree"
    assert counts == {"files": 6, "executables": 1, "symlinks": 2}
    assert facts["empty_directories"] == 1


def test_verify(kapla: Kapla, hello: str, tree: str) -> None:
    assert kapla.out("verify", hello) == "1 block, 0 missing, 0 bad"
    summary = json.loads(kapla.out("verify", "--json", tree))
    assert summary["missing"] == summary["bad"] == 0
    assert summary["blocks"] > 5


def test_stat(kapla: Kapla, hello: str) -> None:
    report = json.loads(kapla.out("stat", "--json"))
    assert report.keys() == {
        "version",
        "store",
        "blocks",
        "bytes",
        "database_bytes",
        "max_size",
        "min_free",
        "when_full",
        "uptime_s",
        "requests",
        "new_blocks",
        "full_blocks",
        "evicted_blocks",
        "scrubbed_blocks",
        "bad_blocks",
        "connections",
        "seeds",
    }
    assert report["blocks"].keys() == report["bytes"].keys() == {"1024", "32768"}
    assert report["bytes"]["1024"] == 1024 * report["blocks"]["1024"] > 0
    assert report["requests"].keys() == {"get", "put", "other", "refused"}
    text = kapla.out("stat")
    for word in ("blocks of 1 KiB:", "blocks of 32 KiB:", "database:", "uptime:", "put requests:"):
        assert word in text


def test_a_tcp_listener_tells_strangers_nothing_and_takes_nothing(
    kapla: Kapla, daemon: Daemon, hello: str
) -> None:
    for arguments in (["stat"], ["encode", "-"]):
        error = kapla.error(*arguments, "--store-url", daemon.tcp_url, code=6, stdin=b"x")
        assert "refuses" in error or "its listener needs the flag stat" in error
    assert kapla("decode", "--store-url", daemon.tcp_url, hello, "-").stdout == b"hello\n"


# --- the store --------------------------------------------------------------------------------


def test_the_option_wins_over_the_environment(daemon: Daemon, home: Path, hello: str) -> None:
    wrong = Kapla(home, "coap+unix:///nowhere.sock")
    assert wrong("decode", "--store-url", daemon.url, hello, "-").stdout == b"hello\n"


def test_a_list_of_stores_is_tried_in_order(daemon: Daemon, home: Path) -> None:
    both = Kapla(home, f"coap+unix:///nowhere.sock {daemon.url}")
    urn = both.out("encode", "-", stdin=b"in the second")
    assert both("decode", urn, "-").stdout == b"in the second"


def test_the_default_is_the_users_socket(daemon: Daemon, home: Path) -> None:
    user = Kapla(home, "", prefix=as_a_user(), env={"XDG_RUNTIME_DIR": str(daemon.directory)})
    assert "blocks" in json.loads(user.out("stat", "--json"))


@pytest.mark.parametrize("name", ["encode", "decode", "ls", "info", "verify", "stat"])
def test_without_a_daemon(offline: Kapla, home: Path, name: str) -> None:
    user = Kapla(home, "", prefix=as_a_user())
    arguments = {"encode": ["-"], "stat": []}.get(name, [UNKNOWN])
    arguments += ["out"] if name == "decode" else []
    error = user.error(name, *arguments, code=3, stdin=b"x")
    # If this machine has a daemon of its own, its socket is named.
    assert "eris.sock" in error
    assert error.endswith("tart a daemon with: kaplad") or "only" in error
    assert names_in(home) == []


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("coap+ws://h", "not supported"),
        (" ", "empty"),
    ],
)
def test_a_wrong_store_url(offline: Kapla, url: str, hint: str) -> None:
    assert hint in offline.error("stat", "--store-url", url, code=2)


def test_a_store_url_that_leads_to_something_else(offline: Kapla, home: Path) -> None:
    (home / "blocks.sqlite").touch()
    for name, hint in (("", "it is a directory."), ("/blocks.sqlite", "it is a file, no socket.")):
        error = offline.error("stat", "--store-url", f"coap+unix://{home}{name}", code=3)
        assert hint in error


def test_no_store_at_all(daemon: Daemon, home: Path, hello: str) -> None:
    none = Kapla(home, "none")
    assert none.error("stat", code=2).startswith("ERIS_STORE_URL says that there is no store")
    assert none("decode", "--store-url", daemon.url, hello, "-").stdout == b"hello\n"
    assert none.out("encode", "--no-store", "-", stdin=b"hello\n") == hello


def test_a_list_says_which_store_takes_the_blocks(daemon: Daemon, home: Path) -> None:
    both = Kapla(home, f"{daemon.tcp_url} {daemon.url}")
    done = both("encode", "-", stdin=b"into the second")
    assert done.stderr.decode().startswith("kapla: the blocks go to Unix socket ")
    assert b": read-only here)\n" in done.stderr
    urn = done.stdout.decode().strip()
    assert both("decode", urn, "-").stdout == b"into the second"
    alone = both("encode", "--store-url", daemon.url, "-", stdin=b"alone")
    assert alone.stderr == b""


def test_a_host_that_never_answers_is_named_and_given_up(
    daemon: Daemon, home: Path, hello: str
) -> None:
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(f"{home}/stopped.sock")
        stopped.listen()  # and nobody accepts
        url = f"coap+unix://{home}/stopped.sock"
        kapla = Kapla(home, url, env={"KAPLA_TIMEOUT": "3.5"})
        done = kapla("stat", code=3)
        waiting, failure = done.stderr.decode().splitlines()
        assert waiting.startswith(f"kapla: waiting for Unix socket {home}/stopped.sock")
        assert "did not answer" in failure
        both = Kapla(home, f"{url} {daemon.url}")
        assert both("decode", "--timeout", "0.1", hello, "-").stdout == b"hello\n"
        assert both.out("encode", "--timeout", "0.1", "-", stdin=b"hello\n") == hello


def test_a_store_that_is_none_of_ours(offline: Kapla) -> None:
    """Something that speaks another language: it is said, and nothing hangs."""
    with (
        tempfile.TemporaryDirectory(prefix="kapla-") as name,
        socket.socket(socket.AF_UNIX) as server,
    ):
        server.bind(f"{name}/s")
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" * 100)
                while connection.recv(4096):
                    pass

        threading.Thread(target=answer, daemon=True).start()
        offline.error("stat", "--store-url", f"coap+unix://{name}/s", code=3)


# --- missing and damaged blocks ---------------------------------------------------------------


@pytest.fixture
def own_daemon(home: Path) -> Iterator[Daemon]:
    with running_daemon() as running:
        yield running


def execute(daemon: Daemon, *statements: tuple[str, Reference]) -> None:
    """Change the database behind the daemon's back: one row by each statement."""
    daemon.stop()
    with closing(sqlite3.connect(daemon.store)) as connection, connection:
        for statement, reference in statements:
            assert connection.execute(statement, [reference]).rowcount == 1
    daemon.start()


def test_a_missing_block(own_daemon: Daemon, home: Path) -> None:
    kapla = Kapla(home, own_daemon.url)
    content = random.Random(5).randbytes(20_000)
    references = blocks_of(content, BlockSize.SMALL)
    assert len(references) == 20 + 2 + 1
    urn = kapla.out("encode", "--block-size", "1KiB", "-", stdin=content)
    lost = references[7]
    execute(own_daemon, ("DELETE FROM blocks WHERE reference = ?", lost))

    error = kapla.error("decode", urn, "out", code=4)
    assert "is not in the store (block " in error
    assert "of 23 of this content)" in error
    assert f"but the first block is: it is lost from Unix socket {own_daemon.directory}/" in error
    assert names_in(home) == []
    done = kapla("decode", urn, "-", code=4)
    assert content.startswith(done.stdout)

    done = kapla("verify", urn, code=4)
    finding, summary = done.stdout.decode().splitlines()
    assert finding.startswith("missing urn:blake2b:")
    assert summary == "23 blocks, 1 missing, 0 bad"
    assert done.stderr == b"kapla: some blocks are missing\n"
    found, totals = map(json.loads, kapla("verify", "--json", urn, code=4).stdout.splitlines())
    assert found["missing"] == finding.split()[1]
    assert totals == {"blocks": 23, "missing": 1, "bad": 0}

    # Encoding it again heals it.
    assert kapla.out("encode", "--block-size", "1KiB", "-", stdin=content) == urn
    assert kapla("decode", urn, "-").stdout == content


# By what is put in the place of a block: how a decode ends, and what a verify counts. What cannot
# be a block counts as not there.
DAMAGE = {
    "zeroblob(1024)": (5, b"0 missing, 1 bad"),
    "zeroblob(1000)": (4, b"1 missing, 0 bad"),
    "zeroblob(32768)": (5, b"0 missing, 1 bad"),
    "x''": (4, b"1 missing, 0 bad"),
}


def test_damaged_blocks(own_daemon: Daemon, home: Path) -> None:
    here = User(home, own_daemon.url)
    contents = {damage: random.Random(damage).randbytes(5000) for damage in DAMAGE}
    broken = {damage: blocks_of(one, BlockSize.SMALL)[0] for damage, one in contents.items()}
    encode = ("encode", "--block-size", "1KiB", "-")
    urns = {damage: here.out(*encode, stdin=one) for damage, one in contents.items()}
    execute(
        own_daemon,
        *(
            (f"UPDATE blocks SET block = {damage} WHERE reference = ?", reference)
            for damage, reference in broken.items()
        ),
    )
    for damage, (code, counts) in DAMAGE.items():
        content, urn = contents[damage], urns[damage]
        here.error("decode", urn, "out", code=code)
        assert names_in(home) == []
        result = here("verify", urn, code=code)
        assert format_block_urn(broken[damage]).encode() in result.stdout
        assert counts in result.stdout
        # Encoding it again heals it.
        assert here.out(*encode, stdin=content) == urn
        assert here("decode", urn, "-").stdout == content


def test_a_tree_that_lacks_a_block(own_daemon: Daemon, home: Path) -> None:
    here = User(home, own_daemon.url)
    lay_out(TREE, home / "tree")
    urn = here.out("encode", "tree")
    [lost] = blocks_of(b"hello\n", BlockSize.SMALL)
    execute(own_daemon, ("DELETE FROM blocks WHERE reference = ?", lost))
    done = here("verify", urn, code=4)
    assert done.stdout.decode().splitlines()[0].endswith("  a file")
    here.error("decode", urn, "out", code=4)
    shutil.rmtree(home / "cache", ignore_errors=True)
    assert names_in(home) == ["tree"]
    # What is there can still be had.
    assert here("cat", urn, "program").stdout == b"#!/bin/sh\n"
    # The index may be gone too.
    root: Reference = ReadCapability.from_urn(urn).root.reference
    execute(own_daemon, ("DELETE FROM blocks WHERE reference = ?", root))
    for arguments in (["ls", urn], ["info", urn], ["cat", urn, "program"], ["verify", urn]):
        here(*arguments, code=4)


def test_a_wrong_key_is_damaged_content(kapla: Kapla, hello: str) -> None:
    capability = ReadCapability.from_urn(hello).to_bytes()
    other = ReadCapability.from_bytes(capability[:-1] + bytes([capability[-1] ^ 1])).to_urn()
    assert "the URN may be mistyped" in kapla.error("decode", other, "-", code=5)


@pytest.mark.parametrize("arguments", ["decode URN -", "ls URN", "cat URN x", "info URN"])
def test_a_urn_of_nothing_in_the_store(here: User, daemon: Daemon, arguments: str) -> None:
    given = arguments.replace("URN", UNKNOWN).split(" ")
    error = here.error(*given, code=4)
    assert "does not have the first block of this URN: it is mistyped" in error
    assert "Unix socket " in error
    both = User(here.home, f"{daemon.url} {daemon.tcp_url}")
    assert f"none of Unix socket {daemon.directory}/" in both.error(*given, code=4)


def test_verify_of_a_urn_of_nothing_in_the_store(kapla: Kapla) -> None:
    done = kapla("verify", UNKNOWN, code=4)
    assert b"does not have the first block of this URN" in done.stderr


# --- other packages' commands -----------------------------------------------------------------


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A package with commands, as an installer would lay it out."""
    place = tmp_path / "plugins"
    (place / "extra-1.0.dist-info").mkdir(parents=True)
    (place / "extra-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n"
    )
    (place / "extra-1.0.dist-info" / "entry_points.txt").write_text(
        "[kapla.commands]\n"
        "hello = extra:hello\nnonsense = extra:nonsense\n"
        "gone = extra:gone\nbroken = extra_broken:command\n"
    )
    (place / "extra.py").write_text(
        "import click\n\n@click.command()\ndef hello():\n    'Greet.'\n    click.echo('hi')\n\n"
        "nonsense = 5\n"
    )
    (place / "extra_broken.py").write_text("raise RuntimeError('this package is broken')\n")
    return place


def test_another_packages_command(home: Path, plugins: Path) -> None:
    kapla = Kapla(home, "", env={"PYTHONPATH": str(plugins)})
    assert kapla.out("hello") == "hi"
    assert "130  interrupted" in kapla.out("hello", "--help")
    assert "Greet." in kapla.out("--help")


def test_broken_commands_keep_their_trouble_to_themselves(home: Path, plugins: Path) -> None:
    kapla = Kapla(home, "", env={"PYTHONPATH": str(plugins)})
    text = kapla.out("--help")
    assert all(name in text for name in (*COMMANDS, "hello", "broken", "gone", "nonsense"))
    assert "this package is broken" in kapla.error("broken", code=1)
    assert "cannot be loaded" in kapla.error("gone", code=1)
    assert "is not a click command" in kapla.error("nonsense", code=1)


def test_a_misspelt_command_is_told_what_it_may_have_been(kapla: Kapla) -> None:
    assert b"Did you mean 'stat'?" in kapla("stats", code=2).stderr
    assert b"Did you mean" not in kapla("xyzzy", code=2).stderr


def test_the_list_of_commands_is_told_in_whole_words(kapla: Kapla) -> None:
    shown = kapla.out("--help")
    ours, guix = shown.index("\nCommands:\n"), shown.index("\nWith Guix and Nix:\n")
    assert ours < shown.index("\n  encode ") < guix < shown.index("\n  substitute ")
    assert "[OPTIONS] COMMAND [ARGS]..." in shown and shown.count("...") == 1
