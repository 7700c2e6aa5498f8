"""Which store a publisher serves, by what is on the machine and what it is told."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from guix_glue.cli.served_store import store_to_serve
from guix_glue.errors import PublishError
from guix_glue.local.environment import GuixEnvironment, NixEnvironment


def environ_of(directory: Path, *there: str) -> dict[str, str]:
    """A machine with the databases of these."""
    places = {"guix": directory / "guix" / "db", "nix": directory / "nix" / "db"}
    for name in there:
        places[name].mkdir(parents=True)
        (places[name] / "db.sqlite").touch()
    return {
        "GUIX_STATE_DIRECTORY": str(directory / "guix"),
        "NIX_STATE_DIR": str(directory / "nix"),
    }


@pytest.mark.parametrize(
    ("there", "store_dir", "for_nix", "served"),
    [
        (("guix",), None, False, "/gnu/store"),
        (("guix",), None, True, "/gnu/store"),
        (("nix",), None, False, "/nix/store"),
        (("nix",), None, True, "/nix/store"),
        (("guix", "nix"), None, False, "/gnu/store"),
        (("guix", "nix"), None, True, "/nix/store"),
        (("guix", "nix"), "/nix/store", False, "/nix/store"),
        (("guix", "nix"), "/gnu/store", True, "/gnu/store"),
        # A daemon that is not there yet may come.
        ((), None, False, "/gnu/store"),
        ((), "/gnu/store", True, "/gnu/store"),
    ],
)
def test_what_is_served(
    tmp_path: Path, there: tuple[str, ...], store_dir: str | None, for_nix: bool, served: str
) -> None:
    environ = environ_of(tmp_path, *there)
    found = store_to_serve(environ, store_dir, for_nix=for_nix)
    assert found.store_dir == served
    assert isinstance(found, NixEnvironment) == (served == "/nix/store")


@pytest.mark.parametrize("there", ["guix", "nix"])
def test_a_store_elsewhere_is_that_of_whoever_is_there(tmp_path: Path, there: str) -> None:
    environ = environ_of(tmp_path, there) | {"NIX_STORE_DIR": "/t/store"}
    found = store_to_serve(environ, "/t/store", for_nix=False)
    assert found.store_dir == "/t/store"
    assert isinstance(found, GuixEnvironment) == (there == "guix")


def test_a_daemon_of_guix_on_another_machine(tmp_path: Path) -> None:
    environ = environ_of(tmp_path, "nix") | {"GUIX_DAEMON_SOCKET": "guix://farm"}
    assert isinstance(store_to_serve(environ, None, for_nix=False), GuixEnvironment)
    assert isinstance(store_to_serve(environ, None, for_nix=True), NixEnvironment)


@pytest.mark.parametrize(("store_dir", "for_nix"), [("/nix/store", False), (None, True)])
def test_a_store_of_nix_that_is_not_there(
    tmp_path: Path, store_dir: str | None, for_nix: bool
) -> None:
    there = () if store_dir is None else ("guix",)
    with pytest.raises(PublishError, match=r"/nix/db/db\.sqlite is missing.*--items"):
        store_to_serve(environ_of(tmp_path, *there), store_dir, for_nix=for_nix)


def test_a_directory_that_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(
        click.UsageError, match=r"/srv is neither .*/gnu/store.*/nix/store.*--items"
    ):
        store_to_serve(environ_of(tmp_path, "nix"), "/srv", for_nix=False)
