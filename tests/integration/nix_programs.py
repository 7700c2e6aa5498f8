"""Real Nix, run with stores, settings and a memory of its own, beside that of the machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.integration.daemon import GUARD_S

__all__ = ["NixStore", "nix"]

_SETTINGS = (
    "experimental-features = nix-command flakes\nbuild-users-group =\nsandbox = false\n"
    "substituters =\nsubstitute = true\n"
)


def nix(
    home: Path, *arguments: str | Path, stdin: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Nix with a store, and a memory of narinfos, of its own."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "NIX_CONFIG": _SETTINGS}
    return subprocess.run(
        [str(argument) for argument in arguments],
        env=environment | dict(env or {}),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=GUARD_S,
        check=False,
    )


class NixStore:
    """A store that Nix keeps in a directory: its items, its database and its logs.

    Its paths begin with that directory, so whoever takes them from there has to be told so: `env`.
    """

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.home.mkdir(parents=True)
        self.store_dir = directory / "store"
        self.state_dir = directory / "var" / "nix"
        self.log_dir = directory / "var" / "log"
        self.env = {
            "NIX_STORE_DIR": str(self.store_dir),
            "NIX_STATE_DIR": str(self.state_dir),
            "NIX_LOG_DIR": str(self.log_dir),
            "NIX_CONF_DIR": str(directory / "etc"),
            "NIX_REMOTE": "local",
        }

    def run(self, *arguments: str | Path, stdin: str = "") -> str:
        """What a program of Nix says, which must succeed."""
        done = nix(self.home, *arguments, stdin=stdin, env=self.env)
        assert done.returncode == 0, done
        return done.stdout.strip()

    def new_key(self, name: str, file: Path) -> str:
        """Make a secret key in a file; gives the public one."""
        file.write_text(self.run("nix", "key", "generate-secret", "--key-name", name))
        return self.run("nix", "key", "convert-secret-to-public", stdin=file.read_text())
