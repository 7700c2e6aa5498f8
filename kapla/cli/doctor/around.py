"""Looks at what is around Kapla: systemd, the other Python packages, Guix."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from kapla.cli.doctor.facts import GuixFacts

__all__ = ["guix", "others_packages", "shadowed", "units"]

_UNITS: Final = ("kaplad.service", "kapla-publish.service", "kapla-proxy.service")
_LONGEST_S: Final = 5.0
_OURS: Final = ("eris", "eris_fs", "kapla", "guix_glue")
_DISTRIBUTION: Final = "kapla"


def units() -> Iterator[tuple[str, str, str]]:
    """Our units that are installed, the user's own too: name, state, result of the last run."""
    for scope in ((), ("--user",)):
        for name in _UNITS:
            found = _shown(*scope, name, "LoadState", "ActiveState", "Result")
            if found.get("LoadState") == "loaded":
                yield name, found.get("ActiveState", ""), found.get("Result", "")


def _shown(*words: str) -> dict[str, str]:
    """Properties of a unit; nothing where systemd does not run."""
    program = shutil.which("systemctl")
    if program is None or not os.path.isdir("/run/systemd/system"):
        return {}
    scope = [word for word in words if word.startswith("-")]
    name, *properties = (word for word in words if not word.startswith("-"))
    try:
        done = subprocess.run(
            [program, *scope, "show", name, f"--property={','.join(properties)}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_LONGEST_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return {key: value for key, found, value in (line.partition("=") for line in lines) if found}


def shadowed() -> Iterator[tuple[str, str]]:
    """Our modules that are loaded from somewhere else than the others."""
    home = Path(__file__).resolve().parents[3]
    for name in _OURS:
        spec = sys.modules[name].__spec__ if name in sys.modules else importlib.util.find_spec(name)
        origin = None if spec is None else spec.origin
        if origin is not None and Path(origin).resolve().parents[1] != home:
            yield name, origin


def others_packages() -> Iterator[str]:
    """Other installed packages that bring a module with one of our names."""
    from importlib.metadata import distributions

    seen = set()
    for distribution in distributions():
        name = distribution.metadata["Name"] or ""
        if name.lower() == _DISTRIBUTION or name in seen:
            continue
        with suppress(OSError, UnicodeDecodeError):
            top = (distribution.read_text("top_level.txt") or "").split()
            if set(top) & set(_OURS):
                seen.add(name)
                yield name


def guix() -> GuixFacts | None:
    """How the daemon of Guix is set up; None where there is no Guix."""
    directory = os.environ.get("GUIX_CONFIGURATION_DIRECTORY") or "/etc/guix"
    if shutil.which("guix-daemon") is None and not os.path.isdir("/var/guix/daemon-socket"):
        return None
    shown = _shown("guix-daemon.service", "LoadState", "Environment", "ExecStart")
    environment = None
    if shown.get("LoadState") == "loaded":
        command = shown.get("ExecStart", "")
        environment = shown.get("Environment", "")
        # It sets the variables itself.
        environment += " kapla-guix" if "kapla guix-daemon" in command else ""
    return GuixFacts(environment=environment, has_acl=_has_acl(os.path.join(directory, "acl")))


def _has_acl(path: str) -> bool | None:
    try:
        with open(path, "rb") as file:
            return b"public-key" in file.read(2**20)
    except FileNotFoundError:
        return False
    except OSError:
        return None
