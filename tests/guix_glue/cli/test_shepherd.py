"""What the services of `packaging/guix` run is what the commands take; Guix need not be here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from guix_glue.cli import proxy, seed

SERVICES = Path(__file__).resolve().parents[3] / "packaging" / "guix" / "services.scm"
STAGE = Path(__file__).with_name("shepherd.scm")
GUARD_S = 60.0
SERVERS = ["https://a.example", "https://b.example"]


def shown(name: str) -> tuple[list[str], list[str]]:
    """The command that a service runs, and the groups of its users beside their own."""
    if shutil.which("guile") is None:
        pytest.skip("there is no guile to read what is for Guix")
    done = subprocess.run(
        ["guile", "--no-auto-compile", STAGE, SERVICES, name],
        capture_output=True,
        text=True,
        timeout=GUARD_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    command, groups = (re.findall(r'"([^"]*)"', line) for line in done.stdout.splitlines())
    return command, groups


@pytest.mark.parametrize(
    ("name", "command"), [("kapla-proxy", proxy.command), ("kapla-seed", seed.command)]
)
def test_the_command_of_a_service_is_taken(name: str, command: click.Command) -> None:
    words, groups = shown(name)
    assert words[:2] == ["/package/bin/kapla", name.removeprefix("kapla-")]
    found = command.make_context(words[1], words[2:]).params
    assert found["user"] == name
    assert [server.url for server in found["upstream"]] == SERVERS
    # What its configuration has besides.
    assert found["log_format"] == "json"
    # For the daemon's socket.
    assert groups == ["kapla"]


def test_the_seed_of_a_service_gives_away_the_store() -> None:
    words, _ = shown("kapla-seed")
    found = seed.command.make_context("seed", words[2:]).params
    assert (found["store_dir"], found["directories"]) == ("/gnu/store", ())
    assert found["index_dir"] == Path("/var/cache/kapla/seed")
    assert found["store_url"] == "coap+unix:///run/kapla/eris.sock"
