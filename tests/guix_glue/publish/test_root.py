"""Root is given up where a publisher is started as root, and nothing is missed then."""

from __future__ import annotations

import configparser
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from guix_glue.cli.publish import command
from guix_glue.errors import PublishError
from guix_glue.kept.directory import make_cache_directory
from tests.guix_glue.publish.support import KEYS, SAMPLES, make_item, publishing

PACKAGING = Path(__file__).resolve().parents[3] / "packaging"

# Until root is given up: the key may be of another user, and the cache is handed over.
_NEEDED = ("setuid", "setgid", "dac_read_search", "chown", "net_bind_service")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def unit() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(PACKAGING / "kapla-publish.service")
    return parser["Service"]


def with_little_of_root() -> list[str]:
    """A command that gives root what it needs, and groups that it should not keep."""
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv to take capabilities away")
    bounding = ",".join(["-all", *(f"+{name}" for name in _NEEDED)])
    return ["setpriv", "--groups", "0,4,27", "--no-new-privs", "--bounding-set", bounding]


def ids(pid: int) -> dict[str, set[int]]:
    """The ids of a process, by their names in /proc."""
    found = re.findall(
        r"^(Uid|Gid|Groups):\s*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
    )
    return {name: set(map(int, numbers.split())) for name, numbers in found}


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that somebody else can reach, unlike pytest's, with an item and a secret key."""
    with tempfile.TemporaryDirectory(prefix="kapla-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "items").mkdir()
        make_item(directory / "items", "item").write_bytes(b"x")
        secret = directory / "secret"
        secret.write_bytes((SAMPLES / "keys" / "signing-key.sec").read_bytes())
        secret.chmod(0o400)
        yield directory


@needs_root
@pytest.mark.parametrize("cache", ["missing", "made by systemd", "missing, others kept out"])
def test_root_is_given_up_once_the_keys_are_read(place: Path, cache: str) -> None:
    user = pwd.getpwnam("nobody")
    directory = place / "cache"
    umask = os.umask(0o077 if "kept out" in cache else 0o022)
    if cache == "made by systemd":
        directory.mkdir(mode=0o755)
    item = make_item(place / "items", "item")
    keys = (*KEYS[:2], "--private-key", place / "secret")
    arguments = ("--items", place / "items", *keys, "--user", "nobody")
    try:
        with publishing(place, *arguments, prefix=with_little_of_root()) as publisher:
            publisher.baked(item)
            assert ids(publisher.pid) == {
                "Uid": {user.pw_uid},
                "Gid": {user.pw_gid},
                "Groups": set(os.getgrouplist(user.pw_name, user.pw_gid)),
            }
            assert "Running as root" not in publisher.log
            assert publisher.stop() == 0
            # What was made the first time is there the next.
            publisher.start()
            publisher.baked(item)
    finally:
        os.umask(umask)
    # systemd gives a directory whose owner is not the unit's back to it, with all that is in it.
    assert directory.stat().st_uid == 0
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755
    assert {path.stat().st_uid for path in directory.rglob("*")} == {user.pw_uid}


@needs_root
def test_a_cache_of_another_user_is_refused_and_left_alone(tmp_path: Path) -> None:
    make_cache_directory(tmp_path / "cache", (1234, 1234))
    with pytest.raises(PublishError, match="another user than --user"):
        make_cache_directory(tmp_path / "cache", (1235, 1235))
    assert (tmp_path / "cache" / "v1").stat().st_uid == 1234
    make_cache_directory(tmp_path / "cache", (1234, 1234))


@needs_root
def test_nothing_is_given_away_through_a_symlink(tmp_path: Path) -> None:
    valuable = tmp_path / "valuable"
    valuable.mkdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "v1").symlink_to(valuable)
    with pytest.raises(PublishError):
        make_cache_directory(tmp_path / "cache", (1234, 1234))
    assert valuable.stat().st_uid == 0


def test_the_unit_starts_what_there_is() -> None:
    program, subcommand, *arguments = unit()["ExecStart"].split()
    assert (Path(program).name, subcommand) == ("kapla", "publish")
    options = command.make_context("publish", arguments).params
    assert f"/var/cache/{unit()['CacheDirectory']}" == str(options["cache"])
    # The key is what systemd has read.
    name, _, path = unit()["LoadCredential"].partition(":")
    assert str(options["private_key"]) == f"%d/{name}"
    assert path == "/etc/guix/signing-key.sec"
    users = (PACKAGING / "sysusers.conf").read_text()
    assert re.search(rf"^u +{unit()['User']} ", users, re.MULTILINE)
    # Who may use the socket of the store.
    assert "&group=kapla" in (PACKAGING / "kapla.toml").read_text()
    assert unit()["SupplementaryGroups"] == "kapla"
    assert re.search(rf"^m +{unit()['User']} +kapla$", users, re.MULTILINE)


def test_the_users_are_ones_that_systemd_can_make(tmp_path: Path) -> None:
    program = shutil.which("systemd-sysusers")
    if program is None:
        pytest.skip("there is no systemd-sysusers")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tmp_path / "etc" / "group").write_text("root:x:0:\n")
    subprocess.run(
        [program, f"--root={tmp_path}", "-"],
        input=(PACKAGING / "sysusers.conf").read_bytes(),
        capture_output=True,
        check=True,
    )
    made = (tmp_path / "etc" / "group").read_text().splitlines()
    (members,) = (found[1] for line in made if (found := re.fullmatch(r"kapla:x:\d+:(.*)", line)))
    assert set(members.split(",")) == {"kapla-publish", "kapla-proxy", "kapla-seed"}
