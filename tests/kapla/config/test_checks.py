"""What the machine makes of settings, in the words that are told."""

from __future__ import annotations

import grp
import os
import socket
from pathlib import Path

import pytest

from kapla.config import Misconfigured, Sources, load
from kapla.config.checks import check_groups
from kapla.config.verdict import Verdict, judge
from kapla.identity.pair import load_or_make

NO_GROUP = "no-such-group-of-kapla"


@pytest.fixture(autouse=True)
def a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)


def verdict_on(directory: Path, *lines: str, **flags: str) -> Verdict:
    """Of settings that are sound but for these lines; `listen` and `store` have good ones."""
    file = directory / "kapla.toml"
    named = {line.partition(" ")[0] for line in lines}
    good = {"store": f'"{directory}/new/blocks.sqlite"', "listen": f'["coap+unix://{directory}/s"]'}
    others = [f"{key} = {value}" for key, value in good.items() if key not in named]
    file.write_text("\n".join([*lines, *others]))
    before = sorted(path for path in directory.rglob("*"))
    found = judge(Sources(str(file), flags, environment={}))
    # It only looks.
    assert sorted(path for path in directory.rglob("*")) == before
    return found


def test_what_is_sound(tmp_path: Path) -> None:
    found = verdict_on(tmp_path)
    assert found == Verdict(True, (), f"{tmp_path}/kapla.toml is sound")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f'listen = ["coap+unix://D/s?group={NO_GROUP}"]', f"no group '{NO_GROUP}'"),
        ('listen = ["coap+unix://D/missing/s"]', "there is no directory D/missing for the socket"),
        ('listen = ["coap+unix://D/file/s"]', "D/file is no directory"),
        ('listen = ["coap+unix://D/file"]', "D/file is there, and is no socket"),
        ('listen = ["coap+tcp://300.1.1.1"]', "300.1.1.1 is no address"),
        ('listen = ["coaps+tcp://[::1]?cert=/no/c&key=/no/k"]', "cannot read the certificate"),
        ('admin = "unix:D/missing/s"', "there is no directory D/missing for the socket"),
        ('http = "1.2.3:80"', "1.2.3 is no address"),
        ('store = "D/directory"', "the store D/directory is a directory"),
        ('store = "D/file/blocks"', "D/file is no directory, and the store cannot be below it"),
        ('min-free = "7000 PiB"', "cannot be left free"),
    ],
)
def test_what_cannot_be(tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    found = verdict_on(tmp_path, line.replace("D/", f"{tmp_path}/"))
    assert not found.is_sound
    key = line.partition(" ")[0]
    assert found.lines[0].startswith(f"{tmp_path}/kapla.toml:1: {key}: ")
    assert reason.replace("D/", f"{tmp_path}/") in found.lines[0]
    assert found.summary == f"{tmp_path}/kapla.toml is not sound: one error"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_directories_of_others(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    store = verdict_on(tmp_path, f'store = "{closed}/a/blocks"')
    assert "cannot be made: nothing can be added to it" in store.lines[0]
    listener = verdict_on(tmp_path, f'listen = ["coap+unix://{closed}/s"]')
    assert f"no socket can be made in {closed}" in listener.lines[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may give files to any group")
def test_a_group_of_others(tmp_path: Path) -> None:
    mine = {os.getegid(), *os.getgroups()}
    others = [one.gr_name for one in grp.getgrall() if one.gr_gid not in mine]
    if not others:
        pytest.skip("this user is in every group")
    found = verdict_on(tmp_path, f'listen = ["coap+unix://{tmp_path}/s?group={others[0]}"]')
    assert f"is no member of {others[0]}" in found.lines[0]


def test_what_is_wrong_with_values_and_with_the_machine_is_told_together(tmp_path: Path) -> None:
    found = verdict_on(
        tmp_path,
        'max-size = "big"',
        f'listen = ["coap+unix://{tmp_path}/s?group={NO_GROUP}"]',
        'store = ""',
    )
    told = [line.partition("toml:")[2][:10] for line in found.lines]
    assert told == ["1: max-siz", "3: store: ", "2: listen:"]
    assert found.summary.endswith("3 errors")


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ('listen = ["coap+unix:///run/no-such-directory/s"]', "RuntimeDirectory="),
        ('listen = ["coap+tcp://name.example"]', "name.example is a name"),
        ('listen = ["coap+tcp://[fe80::1%25nosuch0]"]', "there is no interface"),
    ],
)
def test_what_need_not_be_wrong_is_a_note(tmp_path: Path, line: str, note: str) -> None:
    found = verdict_on(tmp_path, line)
    assert found.is_sound
    assert found.lines[0].startswith(f"{tmp_path}/kapla.toml:1: listen: note: ")
    assert note in found.lines[0]


def test_no_name_is_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object, **__: object) -> None:
        raise AssertionError("a name was looked up")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert verdict_on(tmp_path, 'http = "name.example:80"').is_sound


def test_a_peer_with_our_own_key(tmp_path: Path) -> None:
    own = load_or_make().public
    found = verdict_on(tmp_path, f'peers = [{{ key = "{own}" }}]')
    assert found.lines == (f"peers: {own} is this daemon's own key",)


def test_a_group_is_looked_for_at_a_start(tmp_path: Path) -> None:
    known = grp.getgrgid(os.getgid()).gr_name
    url = f"coap+unix://{tmp_path}/s?group="
    check_groups(load(Sources(flags={"listen": [url + known]}, environment={})))
    typed = known + "x"
    with pytest.raises(Misconfigured) as caught:
        check_groups(load(Sources(flags={"listen": [url + typed]}, environment={})))
    assert str(caught.value).startswith(f"--listen: there is no group '{typed}'")
    assert f"did you mean '{known}'?" in str(caught.value)
