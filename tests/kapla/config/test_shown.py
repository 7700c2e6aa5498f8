"""Settings as people see them: the file to begin with, and what holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kapla.config import Sources, load
from kapla.config.lines import key_lines
from kapla.config.shown import shown
from kapla.config.table import SETTINGS
from kapla.config.template import template

KEY = "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"


@pytest.fixture(autouse=True)
def a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_template_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "kapla.toml"
    file.write_text(template())
    assert load(Sources(str(file), environment={})).origins == {}


def test_the_template_has_every_key_with_an_example_that_is_sound(tmp_path: Path) -> None:
    told = re.sub(r"^# (?=[a-z-]+ = |\[\[)", "", template(), flags=re.MULTILINE)
    told = told.replace("ed25519:…", KEY)
    file = tmp_path / "kapla.toml"
    file.write_text(told)
    loaded = load(Sources(str(file), environment={}))
    assert loaded.origins.keys() == {setting.field for setting in SETTINGS}
    assert {path[0] for path in key_lines(told)} == {setting.key for setting in SETTINGS}
    # Where a default can be written, it is the example.
    for field in ("when_full", "synchronous", "max_connections", "scrub_rate", "log_format"):
        default = getattr(load(Sources(environment={})).config, field)
        assert getattr(loaded.config, field) == default


def test_the_template_fits_a_terminal() -> None:
    assert max(map(len, template().split("\n"))) <= 100


def test_values_are_shown_as_people_write_them(tmp_path: Path) -> None:
    file = tmp_path / "kapla.toml"
    file.write_text(
        'max-size = "50 GB"\nmax-put-rate = "1M"\nscrub-rate = 0\nadvertise = true\n'
        'listen = ["coap+unix:///s?get&mode=0660&group=users", "coap+tcp://[::1]?lend"]\n'
        'admin = "unix:/a"\nhttp = "h:80"\n'
    )
    found = {one.key: one for one in shown(load(Sources(str(file), environment={})))}
    assert list(found) == [setting.key for setting in SETTINGS]
    assert (found["max-size"].value, found["max-size"].text) == (
        50 * 10**9,
        "50000000000 (46.57 GiB)",
    )
    assert found["max-put-rate"].text == "1048576 (1 MiB/s)"
    assert found["scrub-rate"].text == "0"
    assert found["advertise"].value is True
    assert found["min-free"].value is None
    assert found["min-free"].text == "none"
    assert found["listen"].value == [
        "coap+unix:///s?get&mode=0660&group=users",
        "coap+tcp://[::1]:5683?lend",
    ]
    assert (found["http"].text, found["admin"].text) == ("h:80", "unix:/a")
    assert found["max-size"].origin == f"{file}:1"
    assert found["min-free"].origin == "default"


def test_what_is_shown_holds_no_capability(tmp_path: Path) -> None:
    urn = "urn:eris:" + "B" * 106
    file = tmp_path / "kapla.toml"
    file.write_text(
        f'store = "/srv/{urn}"\n[[peers]]\nurl = "https://h/s3cret/x"\n[[peers]]\n'
        f'url = "coaps+tcp://h?key=/k.pem#{KEY}"\nname = "attic"\nmax-rate = "1M"\n'
    )
    found = {one.key: one for one in shown(load(Sources(str(file), environment={})))}
    told = repr(found)
    assert "s3cret" not in told
    assert "BBB" not in told
    assert found["peers"].value == [
        {"url": "https://h:443/…", "rights": []},
        {
            "url": f"coaps+tcp://h:5684?key=/k.pem#{KEY}",
            "name": "attic",
            "rights": ["lend"],
            "max-rate": 2**20,
        },
    ]
