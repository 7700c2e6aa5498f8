"""Reading a file of settings: TOML, each value with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kapla.config.lines import KeyPath, key_lines, line_of
from kapla.config.problems import Problems

__all__ = ["SettingsFile", "read_file"]

_LARGEST: Final = 2**20
_WHERE: Final = re.compile(r"(.*) \(at line ([0-9]+), column ([0-9]+)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """What a file says."""

    path: Path
    values: Mapping[str, object]
    lines: Mapping[KeyPath, int]

    def where(self, *path: str | int) -> str:
        """File and line, as compilers name them."""
        line = line_of(self.lines, path)
        return str(self.path) if line is None else f"{self.path}:{line}"


def read_file(path: Path, problems: Problems) -> SettingsFile | None:
    """Read a file; None if that cannot be, of which the problems then tell."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        problems.add("", f"cannot read {path}: {error.strerror}")
        return None
    if len(data) > _LARGEST:
        problems.add(str(path), "over 1 MiB: this is no file of settings")
        return None
    try:
        text = data.decode("utf-8")
        return SettingsFile(path, tomllib.loads(text), key_lines(text))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.add(f"{path}:{line}", "this is not UTF-8")
    except tomllib.TOMLDecodeError as error:
        problems.add(*_told(path, str(error)))
    except ValueError:
        # Python's own limit, of which `tomllib` knows nothing.
        problems.add(str(path), "a number has thousands of digits")
    except RecursionError:
        problems.add(str(path), "brackets are nested too deeply")
    return None


def _told(path: Path, message: str) -> tuple[str, str]:
    """Place and reason, of what `tomllib` says."""
    found = _WHERE.fullmatch(message)
    if found is None:
        return str(path), message
    hint = "; a text stands in quotes" if found[1] == "Invalid value" else ""
    return f"{path}:{found[2]}", f"{found[1]}, in column {found[3]}{hint}"
