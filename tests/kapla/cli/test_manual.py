"""Manual pages: one for each command, that says what its help says, in sound man(7)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from kapla.cli.commands import OWN, load
from kapla.cli.completing.scripts import FILE_NAMES, SHELLS
from kapla.cli.manual.__main__ import main
from kapla.cli.manual.command import command
from kapla.cli.manual.pages import page_named, page_names
from kapla.cli.manual.roff import Item, Page, Section, escape, format_page
from kapla.cli.manual.writing import write_completions, write_pages
from kapla.cli.outcome import CommandError
from kapla.cli.told import told_of
from kapla.config.table import SETTINGS

every_page = pytest.mark.parametrize("name", page_names())


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("man")
    write_pages(place)
    return place


def text_of(directory: Path, name: str) -> str:
    (path,) = directory.glob(f"man?/{name}.?")
    return path.read_text("utf-8").replace(r"\-", "-")


@every_page
def test_every_page_has_its_sections(directory: Path, name: str) -> None:
    text = text_of(directory, name)
    wanted = {"NAME", "DESCRIPTION", "SEE ALSO"}
    if name != "kapla.toml":
        wanted |= {"SYNOPSIS", "OPTIONS", "EXIT STATUS", "EXAMPLES"}
    assert all(f'.SH "{title}"' in text for title in wanted), name


@pytest.mark.parametrize("name", sorted(OWN))
def test_the_page_of_a_command_says_what_it_does(directory: Path, name: str) -> None:
    text = text_of(directory, f"kapla-{name}")
    one = load(name)
    assert isinstance(one, click.Command)
    for code, _ in told_of(one).exits:
        assert f"\n\\fB{code}\\fR\n" in text
    for _, line in told_of(one).examples:
        assert f"\\fB{escape(line)}\\fR".replace(r"\-", "-") in text
    for parameter in one.params:
        if isinstance(parameter, click.Option):
            assert all(f"\\fB{option}\\fR" in text for option in parameter.opts)


def test_every_setting_of_the_daemon_is_told(directory: Path) -> None:
    text = text_of(directory, "kapla.toml")
    for one in SETTINGS:
        assert f"\\fB{one.key}\\fR" in text
        assert f"${one.variable}" in text


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="needs mandoc")
def test_mandoc_finds_nothing_wrong(directory: Path) -> None:
    pages = sorted(map(str, directory.glob("man?/*")))
    done = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", *pages],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    # A date would be that of the build, and no two builds alike.
    wrong = [line for line in done.stdout.splitlines() if "missing date" not in line]
    assert not wrong


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_groff_finds_nothing_wrong(directory: Path) -> None:
    pages = sorted(map(str, directory.glob("man?/*")))
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Kutf8", "-Tutf8", "-rLL=78n", "-z", *pages],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_text_that_looks_like_a_request_is_text() -> None:
    item = Item(escape("x"), escape(".so /etc/passwd"))
    section = Section("ODD", (escape(".sp of the devil"), escape("'hello' \\fBoo")), (item,))
    text = format_page(Page("odd", 1, "odd -- things", "1", (section,)))
    shown = [line for line in text.splitlines() if "passwd" in line or "devil" in line]
    assert shown == [r"\&.sp of the devil", r"\&.so /etc/passwd"]
    assert r"\(aqhello\(aq \efBoo" in text


def test_what_is_not_there_is_said_with_what_may_be_meant() -> None:
    assert page_named("encode") == page_named("kapla-encode")
    assert page_named("nonsense") is None
    assert page_named("") is None
    with pytest.raises(CommandError, match="is encode meant") as caught:
        command.main(["encod"], standalone_mode=False)
    assert caught.value.exit_code == 2


def test_pages_can_be_had_without_a_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main(["--write", str(tmp_path)], standalone_mode=False)
    assert capsys.readouterr().out == f"{len(page_names())} pages in {tmp_path}\n"
    assert (tmp_path / "man1" / "kapla-cat.1").exists()
    assert (tmp_path / "man8" / "kaplad.8").exists()
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_packages_have_pages_and_scripts_written(tmp_path: Path) -> None:
    main.main(["man", str(tmp_path)], standalone_mode=False)
    assert (tmp_path / "man5" / "kapla.toml.5").exists()
    subprocess.run(
        [sys.executable, "-m", "kapla.cli.manual", "completions", "zsh", "site-functions"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert (tmp_path / "site-functions" / "_kapla").read_text().startswith("#compdef kapla")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_the_name_that_its_shell_wants(tmp_path: Path, shell: str) -> None:
    assert write_completions(shell, tmp_path) == tmp_path / FILE_NAMES[shell]


def test_a_page_is_shown_by_man(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    man = tmp_path / "man"
    man.write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/shown\n')
    man.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    command.main(["cat"], standalone_mode=False)
    assert "KAPLA" in (tmp_path / "shown").read_text()
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(CommandError, match="man is not installed"):
        command.main(["cat"], standalone_mode=False)
