"""Pages of the documentation that can be followed: their commands, and what they say."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

DOCUMENTS = Path(__file__).resolve().parent.parent.parent / "docs"
PROGRAMS = Path(sys.executable).parent


def commands_in(page: str, section: str = "") -> str:
    """The shell commands of a page, or of one of its sections, one after the other."""
    text = (DOCUMENTS / page).read_text()
    if section:
        text = text[text.index(section) :].split("\n## ")[0]
    return "\n".join(re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def follow(script: str, directory: Path, **environment: str) -> tuple[str, str]:
    """Run commands as somebody would who is there; returns what they said, and complained of."""
    whole: Mapping[str, str] = {
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "HOME": str(directory),
        **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
        **environment,
    }
    with open(directory / "out", "w+") as out, open(directory / "err", "w+") as err:
        subprocess.run(
            ["bash", "-c", script],
            cwd=directory,
            env=whole,
            stdout=out,
            stderr=err,
            timeout=115,
            check=False,
        )
        out.seek(0)
        err.seek(0)
        return out.read(), err.read()
