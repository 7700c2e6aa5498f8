"""Every trouble, played through without having it: facts in, one finding out."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any

import pytest

from kapla.cli.doctor.checks import findings
from kapla.cli.doctor.facts import (
    DiskFacts,
    Facts,
    FileFacts,
    GuixFacts,
    SettingsFacts,
    StoreFacts,
)
from kapla.cli.doctor.finding import Finding, Level, worst

NOW = 1_800_000_000.0
GIB = 2**30
SOCKET = StoreFacts("Unix socket /run/eris.sock", socket="/run/eris.sock")
SETTINGS = SettingsFacts(is_known=True, store="/srv/blocks.sqlite", max_connections=512)
DISK = DiskFacts("/srv/blocks.sqlite", "ext4", 100 * GIB, 50 * GIB, GIB)
WELL = Facts(
    version="1.0",
    user="eva",
    uid=1000,
    now=NOW,
    newest_file=NOW - 1000,
    runtime_dir="/run/user/1000",
    has_runtime_dir=True,
    stores=(SOCKET,),
    settings=SETTINGS,
    disk=DISK,
)
SECRET = FileFacts("key pair", "/home/eva/identity.pem", "eva", True, 0o600, is_secret=True)


def store(**changes: Any) -> Facts:
    return replace(WELL, stores=(replace(SOCKET, **changes),))


def reporting(**report: object) -> Facts:
    return store(report=report)


def peer(**facts: object) -> Facts:
    return store(peers=({"state": "connected", "name": "attic"}, {"name": "barn", **facts}))


def bad(facts: Facts) -> list[Finding]:
    return [one for one in findings(facts) if one.level is not Level.OK]


def test_all_is_well() -> None:
    found = list(findings(WELL))
    assert worst(found) is Level.OK
    assert {one.check for one in found} == {"store", "settings", "disk"}
    assert worst([]) is Level.OK


TROUBLES: dict[str, tuple[Facts, str, str]] = {
    "no socket": (
        store(is_there=False, error="No such file", number=errno.ENOENT),
        "there is no socket /run/eris.sock",
        "kaplad",
    ),
    "no socket but a file": (store(is_socket=False, error="x"), "is no socket", "ERIS_STORE_URL"),
    "stale": (store(error="x", number=errno.ECONNREFUSED), "left from a daemon", "kaplad"),
    "for its owner": (store(error="x", number=errno.EACCES), "its owner alone", "kaplad"),
    "for a group": (
        store(error="x", number=errno.EACCES, group="kapla"),
        "for the group kapla",
        "usermod -aG kapla",
    ),
    "in the group after a login": (
        store(error="x", number=errno.EACCES, group="kapla", in_group_later=True),
        "not in this session",
        "newgrp kapla",
    ),
    "silent": (store(error="no answer within 5 s"), "does not answer", "journalctl -u kaplad"),
    "another machine": (
        store(socket=None, error="Connection refused"),
        "cannot be asked: Connection refused",
        "port",
    ),
    "a file": (
        store(socket=None, is_file=True, error="there is no store"),
        "there is no store",
        "makes a new one",
    ),
    "wrong URL": (replace(WELL, stores=(), url_error="no URL"), "no URL", "ERIS_STORE_URL"),
    "no session": (
        replace(WELL, stores=(), runtime_dir=None, has_runtime_dir=False),
        "there is no /run/user/1000",
        "machinectl shell eva@",
    ),
    "settings": (
        replace(WELL, settings=SettingsFacts(is_known=True, error="unknown key 'stroe'")),
        "unknown key 'stroe'",
        "kapla.toml",
    ),
    "no room": (replace(WELL, disk=replace(DISK, free=1000)), "is full", "make room"),
    "network": (replace(WELL, disk=replace(DISK, kind="nfs4")), "network file system", "move it"),
    "somebody else's": (
        replace(WELL, files=(replace(SECRET, owner="root", is_ours=False),)),
        "belongs to root",
        "chown -R eva /home/eva/identity.pem",
    ),
    "secret for all": (
        replace(WELL, files=(replace(SECRET, mode=0o644),)),
        "others may read",
        "chmod 600 /home/eva/identity.pem",
    ),
    "directory for all": (
        replace(
            WELL,
            files=(
                FileFacts("catalogue", "/home/eva/c", "eva", True, 0o777, False, is_directory=True),
            ),
        ),
        "others may write",
        "chmod 700",
    ),
    "broken file": (
        replace(WELL, files=(replace(SECRET, error="Input/output error"),)),
        "Input/output error",
        "ls -ld",
    ),
    "catalogue": (replace(WELL, catalogue_error="it is damaged"), "it is damaged", "move"),
    "clock": (replace(WELL, now=NOW - 10 * 86400), "9 days late", "timedatectl"),
    "failed unit": (
        replace(WELL, units=(("kaplad.service", "failed", "exit-code"),)),
        "has failed (exit-code)",
        "journalctl -u kaplad.service",
    ),
    "two of a name": (replace(WELL, others_packages=("eris",)), "one hides", "pip uninstall eris"),
    "shadowed": (replace(WELL, shadowed=(("eris", "/tmp/eris.py"),)), "/tmp/eris.py", "PYTHONPATH"),
}
WARNINGS: dict[str, tuple[Facts, str, str]] = {
    "su": (
        replace(store(socket="/run/user/1000/eris.sock"), runtime_dir=None),
        "XDG_RUNTIME_DIR is not set",
        "export XDG_RUNTIME_DIR=/run/user/1000",
    ),
    "old daemon": (reporting(version="0.9"), "kaplad 0.9, and this is kapla 1.0", "again"),
    "refuses": (reporting(full_blocks=1200), "refused 1,200 blocks", "max-size"),
    "at its cap": (
        reporting(max_size=GIB, database_bytes=GIB, when_full="refuse"),
        "takes no new blocks",
        "evict",
    ),
    "little room": (
        replace(WELL, disk=replace(DISK, free=100 * 2**20)),
        "nearly full",
        "min-free",
    ),
    "in memory": (replace(WELL, disk=replace(DISK, kind="tmpfs")), "in memory", "to a disk"),
    "cap beyond the disk": (
        replace(WELL, settings=replace(SETTINGS, max_size=200 * GIB)),
        "whole disk has 100.0 GiB",
        "min-free",
    ),
    "cap beyond what is free": (
        replace(WELL, settings=replace(SETTINGS, max_size=60 * GIB)),
        "room for 51.0 GiB",
        "lower max-size",
    ),
    "peer": (peer(state="waiting", why="Connection refused"), "barn is away", "kapla peers"),
    "peer's key": (
        peer(state="waiting", why="ed25519:a was expected there, and what came is ed25519:b"),
        "what came is ed25519:b",
        "--print-key",
    ),
    "port": (
        replace(WELL, settings=replace(SETTINGS, ports=(("192.0.2.1", 5683, "it is closed"),))),
        "port 5683 of 192.0.2.1",
        "packet filter",
    ),
    "open files": (store(open_files=256), "256 files open", "LimitNOFILE"),
    "far clock": (replace(WELL, newest_file=0.0), "20 years after", "timedatectl"),
    "guix": (replace(WELL, guix=GuixFacts("LANG=C", True)), "through Kapla", "kapla guix-daemon"),
    "guix without keys": (
        replace(WELL, guix=GuixFacts(None, False)),
        "no key is authorized",
        "authorize",
    ),
    "blind": (replace(WELL, blind=(("disk", "OSError: odd"),)), "OSError: odd", "by hand"),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_trouble(name: str) -> None:
    check(*TROUBLES[name], Level.TROUBLE)


@pytest.mark.parametrize("name", WARNINGS)
def test_warning(name: str) -> None:
    check(*WARNINGS[name], Level.WARNING)


def check(facts: Facts, says: str, mend: str, level: Level) -> None:
    (found,) = bad(facts)
    assert found.level is level
    assert says in found.text
    assert mend in found.mend
    assert "\n" not in found.text + found.mend
    assert not found.text.endswith(".")


@pytest.mark.parametrize(
    "facts",
    [
        reporting(version=1, full_blocks="many", max_size=10**400, database_bytes=10**400),
        reporting(max_size="\x1b", when_full="refuse", database_bytes=None),
        peer(state=7, why=None),
        store(open_files=None, report=None),
        replace(WELL, disk=replace(DISK, total=0)),
        replace(WELL, disk=None, guix=GuixFacts(None, None)),
        replace(WELL, guix=GuixFacts("GUIX=/usr/bin/kapla-guix", True)),
        replace(WELL, units=(("kaplad.service", "active", "success"),)),
        replace(WELL, units=(("kaplad.service", "inactive", "success"),)),
        store(socket=None),
        replace(WELL, stores=()),
        replace(WELL, uid=0, runtime_dir=None, has_runtime_dir=False, stores=()),
    ],
)
def test_nonsense_and_what_is_not_known_are_no_trouble(facts: Facts) -> None:
    assert bad(facts) == []


def test_of_many_peers_some_are_named() -> None:
    away = tuple({"state": "waiting", "name": f"p{number}"} for number in range(100))
    found = bad(store(peers=away))
    assert len(found) == 6
    assert "95 more peers" in found[-1].text
