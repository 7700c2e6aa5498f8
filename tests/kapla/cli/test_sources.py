"""Several paths as one content, and what `kapla encode` leaves out of them by itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from kapla.cli.common import CommandError, ExitCode
from kapla.cli.encode import command
from kapla.cli.main import exit_code
from kapla.cli.sources import Sources
from tests.eris_fs.trees import File, lay_out

Encode = Callable[..., tuple[str, str, int]]


@pytest.fixture
def encode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Encode:
    """Compute the URN of something in an empty directory; with what is said, and the exit code."""
    monkeypatch.chdir(tmp_path)
    for variable in list(os.environ):
        if variable.startswith(("KAPLA_", "XDG_", "ERIS_")):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home" / "state"))

    def run(*arguments: str) -> tuple[str, str, int]:
        code = command.main([*arguments, "--no-store"], standalone_mode=False)
        said = capsys.readouterr()
        return said.out, said.err, code

    return run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    lay_out({"docs": {"a": File(b"a")}, "b": File(b"b")}, path)
    return path


def failing(*arguments: str) -> str:
    """What is said of a command that is used wrongly."""
    with pytest.raises((CommandError, click.UsageError)) as caught:
        command.main([*arguments, "--no-store"], standalone_mode=False)
    assert exit_code(caught.value) == ExitCode.USAGE
    return str(caught.value)


# --- several paths ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [[], ["--packed", "--level", "1"]], ids=["tree", "packed"])
def test_several_paths_are_the_directory_that_holds_them(
    encode: Encode, home: Path, tmp_path: Path, how: list[str]
) -> None:
    os.symlink(home / "b", tmp_path / "b")
    whole = encode(*how, "home")
    assert encode(*how, "home/docs/", str(home / "b")) == whole
    # One that the user names means what it leads to.
    assert encode(*how, "b", "home/../home/docs") == whole
    assert encode(*how, "home/docs") != whole


def test_patterns_hold_below_each_path(encode: Encode, home: Path) -> None:
    lay_out({"docs": File(b"d"), "c": File(b"c")}, home / "more")
    lay_out({"docs": File(b"d"), "docs2": {}}, home / "wanted")
    left_out = encode("--exclude", "/a", "--exclude", "c", "home/docs", "home/more")
    (home / "docs" / "a").unlink()
    (home / "more" / "c").unlink()
    assert encode("home/docs", "home/more") == left_out
    inner = failing("--exclude", f"{home}/more/c", "home/docs", "home/more")
    assert inner.endswith(f"not {home}/more/c, but /c")


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (["home/docs", "docs"], "two paths are called docs, home/docs and docs: encode them one"),
        (["home/b", "home/./b"], "two paths are called b"),
        (["home", "/"], "/ has no name to go by beside others"),
        (["home", "-"], "does not go together"),
        (["home", ""], "PATH is empty"),
    ],
)
def test_paths_that_do_not_go_together(
    encode: Encode, home: Path, paths: list[str], said: str
) -> None:
    assert said in failing(*paths)


def test_where_many_paths_were(tmp_path: Path) -> None:
    paths = [f"/a/{number}" for number in range(1000)]
    assert Sources.of(paths).description == "/a/0, /a/1, /a/2, /a/3 and 996 more"
    assert Sources.of(["/x/caf\udce9"]).description == "/x/caf\\xe9"
    assert Sources.of(["-"]).description == "-"


def test_options_for_directories_alone(encode: Encode, home: Path) -> None:
    assert "for directories" in failing("--one-file-system", "home/b")
    assert "for directories" in failing("--skip-unreadable", "home/b")


# --- kapla's own --------------------------------------------------------------------------------


def own_files(home: Path) -> dict[str, str]:
    """Those of a home, by their paths in it; the store is where the daemon's variable says."""
    return {
        ".cache/kapla/encode.sqlite": "the encode cache",
        ".cache/kapla/encode.sqlite-wal": "the encode cache",
        ".local/share/kapla-client/catalogue.sqlite": "the catalogue",
        ".local/share/kapla-client/catalogue.sqlite.damaged-20261129T000000": "the catalogue",
        "blocks/b.sqlite": "the store",
        "blocks/b.sqlite.lock": "the store",
        "state/kapla/identity.pem": "a private key",
        "tls.pem": "a private key",
    }


def test_what_is_kaplas_own_is_left_out_with_a_word(
    encode: Encode, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAPLA_STORE", str(home / "blocks" / "b.sqlite"))
    listen = f"coaps+tcp://127.0.0.1?cert=/nowhere&key={home}/tls.pem"
    monkeypatch.setenv("KAPLA_LISTEN", listen)
    for name in own_files(home):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
    empty, said, _ = encode("home")
    assert said == ""
    for name in own_files(home):
        (home / name).write_bytes(b"secret")
    urn, said, code = encode("home")
    assert (urn, code) == (empty, 0)
    assert said.count("\n") == 1 and said.startswith("kapla: left out, as they are kapla's own: ")
    for what in set(own_files(home).values()):
        assert what in said
    for name, what in own_files(home).items():
        assert f"{what} of kapla itself" in failing(f"home/{name}")
        # By another name it is the same.
        os.link(home / name, home / "docs" / "other")
        assert f"{what} of kapla itself" in failing("home/docs", "home/docs/other")
        assert encode("home")[0] == empty
        (home / "docs" / "other").unlink()


# --- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize("how", [[], ["--packed", "--level", "1"]], ids=["tree", "packed"])
def test_what_cannot_be_read_is_listed(encode: Encode, home: Path, how: list[str]) -> None:
    urn, _, _ = encode(*how, "home")
    for number in range(52):
        os.mkfifo(home / f"pipe {number:02}\n")
    found, said, code = encode(*how, "--skip-unreadable", "home")
    assert (found, code) == (urn, 9)
    lines = said.splitlines()
    assert lines[0] == "kapla: skipped home/pipe 00\\n: it is a named pipe"
    assert len(lines) == 52
    assert lines[-2] == "kapla: skipped 2 more"
    assert lines[-1].startswith("kapla: 52 entries could not be read")


@pytest.mark.parametrize("how", [[], ["--packed", "--level", "1"]], ids=["tree", "packed"])
def test_so_is_one_of_several_paths(encode: Encode, home: Path, how: list[str]) -> None:
    # The same as a file that may not be read, of which there is none for root.
    os.mkfifo(home / "pipe")
    whole, _, _ = encode(*how, "home/docs", "home/b")
    found, said, code = encode(*how, "--skip-unreadable", "home/docs", "home/b", "home/pipe")
    assert (found, code) == (whole, 9)
    assert said.splitlines()[0].endswith("pipe: it is a named pipe")
