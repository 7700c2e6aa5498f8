"""`kapla config`, as its users have it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kapla.cli.config import command
from kapla.config.template import template


@pytest.fixture(autouse=True)
def a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("KAPLA_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def code(result: Result) -> object:
    """As `kapla` would end."""
    return getattr(result.exception, "exit_code", result.exit_code)


def test_a_file_is_made_where_the_daemon_looks_and_never_replaced(tmp_path: Path) -> None:
    place = tmp_path / ".config" / "kapla" / "kapla.toml"
    assert run("init").stdout == f"{place}\n"
    assert place.read_text() == template()
    assert [path.name for path in place.parent.iterdir()] == ["kapla.toml"]
    place.write_text("max-connections = 3\n")
    again = run("init")
    assert code(again) == 7
    assert "is there already" in str(again.exception)
    assert place.read_text() == "max-connections = 3\n"
    assert run("check").stdout == f"{place} is sound\n"
    assert f"max-connections    {place}:1  3" in run("show").stdout


def test_a_file_elsewhere(tmp_path: Path) -> None:
    assert run("init", "-").stdout == template()
    assert run("init", "a/b.toml").exit_code == 0
    assert (tmp_path / "a" / "b.toml").read_text() == template()
    assert code(run("init", "--system", "x")) == 2
    for directory in ("", ".", "/"):
        result = run("init", directory)
        assert (code(result), "name a file" in str(result.exception)) == (2, True)
    (tmp_path / "link").symlink_to("nowhere")
    assert code(run("init", "link")) == 7
    assert not (tmp_path / "nowhere").exists()


def test_check_tells_all_and_ends_with_2() -> None:
    Path("k.toml").write_text('max-sise = 1\nlog-level = "loud"\n')
    found = run("check", "k.toml", "--max-size", "1 kB")
    assert code(found) == 2
    assert found.stdout == ""
    lines = found.stderr.splitlines()
    assert lines[0] == "k.toml:1: unknown key 'max-sise'; did you mean 'max-size'?"
    assert lines[1].startswith("k.toml:2: log-level: expected one of")
    assert lines[2] == "--max-size: a store has at least 1 MiB"
    assert str(found.exception) == "k.toml is not sound: 3 errors"
    assert code(run("check", "k.toml", "--config", "k.toml")) == 2


def test_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("check").stdout == "the settings are sound\n"
    monkeypatch.setenv("KAPLA_MAX_SIZE", "10G")
    facts = json.loads(run("show", "--json", "--min-free", "1G", "-d").stdout)
    assert facts["file"] is None
    settings = facts["settings"]
    assert settings["max-size"] == {"value": 10 * 2**30, "from": "$KAPLA_MAX_SIZE"}
    assert settings["min-free"] == {"value": 2**30, "from": "--min-free"}
    assert settings["log-level"] == {"value": "debug", "from": "--debug"}
    assert settings["peers"] == {"value": [], "from": "default"}


def test_what_is_not_sound_is_not_shown() -> None:
    Path("k.toml").write_text("a = 1\nb = 2\n")
    found = run("show", "k.toml")
    assert code(found) == 2
    assert [line[:8] for line in found.stderr.splitlines()] == ["k.toml:1", "k.toml:2"]


def test_a_password_in_a_database_url_is_warned_of_and_not_shown() -> None:
    url = "postgresql://kapla:s3cret@db.example/kapla"
    for arguments in (("show",), ("show", "--json"), ("check",), ("check", "--min-free", "1G")):
        result = run(*arguments, "--store", url)
        assert "s3cret" not in f"{result.output} {result.exception}"
        assert "a password stands in the URL" in result.stderr
    assert "postgresql://db.example/kapla" in run("show", "--store", url).stdout
    usage = run("show", "--store", "postgresql://kapla:s3cret@db example/kapla")
    assert code(usage) == 2
    assert "s3cret" not in f"{usage.output} {usage.exception}"
