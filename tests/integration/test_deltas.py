"""Deltas through the installed `kapla` and a real daemon: every command that takes a URN."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest

from eris import ErisError, ReadCapability, put_content
from eris.base32 import format_base32
from kapla.cli.commands import OWN
from kapla.cli.exit_codes import exit_code
from kapla.cli.outcome import CommandError
from kapla.client import RemoteStore
from kapla.urls import parse_store_url
from tests.eris_fs.delta import raw
from tests.eris_fs.delta.raw import Link, Tree
from tests.eris_fs.delta.trees import lay_out, read_back
from tests.integration.commands import Kapla
from tests.integration.daemon import Daemon, running_daemon

PROGRAM = random.Random(2).randbytes(400_000)
BASE: Tree = {
    "bin/tool*": PROGRAM,
    "link": Link("bin/tool"),
    "notes": b"as before\n" * 20,
    "gone": b"gone",
    "hollow": None,
}
NEW: Tree = {
    "bin/tool*": PROGRAM[:100_000] + b"changed" + PROGRAM[100_000:],
    "link": Link("notes"),
    "notes": b"as before\n" * 20,
    "new": random.Random(3).randbytes(50_000),
}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon() as running:
        yield running


@pytest.fixture
def kapla(tmp_path: Path, daemon: Daemon) -> Kapla:
    return Kapla(tmp_path, daemon.url)


class Here:
    """Commands in this process: to start one takes longer than what these do."""

    def __init__(self, url: str, said: pytest.CaptureFixture[str]) -> None:
        self._url = url
        self._said = said

    def out(self, name: str, *arguments: str) -> str:
        """What a command says that succeeds."""
        self._said.readouterr()
        self._run(name, *arguments)
        return self._said.readouterr().out.rstrip("\n")

    def _run(self, name: str, *arguments: str) -> None:
        command = import_module(OWN[name].module).command
        command.main([*arguments, "--store-url", self._url], standalone_mode=False)

    def error(self, name: str, *arguments: str, code: int) -> str:
        with pytest.raises((CommandError, click.ClickException, ErisError)) as caught:
            self._run(name, *arguments)
        assert exit_code(caught.value) == code
        return str(caught.value)


@pytest.fixture
def here(
    tmp_path: Path,
    daemon: Daemon,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Here:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Here(daemon.url, capsys)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return lay_out(BASE, tmp_path / "base")


@pytest.fixture(scope="module")
def delta(daemon: Daemon) -> str:
    """The URN of a delta that is in the store."""

    async def put() -> str:
        async with RemoteStore(parse_store_url(daemon.url)) as store:
            return (await put_content(store, raw.make(BASE, NEW).to_bytes())).to_urn()

    return asyncio.run(put())


def test_a_delta_and_its_base_become_the_new_tree(
    kapla: Kapla, base: Path, delta: str, tmp_path: Path
) -> None:
    kapla("decode", delta, "new", "--base", "base")
    assert read_back(tmp_path / "new") == NEW
    assert read_back(base) == BASE
    # A base in the store; what is there is replaced at once, or not at all.
    (tmp_path / "new/more").write_bytes(b"more")
    kapla("encode", "--packed", "--name", "base", "base")
    assert kapla.error("decode", delta, "new", "--base", "@base", code=7).startswith("new is a dir")
    kapla("decode", "--force", delta, "new", "--base", "@base")
    assert read_back(tmp_path / "new") == NEW


def test_the_new_tree_may_take_the_place_of_its_base(here: Here, base: Path, delta: str) -> None:
    here.out("decode", "--force", delta, "base", "--base", "base")
    assert read_back(base) == NEW
    # A second time it is no base any more.
    error = here.error("decode", "--force", delta, "base", "--base", "base", code=7)
    assert error == "base is not the tree that this delta leads from, or has changed since"
    assert read_back(base) == NEW


def test_what_stands_in_the_way_is_said_and_nothing_is_made(
    here: Here, base: Path, delta: str, tmp_path: Path
) -> None:
    assert "this is a delta: name its base" in here.error("decode", delta, "out", code=2)
    error = here.error("decode", delta, "out", "--base", "nowhere", code=7)
    assert error == "--base: nowhere is no directory and no URN"
    error = here.error("decode", delta, "out", "--base", str(tmp_path), code=7)
    assert error == f"{tmp_path} is not the tree that this delta leads from, or has changed since"
    error = here.error("decode", delta, "out", "--base", delta, code=2)
    assert error.startswith("the base is a delta itself")
    error = here.error("decode", delta, "out", "--base", "base", "--max-size", "1000", code=7)
    assert "1,000 are free or allowed: see --max-size" in error
    error = here.error("decode", delta, "-", "--base", "base", code=2)
    assert "standard output takes one file" in error
    error = here.error("decode", delta, "out", "--base", "base", "--path", "new", code=2)
    assert "--path is for trees" in error
    error = here.error("decode", delta, "out", "--base", "base", "--raw", code=2)
    assert error.startswith("--raw writes a delta as it is")
    os.mkfifo(base / "pipe")
    error = here.error("decode", delta, "out", "--base", "base", code=7)
    assert error == f"the base cannot be read: {base}/pipe: it is a named pipe"
    (base / "pipe").unlink()
    # As long as before, and other bytes.
    (base / "notes").write_bytes(b"not as be\n" * 20)
    error = here.error("decode", delta, "out", "--base", "base", code=7)
    assert "is not the tree that it names" in error
    assert sorted(one.name for one in tmp_path.iterdir()) == ["base"]


def test_a_base_is_for_deltas_alone(here: Here, base: Path) -> None:
    tree = here.out("encode", "--no-catalogue", "base")
    error = here.error("decode", tree, "out", "--base", str(base), code=2)
    assert error == "this is a tree, and --base is for deltas"


def test_info_tells_what_a_delta_tells_of_itself(here: Here, delta: str) -> None:
    facts = json.loads(here.out("info", "--json", delta))
    made = raw.make(BASE, NEW).to_bytes()
    assert facts["kind"] == "delta"
    assert facts["size"] == len(made)
    assert facts["entries"] == len(NEW)
    assert facts["files_bytes"] == sum(map(len, raw.files(NEW).values()))
    assert facts["base_outline"] == raw.digest(raw.outline(BASE)).hex()
    assert facts["block_bytes"] == facts["blocks"] * facts["block_size"] > 0


def test_other_commands_take_a_delta_for_a_content_and_never_for_a_file(
    here: Here, delta: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["ls", delta], ["cat", delta, "new"], ["diff", delta, delta]):
        assert here.error(*command, code=2).startswith("this is a delta")
    blocks = json.loads(here.out("info", "--json", delta))["blocks"]
    assert here.out("verify", delta) == f"{blocks} blocks, 0 missing, 0 bad"
    assert json.loads(here.out("explain", "--json", delta))["kind"] == "delta"
    here.out("decode", "--raw", delta, "raw")
    assert (tmp_path / "raw").read_bytes() == raw.make(BASE, NEW).to_bytes()
    here.out("pin", delta)
    here.out("lend", delta)
    here.out("link", delta, "delta.eris")
    assert "application/x-kapla-delta" in here.out("open", "--info", "delta.eris")
    assert "name its base" in here.error("open", "delta.eris", "opened", code=2)
    assert not (tmp_path / "opened").exists()
    here.out("export", delta, "bundle")
    elsewhere = Here(f"file://{tmp_path}/blocks.sqlite", capsys)
    elsewhere.out("import", "bundle")
    assert elsewhere.out("verify", delta) == f"{blocks} blocks, 0 missing, 0 bad"


def test_a_new_version_comes_with_the_delta_that_leads_to_it(
    kapla: Kapla, here: Here, base: Path, tmp_path: Path
) -> None:
    kapla("encode", "--packed", "--name", "tool", "--lend", "base")
    new = lay_out(NEW, tmp_path / "new")
    (new / "not this").write_bytes(b"left out")
    out = kapla.out(
        *("encode", "--packed", "--name", "tool", "--base", "@tool", "--exclude", "not this"),
        *("--lend", "new"),
    )
    tree, delta = out.splitlines()
    kapla("decode", "@tool.delta", "made", "--base", "base")
    assert read_back(tmp_path / "made") == NEW
    kapla("decode", delta, "made again", "--base", "@tool~1")
    assert read_back(tmp_path / "made again") == NEW
    noted = [json.loads(line) for line in kapla.out("list", "--json").splitlines()]
    assert [(one["name"], one["version"], one["kind"], one["urn"]) for one in noted[:2]] == [
        ("tool.delta", 0, "delta", delta),
        ("tool", 0, "tree", tree),
    ]
    facts = json.loads(here.out("info", "--json", delta))
    assert (noted[0]["size"], noted[0]["blocks"]) == (facts["size"], facts["blocks"])
    assert facts["size"] < 60_000 < facts["files_bytes"] / 7
    pins = [json.loads(line) for line in here.out("pins", "--json").splitlines()]
    roots = {ReadCapability.from_urn(urn).root.reference for urn in (tree, delta)}
    assert set(map(format_base32, roots)) <= {one["root"] for one in pins if one["lend"]}


def test_where_nothing_has_changed_the_delta_stays(
    kapla: Kapla, here: Here, base: Path, tmp_path: Path
) -> None:
    encode = ("encode", "--packed", "--name", "quiet", "--base", "@quiet")
    kapla("encode", "--packed", "--name", "quiet", "base")
    lay_out(NEW, tmp_path / "new")
    tree, delta = kapla.out(*encode, "new").splitlines()
    assert kapla.out(*encode, "new").splitlines() == [tree]
    noted = [json.loads(line) for line in kapla.out("list", "--json").splitlines()]
    assert [one["urn"] for one in noted if one["name"] == "quiet.delta"] == [delta]


def test_both_urns_may_go_to_files(kapla: Kapla, here: Here, base: Path, tmp_path: Path) -> None:
    lay_out(NEW, tmp_path / "new")
    done = kapla("encode", "--packed", "--out", "tool.urn", "--base", "base", "--no-pin", "new")
    assert done.stdout == b""
    kapla("decode", "@tool.urn.delta", "made", "--base", "base")
    assert read_back(tmp_path / "made") == NEW
    assert (tmp_path / "tool.urn.delta").stat().st_mode & 0o777 == 0o600
    # Nothing is stored where the delta could not be made, or told of.
    error = here.error("encode", "--base", "base", "new", code=2)
    assert error == "--base is for --packed: a delta stands beside a packed tree."
    error = here.error("encode", "--packed", "--no-store", "--base", "base", "new", code=2)
    assert error.startswith("--base wants a store")
    error = here.error("encode", "--packed", "--base", "nowhere", "new", code=7)
    assert error.startswith("--base: nowhere is no directory")
    (tmp_path / "other.delta").mkdir()
    error = here.error("encode", "--packed", "--base", "base", "--out", "other", "new", code=7)
    assert "other.delta is there, and is no plain file" in error


def test_no_delta_becomes_a_version_of_something_else(kapla: Kapla, base: Path) -> None:
    kapla("encode", "--packed", "--name", "it.delta", "--no-pin", "base")
    given = ("encode", "--packed", "--name", "it", "--base", "base", "--no-pin", "base")
    error = kapla.error(*given, code=2)
    assert "--base notes it.delta, which is the name of something else" in error
    noted = [json.loads(line) for line in kapla.out("list", "--json").splitlines()]
    assert [(one["name"], one["kind"]) for one in noted] == [("it.delta", "tree")]
    kapla("forget", "it.delta")
    kapla(*given)
    kapla(*given)
