"""What have I stored? The catalogue through the command line, with a real daemon."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import click
import pytest
from click.testing import CliRunner

from eris import ReadCapability, Reference
from eris.base32 import format_base32
from eris.errors import ErisError
from eris_fs.model import printable
from kapla.catalogue.catalogue import Catalogue
from kapla.catalogue.entries import Entry
from kapla.cli import commands
from kapla.cli.main import _line, exit_code
from kapla.cli.outcome import CommandError
from tests.integration.commands import Kapla, without_notices
from tests.integration.daemon import GUARD_S, Daemon, running_daemon
from tests.integration.users import as_a_user
from tests.nobody import become_nobody


class Inside(Kapla):
    """The same command line in this process: a tenth of the time, where no process is needed."""

    def __call__(
        self,
        *arguments: str | Path | bytes,
        code: int = 0,
        stdin: bytes = b"",
        cwd: Path | None = None,
        umask: int = 0o022,
    ) -> subprocess.CompletedProcess[bytes]:
        name, *given = map(os.fsdecode, arguments)
        command = commands.load(name)
        assert isinstance(command, click.Command)
        with (
            patch.dict(os.environ, self.environment(), clear=True),
            contextlib.chdir(cwd or self.home),
        ):
            before = os.umask(umask)
            try:
                done = CliRunner().invoke(command, given, input=stdin, standalone_mode=False)
            finally:
                os.umask(before)
        got, said = _ending(done.exception)
        stderr = (done.stderr + said).encode()
        assert got == code, (given, done, stderr)
        self.check_errors(stderr, code, given)
        return subprocess.CompletedProcess([name, *given], got, done.stdout_bytes, stderr)


def _ending(error: BaseException | None) -> tuple[int, str]:
    """Exit code and message, as `kapla` itself has them."""
    if error is None:
        return 0, ""
    if isinstance(error, click.ClickException):
        return error.exit_code, f"Usage: {error.format_message()}\n"
    if not isinstance(error, CommandError | ErisError | OSError):
        raise error
    return exit_code(error), f"kapla: {printable(_line(error))}\n"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def kapla(daemon: Daemon, home: Path) -> Kapla:
    return Inside(home, daemon.url)


@pytest.fixture
def notes(home: Path) -> Path:
    path = home / "notes"
    path.mkdir()
    (path / "a").write_bytes(b"first\n")
    return path


def catalogue_of(home: Path) -> Path:
    return home / ".local" / "share" / "kapla-client" / "catalogue.sqlite"


def listed(kapla: Kapla) -> list[Entry]:
    """What is in the catalogue, read in this process: that is faster."""
    try:
        with Catalogue.open(catalogue_of(kapla.home)) as catalogue:
            return list(catalogue.newest_first())
    except FileNotFoundError:
        return []


def versions(kapla: Kapla, notes: Path, *contents: bytes) -> list[str]:
    """Encode these contents under the name `notes`, one after the other; their URNs."""
    found = []
    for content in contents:
        (notes / "a").write_bytes(content)
        found.append(kapla.out("encode", "--name", "notes", notes))
    return found


# --- noting -----------------------------------------------------------------------------------


def test_every_encode_is_noted(kapla: Kapla, home: Path, notes: Path, daemon: Daemon) -> None:
    before = int(time.time())
    (home / "f").write_bytes(b"x" * 40_000)
    tree = kapla.out("encode", "--name", "my notes", notes)
    packed = kapla.out("encode", "--packed", notes)
    file = kapla.out("encode", home / "f")
    piped = Kapla(home, daemon.url).out("encode", "-", stdin=b"piped")
    lines = kapla.out("list", "--json").splitlines()
    found = {entry["urn"]: entry for entry in map(json.loads, lines)}
    assert found.keys() == {tree, packed, file, piped}
    facts = ("name", "version", "kind", "size", "blocks", "source")
    assert [[found[urn][fact] for fact in facts] for urn in (tree, packed, file, piped)] == [
        ["my notes", 0, "tree", 6, None, str(notes)],
        [None, None, "tree", 6, None, str(notes)],
        [None, None, "file", 40_000, 3, str(home / "f")],
        [None, None, "file", 5, 1, "-"],
    ]
    assert {entry["store"] for entry in found.values()} == {daemon.url}
    assert all(before <= entry["stored"] <= time.time() for entry in found.values())
    assert stat.S_IMODE(catalogue_of(home).stat().st_mode) == 0o600
    assert stat.S_IMODE(catalogue_of(home).parent.stat().st_mode) == 0o700


def test_a_tree_that_the_cache_knows_has_its_size(kapla: Kapla, notes: Path) -> None:
    kapla("encode", notes)
    kapla("encode", "--name", "again", notes)
    assert [entry.size for entry in listed(kapla)] == [6, 6]


def test_the_store_that_took_the_blocks_is_noted(kapla: Kapla, home: Path, daemon: Daemon) -> None:
    both = f"coap+unix://{home}/none.sock {daemon.url}?get&put"
    (home / "f").write_bytes(b"both")
    kapla("encode", "--store-url", both, "f")
    assert [entry.store for entry in listed(kapla)] == [daemon.url]


def test_a_path_of_any_bytes_is_noted(kapla: Kapla, home: Path) -> None:
    (home / os.fsdecode(b"\xff")).write_bytes(b"x")
    kapla("encode", b"\xff")
    assert kapla.out("list").endswith(f"{home}/\\xff")


def test_the_same_again_is_one_entry(kapla: Kapla, notes: Path) -> None:
    for _ in range(2):
        kapla("encode", notes)
        kapla("encode", "--name", "notes", notes)
    assert [entry.name for entry in listed(kapla)] == ["notes", None]


def test_what_is_not_stored_is_not_noted(kapla: Kapla, home: Path, notes: Path) -> None:
    kapla("encode", "--no-store", notes)
    kapla("encode", "--no-catalogue", notes)
    Inside(home, f"coap+unix://{home}/none.sock")("encode", notes, code=3)
    assert listed(kapla) == []
    assert not catalogue_of(home).exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--name", "a/b"],
        ["--name", ""],
        ["--name", "a~1"],
        ["--name", "x" * 256],
        ["--name", "a", "--no-catalogue"],
        ["--name", "a", "--no-store"],
        ["--keep-versions", "2"],
        ["--name", "a", "--keep-versions", "0"],
    ],
)
def test_what_makes_no_sense_is_refused(kapla: Kapla, notes: Path, options: list[str]) -> None:
    done = kapla("encode", *options, notes, code=2)
    assert b"name" in done.stderr or b"keep-versions" in done.stderr
    assert done.stdout == b""


def test_old_versions_go(kapla: Kapla, notes: Path) -> None:
    found = versions(kapla, notes, b"1", b"2", b"3", b"4")
    assert [entry.urn for entry in listed(kapla)] == found[:0:-1]
    kapla("encode", "--name", "notes", "--keep-versions", "1", notes)
    assert [entry.urn for entry in listed(kapla)] == found[3:]
    versions(kapla, notes, b"5")
    assert len(listed(kapla)) == 1


def test_old_versions_stay_where_their_store_cannot_be_told(kapla: Kapla, notes: Path) -> None:
    with running_daemon() as other:
        elsewhere = Inside(kapla.home, other.url)
        first = versions(elsewhere, notes, b"1")
    (notes / "a").write_bytes(b"2")
    done = subprocess.run(
        kapla.command("encode", "--name", "notes", "--keep-versions", "1", notes),
        env=kapla.environment(),
        capture_output=True,
        check=True,
    )
    assert done.stdout.startswith(b"urn:eris:")
    text = without_notices(done.stderr.decode())
    assert text.startswith("kapla: older versions of notes stay until the next time: ")
    assert text.count("\n") == 1
    assert kapla.out("cat", "@notes~0", "a") == "2"
    assert listed(kapla)[1].urn == first[0]


# --- where the catalogue cannot be used --------------------------------------------------------


def warned(kapla: Kapla, *arguments: str | Path) -> str:
    """The line that is said beside the URN of a content that was stored."""
    done = subprocess.run(
        kapla.command("encode", *arguments),
        env=kapla.environment(),
        capture_output=True,
        check=True,
        cwd=kapla.home,
    )
    assert done.stdout.startswith(b"urn:eris:") and done.stdout.count(b"\n") == 1
    text = without_notices(done.stderr.decode())
    assert text.startswith("kapla: ") and text.count("\n") == 1 and "urn:" not in text
    return text


def test_a_home_that_cannot_be_written_to(daemon: Daemon, home: Path, notes: Path) -> None:
    reading = Kapla(home, daemon.url, as_a_user(), {"XDG_DATA_HOME": str(home / "data")})
    (home / "cache").mkdir()
    home.chmod(0o500)
    try:
        text = warned(reading, "--name", "notes", notes)
        assert "not in the catalogue" in text and "Permission denied" in text
    finally:
        home.chmod(0o700)


def test_a_catalogue_that_can_only_be_read(daemon: Daemon, kapla: Kapla, notes: Path) -> None:
    kapla("encode", "--name", "notes", notes)
    directory = catalogue_of(kapla.home).parent
    before = catalogue_of(kapla.home).read_bytes()
    reading = Kapla(kapla.home, daemon.url, as_a_user())
    catalogue_of(kapla.home).chmod(0o400)
    directory.chmod(0o500)
    try:
        assert reading.out("cat", "@notes", "a") == "first"
        assert len(listed(reading)) == 1
        (notes / "a").write_bytes(b"second\n")
        assert "cannot be written to" in warned(reading, "--name", "notes", notes)
    finally:
        directory.chmod(0o700)
    assert catalogue_of(kapla.home).read_bytes() == before


def test_a_damaged_catalogue(kapla: Kapla, notes: Path) -> None:
    kapla("encode", "--name", "notes", notes)
    catalogue_of(kapla.home).write_bytes(b"no catalogue")
    assert "is damaged" in kapla.error("list", code=5)
    assert "the next encode sets it aside" in kapla.error("cat", "@notes", "a", code=5)
    assert "is damaged" in kapla.error("forget", "notes", code=5)
    text = warned(kapla, "--name", "notes", notes)
    assert "the catalogue was damaged, and is now" in text
    (aside,) = catalogue_of(kapla.home).parent.glob("*.damaged-*")
    assert str(aside) in text and aside.read_bytes() == b"no catalogue"
    assert kapla.out("cat", "@notes", "a") == "first"


def test_a_file_is_read_whatever_the_catalogue_is(kapla: Kapla, home: Path, notes: Path) -> None:
    kapla("encode", "--out", "notes.urn", notes)
    catalogue_of(home).write_bytes(b"no catalogue")
    assert kapla.out("cat", "@notes.urn", "a") == "first"


def test_a_user_without_a_home(daemon: Daemon, home: Path, notes: Path) -> None:
    nobody = Kapla(home, daemon.url, env={"XDG_DATA_HOME": "/proc/none"})
    assert "/proc/none" in warned(nobody, notes)


def test_somebody_who_has_no_home_at_all(
    kapla: Kapla, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = Inside(kapla.home, kapla.url, env={"HOME": "", "XDG_CACHE_HOME": ""})
    become_nobody(monkeypatch)
    command = commands.load("encode")
    assert isinstance(command, click.Command)
    with patch.dict(os.environ, nobody.environment(), clear=True):
        done = CliRunner().invoke(command, [str(notes)], standalone_mode=False)
    assert done.exception is None
    assert done.stdout.startswith("urn:eris:")
    assert "this is not in the catalogue: there is no home directory" in done.stderr
    for arguments in (["list"], ["ls", "@notes"], ["forget", "notes"]):
        assert "there is no home directory" in nobody.error(*arguments, code=7)
    assert nobody.out("pins")


# --- names in the place of URNs -----------------------------------------------------------------


def test_a_name_stands_for_its_urn(kapla: Kapla, notes: Path) -> None:
    """The directory that was encoded may be there, and be called so."""
    versions(kapla, notes, b"1", b"2", b"3")
    assert [kapla.out("cat", f"@notes{end}", "a") for end in ("", "~2")] == [*"31"]
    assert kapla.out("ls", "@notes") == "a"
    assert kapla.out("verify", "@notes").endswith(" 0 missing, 0 bad")
    assert "new blocks:         2" in kapla.out("info", "--against", "@notes~1", "@notes")
    kapla("decode", "@notes", "copy")
    assert (kapla.home / "copy" / "a").read_bytes() == b"3"
    error = kapla.error("cat", "@notes~3", "a", code=1)
    assert error == "the catalogue has 3 versions of notes, counted from ~0, the newest"


def test_a_person_is_told_what_a_new_version_lets_go(kapla: Kapla, notes: Path) -> None:
    versions(kapla, notes, b"1", b"2", b"3")
    (notes / "a").write_bytes(b"4")
    done = subprocess.run(
        kapla.command("encode", "-v", "--name", "notes", notes),
        env=kapla.environment(),
        capture_output=True,
        timeout=GUARD_S,
        check=True,
    )
    assert b"the oldest version of notes let go" in done.stderr


def test_a_file_that_is_called_like_a_name(kapla: Kapla, home: Path) -> None:
    (home / "f").write_bytes(b"content")
    kapla("encode", "--name", "f", "f")
    # It holds no URN, so it cannot be meant.
    assert kapla.out("decode", "@f", "-") == "content"
    (home / "g").write_bytes(b"other")
    (home / "f").write_bytes(kapla("encode", "g").stdout)
    text = kapla.error("decode", "@f", "-", code=2)
    assert "@./f for the file" in text and "@f~0 for the name" in text
    assert kapla.out("decode", "@f~0", "-") == "content"
    assert kapla.out("decode", "@./f", "-") == "other"
    assert kapla.out("decode", f"@{home}/f", "-") == "other"
    (home / "f~0").symlink_to("nowhere")
    assert "@f~00 for the name" in kapla.error("decode", "@f", "-", code=2)
    assert "@f~00 for the name" in kapla.error("decode", "@f~0", "-", code=2)
    assert kapla.out("decode", "@f~00", "-") == "content"


def test_a_name_that_is_not_there(kapla: Kapla, notes: Path) -> None:
    assert kapla.error("ls", "@notse", code=7) == "notse: No such file or directory"
    kapla("encode", "--name", "notes", notes)
    error = kapla.error("ls", "@notse", code=7)
    assert error == "notse: no such file, nor such a name in the catalogue; is notes meant?"
    assert kapla.error("ls", "@else", code=7) == "else: No such file or directory"
    (kapla.home / "else").mkdir()
    error = kapla.error("ls", "@else", code=7)
    assert error == "else is a directory, and no name in the catalogue"


@pytest.mark.parametrize("name", ["notes", "notes~1"])
def test_a_name_without_its_at(kapla: Kapla, notes: Path, name: str) -> None:
    versions(kapla, notes, b"1", b"2")
    for command in (["ls"], ["pin"], ["info"]):
        error = kapla.error(*command, name, code=2)
        assert error == f"this is a name in the catalogue; what it stands for: @{name}"
    for command in (["unpin"], ["lend"]):
        error = kapla.error(*command, name, code=1)
        assert error.endswith(f"or it is not yours; is @{name} meant, from the catalogue?")


def test_pins_are_listed_with_their_names_in_the_catalogue(kapla: Kapla, notes: Path) -> None:
    assert "CATALOGUE" not in kapla.out("pins")
    versions(kapla, notes, b"in pins, 1", b"in pins, 2")
    kapla("pin", "--name", "mine", "@notes")
    kapla("encode", "--name", "again", notes)
    kapla("encode", "--no-catalogue", "--unique", notes)
    kapla("encode", "--unique", notes)
    head, *lines = kapla.out("pins").splitlines()
    assert head.split()[-2:] == ["NAME", "CATALOGUE"]
    ends = [line.split()[-3:] for line in lines]
    assert [end[-2:] for end in ends if "mine" in end] == [["@again,", "@notes"]]
    assert [end[-1] for end in ends if "@notes~1" in end] == ["@notes~1"]
    assert any(end[-1] == "-" for end in ends)
    # What has no name: by what it was made of.
    assert [end[-1] for end in ends if end[-1] == str(notes)]
    found = [json.loads(line) for line in kapla.out("pins", "--json").splitlines()]
    named = sorted(pin["catalogue"] for pin in found if pin["catalogue"])
    assert named == [["@again", "@notes"], ["@again", "@notes"], ["@notes~1"]]


def test_a_catalogue_that_cannot_be_read_hides_no_pin(kapla: Kapla, notes: Path) -> None:
    kapla("encode", "--name", "notes", notes)
    count = len(kapla.out("pins").splitlines())
    catalogue_of(kapla.home).write_bytes(b"x" * 4096)
    done = kapla("pins")
    assert len(done.stdout.splitlines()) == count
    assert b"the names of contents are not shown: " in done.stderr


# --- the URN in a file --------------------------------------------------------------------------


def test_a_urn_in_a_file(kapla: Kapla, home: Path, notes: Path) -> None:
    done = kapla("encode", "--out", "n.urn", notes, umask=0)
    assert done.stdout == b""
    urn = home / "n.urn"
    assert stat.S_IMODE(urn.stat().st_mode) == 0o600
    assert kapla.out("cat", "@n.urn", "a") == "first"
    (notes / "a").write_bytes(b"second\n")
    urn.chmod(0o644)
    kapla("encode", "--out", "n.urn", notes)
    assert kapla.out("cat", "@n.urn", "a") == "second"
    assert stat.S_IMODE(urn.stat().st_mode) == 0o600
    assert sorted(os.listdir(home)) == [".local", "cache", "n.urn", "notes"]
    assert kapla.out("encode", "--out", "-", notes) == urn.read_text().rstrip()


@pytest.mark.parametrize("there", ["directory", "link", "pipe", "none/there"])
def test_what_no_urn_is_written_to(kapla: Kapla, home: Path, notes: Path, there: str) -> None:
    """It is found out before anything is stored."""
    (home / "directory").mkdir()
    (home / "link").symlink_to("notes/a")
    os.mkfifo(home / "pipe")
    kapla.error("encode", "--out", there, notes, code=7)
    assert (notes / "a").read_bytes() == b"first\n"
    assert os.path.islink(home / "link")
    assert listed(kapla) == []


# --- listing ------------------------------------------------------------------------------------


def test_a_list_for_people(kapla: Kapla, home: Path, notes: Path, daemon: Daemon) -> None:
    assert kapla.out("list") == ""
    urns = versions(kapla, notes, b"1", b"2" * 3000)
    (home / "li\nne").write_bytes(b"x")
    kapla("encode", "li\nne")
    lines = kapla.out("list").splitlines()
    assert lines[0].split() == ["STORED", "KIND", "SIZE", "NAME", "FROM"]
    assert [line[16:].split() for line in lines[1:]] == [
        ["file", "1", "B", "-", f"{home}/li\\nne"],
        ["tree", "2.9", "KiB", "notes", str(notes)],
        ["tree", "1", "B", "notes~1", str(notes)],
    ]
    long = kapla.out("list", "-l", "notes")
    assert str(daemon.socket) in long and "urn:" not in long
    assert [line.split()[-1] for line in kapla.out("list", "--urns").splitlines()[2:]] == [
        *reversed(urns)
    ]
    assert "no nots; is notes meant?" in kapla.error("list", "nots", code=1)


def test_a_list_that_nobody_reads_to_its_end(kapla: Kapla, notes: Path) -> None:
    kapla("encode", notes)
    with kapla.running("list") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) in (0, 1)
        assert process.stderr is not None and process.stderr.read() == b""


# --- forgetting ---------------------------------------------------------------------------------


def test_a_name_is_forgotten_with_its_versions(kapla: Kapla, notes: Path) -> None:
    versions(kapla, notes, b"1", b"2")
    kapla("encode", "--name", "other", notes)
    assert kapla.out("forget", "notes").splitlines() == [
        "forgotten: notes~1",
        "forgotten: notes; its blocks stay: another entry has the same",
    ]
    assert [entry.name for entry in listed(kapla)] == ["other"]
    assert kapla.error("forget", "notes", code=1).startswith("the catalogue has no notes")


def test_what_is_forgotten_is_no_longer_pinned(kapla: Kapla, notes: Path) -> None:
    names = [format_base32(entry_root(urn)) for urn in versions(kapla, notes, b"old", b"new")]
    assert all(name in kapla.out("pins", "--json") for name in names)
    kapla("forget", "@notes~1")
    pins = kapla.out("pins", "--json")
    assert names[0] not in pins and names[1] in pins


def entry_root(urn: str) -> Reference:
    return ReadCapability.from_urn(urn).root.reference


def test_one_version_or_a_urn_is_forgotten(kapla: Kapla, notes: Path, home: Path) -> None:
    urns = versions(kapla, notes, b"1", b"2", b"3")
    assert kapla.out("forget", "@notes~1") == "forgotten: notes~1"
    assert [entry.urn for entry in listed(kapla)] == [urns[2], urns[0]]
    (home / "n.urn").write_text(urns[0])
    assert kapla.out("forget", "@n.urn") == "forgotten: notes~1"
    assert kapla.out("forget", "-", stdin=urns[2].encode()) == "forgotten: notes"
    assert listed(kapla) == []
    assert "does not have this URN" in kapla.error("forget", urns[0], code=1)


def test_nothing_is_forgotten_beside_a_mistyped_name(kapla: Kapla, notes: Path) -> None:
    kapla("encode", "--name", "notes", notes)
    assert "is notes meant?" in kapla.error("forget", "notes", "notse", code=1)
    assert "@NAME~N" in kapla.error("forget", "notes~0", code=2)
    assert len(listed(kapla)) == 1


def test_what_a_store_cannot_be_told_stays(kapla: Kapla, notes: Path) -> None:
    with running_daemon() as other:
        Inside(kapla.home, other.url)("encode", "--name", "notes", notes)
    text = kapla.error("forget", "notes", code=3)
    assert text.startswith("notes stays in the catalogue: cannot connect to ")
    assert text.endswith("; --local forgets it all the same")
    assert len(listed(kapla)) == 1
    assert "its store was not told" in kapla.out("forget", "--local", "notes")
    assert listed(kapla) == []
