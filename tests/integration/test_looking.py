"""Looking into trees as their users do: parts of them, differences, links."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from eris import encode
from eris.capability import ReadCapability
from eris.crypto import encrypt_leaves, encrypt_node
from eris.link import LINK_MAGIC, LINK_MEDIA_TYPE, format_link
from eris.link import Link as LinkFile
from eris.model import BlockSize
from eris.node import pad
from kapla.cli.open import command as OPEN
from kapla.client import default_store_urls, open_store
from tests.eris_fs.trees import File, Link, Node, lay_out, read_back
from tests.integration.commands import Kapla
from tests.integration.daemon import running_daemon
from tests.integration.here import User

PHOTO = bytes(range(256)) * 400
TREE: dict[str, Node] = {
    "2026": {"june.txt": File(b"june\n"), "july.txt": File(b"july\n")},
    "run.sh": File(b"#!/bin/sh\n", executable=True),
    "latest": Link("2026/july.txt"),
    "photo.jpg": File(PHOTO),
}


@pytest.fixture(scope="module")
def kapla(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    home = tmp_path_factory.mktemp("home")
    with running_daemon() as daemon:
        kapla = User(home, daemon.url)
        lay_out(TREE, home / "notes")
        kapla("encode", "--name", "notes", "notes")
        kapla("encode", "--packed", "--level", "1", "--name", "packed", "notes")
        yield kapla


@pytest.fixture(params=["@notes", "@packed"])
def urn(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_part_of_a_tree(kapla: User, tmp_path: Path, urn: str) -> None:
    out = tmp_path / "out"
    kapla("decode", urn, out, "--path", "2026/", "--path", "!june.txt", "--path", "run.sh")
    assert read_back(out) == {
        "2026": {"july.txt": File(b"july\n")},
        "run.sh": File(b"#!/bin/sh\n", executable=True),
    }


def test_one_file_is_out_itself_and_with_a_slash_below_it(
    kapla: User, tmp_path: Path, urn: str
) -> None:
    out = tmp_path / "out"
    kapla("decode", urn, out, "--path", "run.sh")
    assert read_back(out) == File(b"#!/bin/sh\n", executable=True)
    kapla("decode", "--force", urn, f"{out}/", "--path", "2026/june.txt")
    assert read_back(out) == {"2026": {"june.txt": File(b"june\n")}}
    # What was matched, and not named, is below it.
    kapla("decode", "--force", urn, out, "--path", "*.jpg")
    assert read_back(out) == {"photo.jpg": File(PHOTO)}
    assert kapla.out("decode", urn, "-", "--path", "2026/june.txt") == "june"


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["--path", "2026/jun.txt"], 1, "is 2026/june.txt or 2026/july.txt meant?"),
        (["--path", "none"], 1, "--path: nothing in the tree is none"),
        (["--path", "a//b"], 2, "has nothing before, after or between slashes"),
    ],
)
def test_what_cannot_be_chosen_leaves_nothing(
    kapla: User, tmp_path: Path, urn: str, arguments: list[str], code: int, error: str
) -> None:
    assert error in kapla.error("decode", urn, tmp_path / "out", *arguments, code=code)
    assert not list(tmp_path.iterdir())


def test_only_one_file_goes_to_standard_output(kapla: User, urn: str) -> None:
    assert "takes one file" in kapla.error("decode", urn, "-", "--path", "2026", code=2)
    assert "is a symlink" in kapla.error("decode", urn, "-", "--path", "latest", code=2)


def test_only_what_is_wanted_is_fetched(kapla: User, tmp_path: Path) -> None:
    """From a store that has the index, and of the files but one."""
    urn = kapla.out("encode", "notes")
    june = kapla.out("encode", "notes/2026/june.txt")
    with running_daemon() as other:
        elsewhere = User(tmp_path, other.url)
        for raw in (urn, june):
            elsewhere("copy", "--raw", "--from", kapla.url, "--to", other.url, raw)
        elsewhere("decode", urn, tmp_path / "out", "--path", "2026/june.txt")
        elsewhere("decode", urn, tmp_path / "other", "--path", "photo.jpg", code=4)
    assert (tmp_path / "out").read_bytes() == b"june\n"
    assert not (tmp_path / "other").exists()


def test_differences(kapla: User, tmp_path: Path) -> None:
    lay_out({**TREE, "photo.jpg": File(PHOTO + b"+"), "new": File(b"123")}, tmp_path / "newer")
    newer = kapla.out("encode", tmp_path / "newer")
    assert kapla.out("diff", "@notes", "@notes") == ""
    done = kapla("diff", "@notes", newer, code=1)
    assert [" ".join(line.split()) for line in done.stdout.decode().splitlines()] == [
        "+ 3 B new",
        "~ 100.0 KiB (+1 B) photo.jpg",
        "1 added (3 B), 1 changed (100.0 KiB, +1 B)",
        "to have the new one: 4 blocks (66.0 KiB) that the old one does not have",
    ]
    facts = json.loads(kapla("diff", "--json", "@notes", newer, code=1).stdout)
    assert [change["change"] for change in facts["changes"]] == ["added", "changed"]
    assert facts["changes"][1]["new"] == {"kind": "file", "size": len(PHOTO) + 1}
    about = json.loads(kapla.out("info", "--json", "--against", "@notes", newer))
    assert facts["new_block_bytes"] == about["new_block_bytes"]
    assert facts["new_blocks"] == about["new_blocks"]


def test_trees_of_two_kinds(kapla: User) -> None:
    done = kapla("diff", "@notes", "@packed", code=1)
    assert b"?        5 B  2026/june.txt" in done.stdout
    assert b"--read compares" in done.stdout
    assert "to have the new one" in kapla.out("diff", "--read", "@notes", "@packed")


def test_two_files(kapla: User) -> None:
    one, other = (kapla.out("encode", f"notes/2026/{name}.txt") for name in ("june", "july"))
    assert kapla("diff", one, other, code=1).stdout.startswith(b"~  5 B -> 5 B  .\n")


# --- links ----------------------------------------------------------------------------------------


def test_a_link_stands_for_its_content(kapla: User, tmp_path: Path, urn: str) -> None:
    program = kapla.as_program
    link = tmp_path / "notes.eris"
    program("link", urn, link)
    assert link.stat().st_mode & 0o777 == 0o600
    assert program.out("cat", f"@{link}", "2026/june.txt") == "june"
    program("open", link, tmp_path / "out")
    assert read_back(tmp_path / "out") == TREE
    facts = json.loads(program.out("open", "--json", link))
    kind = "application/x-eris-fs" if urn == "@notes" else "application/x-kapla-packed"
    assert facts["media_type"] == kind
    assert program.error("link", urn, link, code=7).endswith("exists; --force replaces it")


def test_a_link_to_a_file(kapla: User, tmp_path: Path) -> None:
    urn = kapla.out("encode", "notes/photo.jpg")
    link = tmp_path / "photo.jpg.eris"
    kapla("link", "--name", "at the lake", urn, link)
    assert kapla.out("open", "--urn", link) == urn
    lines = kapla.out("open", "--info", link).splitlines()
    assert "media type:         image/jpeg" in lines
    assert "name:               at the lake" in lines
    assert urn not in "".join(lines)
    kapla("open", "--beside", link)
    assert (tmp_path / "photo.jpg").read_bytes() == PHOTO
    assert kapla("open", link, "-").stdout == PHOTO


def test_without_a_place_it_goes_to_one_of_its_own(kapla: User, tmp_path: Path) -> None:
    urn = kapla.out("encode", "notes/run.sh")
    (tmp_path / "run.sh.eris").write_text(f"{urn}\n")
    elsewhere = Kapla(kapla.home, kapla.url, env={"TMPDIR": str(tmp_path)})
    place = Path(elsewhere.out("open", tmp_path / "run.sh.eris"))
    assert place.read_bytes() == b"#!/bin/sh\n"
    assert place.name == "run.sh"
    assert place.parent.parent == tmp_path
    assert place.parent.stat().st_mode & 0o777 == 0o700
    # Only what is asked for is run.
    shown = elsewhere.out("open", "--with", "cat", tmp_path / "run.sh.eris")
    assert shown.splitlines()[-1] == "#!/bin/sh"


def test_a_link_that_is_none_or_says_another_size(kapla: User, tmp_path: Path) -> None:
    capability, _ = encode(b"june\n")
    for name, data in (("none", b"hello"), ("other", format_link(LinkFile(capability, 6, "a/b")))):
        (tmp_path / f"{name}.eris").write_bytes(data)
    assert "no link" in kapla.error("open", tmp_path / "none.eris", code=5)
    elsewhere = Kapla(kapla.home, kapla.url, env={"TMPDIR": str(tmp_path)})
    error = elsewhere.error("open", tmp_path / "other.eris", code=5)
    assert "6 bytes, and it has 5" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["none.eris", "other.eris"]


@pytest.mark.parametrize("name", ["...eris", "..eris", ".eris"])
def test_the_name_of_a_link_leads_to_no_directory(kapla: User, tmp_path: Path, name: str) -> None:
    (tmp_path / "beside").mkdir()
    link = tmp_path / "beside" / name
    link.write_text(kapla.out("encode", "--no-store", "notes"))
    elsewhere = Kapla(kapla.home, kapla.url, env={"TMPDIR": str(tmp_path)})
    place = Path(elsewhere.out("open", "--force", link))
    assert place.name == "content"
    assert place.parent.parent == tmp_path
    assert "--beside wants" in kapla.error("open", "--force", "--beside", link, code=2)
    assert link.exists()


def test_what_a_link_adds_is_not_taken_for_its_size(tmp_path: Path) -> None:
    capability, _ = encode(b"june\n")
    link = tmp_path / "a.eris"
    link.write_bytes(format_link(LinkFile(capability, 6, "a/b", {"size": 5, "Media type": "c/d"})))
    lines = User(tmp_path, "none").out("open", "--info", link).splitlines()
    assert lines[:2] == ["size:               6", "media type:         a/b"]
    assert lines[-2:] == ["attribute size:     5", "attribute Media type: c/d"]


def test_what_stands_for_more_than_a_link_can_tell(kapla: User, tmp_path: Path) -> None:
    pair = bytearray()
    blocks = encrypt_leaves(memoryview(pad(b"", 1024)), 1024, bytes(32), pair)
    for level in range(1, 21):
        # One node, again and again: twenty blocks stand for 2^90 bytes.
        reference, key, block = encrypt_node(bytes(pair) * BlockSize.SMALL.arity, level)
        blocks.append((reference, block))
        pair = bytearray(reference + key)

    async def put() -> None:
        async with open_store(default_store_urls(kapla.url)) as store:
            for reference, block in blocks:
                await store.put(reference, block)

    asyncio.run(put())
    urn = ReadCapability.from_bytes(bytes([BlockSize.SMALL.code, 20]) + pair).to_urn()
    assert "more than 2^64 bytes" in kapla.error("link", urn, tmp_path / "a.eris", code=1)
    assert list(tmp_path.iterdir()) == []


def test_desktops_know_links() -> None:
    """What is in `packaging/` is about the files that we write, and runs what there is."""
    desktop = Path(__file__).resolve().parent.parent.parent / "packaging" / "desktop"
    root = ElementTree.parse(desktop / "kapla-link.xml").getroot()
    name = "{http://www.freedesktop.org/standards/shared-mime-info}"
    (kind,) = root.findall(f"{name}mime-type")
    assert kind.attrib["type"] == LINK_MEDIA_TYPE
    values = [match.attrib["value"] for match in kind.iter(f"{name}match")]
    assert [value.encode().decode("unicode_escape").encode("latin-1") for value in values] == [
        LINK_MAGIC,
        b"urn:eris:",
    ]
    entry = ConfigParser(interpolation=None)
    entry.read(desktop / "kapla-open.desktop")
    assert entry["Desktop Entry"]["MimeType"] == f"{LINK_MEDIA_TYPE};"
    program, command, *options, place = entry["Desktop Entry"]["Exec"].split()
    assert (program, place) == ("kapla", "%f")
    known = {option for parameter in OPEN.params for option in parameter.opts}
    assert OPEN.name == command
    assert set(options) <= known
