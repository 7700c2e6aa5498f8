"""What `packaging/` says of the Guix daemon fits what is installed, and who may use the socket."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from guix_glue.cli.starter import tell_starter

ROOT = Path(__file__).resolve().parents[3]
PACKAGING = ROOT / "packaging"


def drop_in() -> list[tuple[str, str]]:
    text = (PACKAGING / "guix-daemon-kapla.conf").read_text()
    return re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)


def variables() -> dict[str, str]:
    return dict(value.split("=", 1) for name, value in drop_in() if name == "Environment")


def test_a_daemon_that_is_not_root_may_use_the_socket_of_the_store() -> None:
    listener = re.search(r'"(coap\+unix://.*)"', (PACKAGING / "kapla.toml").read_text())
    assert listener is not None
    groups = parse_qs(urlsplit(listener[1]).query)["group"]
    assert [value for name, value in drop_in() if name == "SupplementaryGroups"] == groups
    assert variables()["ERIS_STORE_URL"] == listener[1].partition("?")[0]
    # Groups are made with the user of the name.
    assert re.search(rf"^u +{groups[0]} ", (PACKAGING / "sysusers.conf").read_text(), re.MULTILINE)


def test_it_names_what_an_installation_has() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    path = variables()["GUIX_EXTENSIONS_PATH"]
    installed = setup["options.data_files"][path.removeprefix("/opt/kapla/")]
    assert installed == "packaging/guix/extensions/substitute.scm"
    assert (ROOT / installed).is_file()
    assert variables()["KAPLA"] == "/opt/kapla/bin/kapla"


def test_narinfos_are_kept_where_the_daemon_may_write() -> None:
    directory = dict(drop_in())["CacheDirectory"]
    assert variables()["KAPLA_NARINFO_CACHE"] == f"/var/cache/{directory}"
    assert dict(drop_in())["CacheDirectoryMode"] == "0700"


def test_nobody_waits_to_be_told() -> None:
    for value in ("", "nonsense", "99999", "-1", "1" * 30):
        tell_starter({"KAPLA_STARTER": value})
