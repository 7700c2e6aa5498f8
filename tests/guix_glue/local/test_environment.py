"""The variables that say where a Guix is."""

from __future__ import annotations

import pytest

from guix_glue.errors import GuixError
from guix_glue.local.environment import GuixEnvironment, NixEnvironment


def test_nothing_set() -> None:
    assert GuixEnvironment.from_environ({}) == GuixEnvironment()
    assert GuixEnvironment.from_environ({"NIX_STORE_DIR": ""}) == GuixEnvironment()


def test_all_set() -> None:
    environ = {
        "NIX_STORE_DIR": "/t/store/",
        "GUIX_STATE_DIRECTORY": "/t/state",
        "GUIX_DATABASE_DIRECTORY": "/t/db",
        "GUIX_LOG_DIRECTORY": "/t/log",
        "GUIX_CONFIGURATION_DIRECTORY": "/t/etc",
        "GUIX_DAEMON_SOCKET": "guix://localhost",
        "PATH": "/bin",
    }
    assert GuixEnvironment.from_environ(environ) == GuixEnvironment(
        "/t/store", "/t/state", "/t/db", "/t/log", "/t/etc", "guix://localhost"
    )


def test_what_follows_from_the_state_directory() -> None:
    environment = GuixEnvironment.from_environ({"GUIX_STATE_DIRECTORY": "/t"})
    assert environment.database_dir == "/t/db"
    assert environment.daemon_socket == "/t/daemon-socket/socket"
    assert environment.log_dir == "/var/log/guix"


@pytest.mark.parametrize("value", ["store", "./store", "/a\0b"])
def test_a_directory_that_is_none(value: str) -> None:
    with pytest.raises(GuixError, match="NIX_STORE_DIR"):
        GuixEnvironment.from_environ({"NIX_STORE_DIR": value})


def test_where_nix_is() -> None:
    assert NixEnvironment.from_environ({"NIX_STATE_DIR": ""}) == NixEnvironment()
    assert NixEnvironment().database_dir == "/nix/var/nix/db"
    environ = {"NIX_STORE_DIR": "/t/store/", "NIX_STATE_DIR": "/t/state", "NIX_LOG_DIR": "/t/log"}
    environment = NixEnvironment.from_environ(environ)
    assert environment == NixEnvironment("/t/store", "/t/state", "/t/log")
    assert environment.database_dir == "/t/state/db"
    assert NixEnvironment.from_environ({"NIX_STORE_DIR": "//t/./a/..//store//"}) == NixEnvironment(
        "/t/store"
    )


def test_the_older_name_of_the_store() -> None:
    assert NixEnvironment.from_environ({"NIX_STORE": "/o"}).store_dir == "/o"
    environ = {"NIX_STORE": "/o", "NIX_STORE_DIR": "/n"}
    assert NixEnvironment.from_environ(environ).store_dir == "/n"
    with pytest.raises(GuixError, match="NIX_LOG_DIR"):
        NixEnvironment.from_environ({"NIX_LOG_DIR": "log"})
