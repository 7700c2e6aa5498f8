"""Targets of settings: files that people write."""

from __future__ import annotations

import tomllib
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from kapla.config import Misconfigured, Sources, load
from kapla.config.lines import key_lines
from tests.fuzz.cutting import as_text

__all__ = ["settings_file", "toml_lines"]


# Where there may be no home.
_FLAGS: Final = {"store": "/s", "listen": ["coap+unix:///l"]}


def settings_file(data: bytes) -> None:
    """Read a file of settings; what is wrong has a place, and is told in lines of its own."""
    with NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        path = Path(file.name)
        try:
            loaded = load(Sources(file.name, _FLAGS, environment={}))
        except Misconfigured as error:
            assert error.problems
            assert all("\n" not in str(problem) for problem in error.problems)
        else:
            assert loaded.file == path


def toml_lines(data: bytes) -> None:
    """Find lines of keys: of all those of the first level, in whatever is TOML."""
    text = as_text(data)
    lines = key_lines(text)
    with suppress(tomllib.TOMLDecodeError, RecursionError):
        assert {path[0] for path in lines} == set(tomllib.loads(text))
