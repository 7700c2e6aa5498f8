"""Fuzzes one target in this process with atheris, and keeps the input of each different finding.

    python -m tests.fuzz.one TARGET FOUND-DIRECTORY CORPUS-DIRECTORY [LIBFUZZER-OPTION...]

An exception does not end the run: its input goes to FOUND-DIRECTORY/TARGET-ERROR-FILE-LINE, a
shorter one in place of a longer, and fuzzing goes on. What ends the process (a hang, too much
memory, a crash of a library) is written to the same directory by libFuzzer.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import Any

PACKAGES = ("eris", "eris_fs", "guix_glue", "kapla")
_ROOT = Path(__file__).resolve().parent.parent.parent


class Findings:
    """The shortest input for each place where something went wrong."""

    def __init__(self, name: str, directory: Path) -> None:
        self._name = name
        self._directory = directory
        self._shortest: dict[str, int] = {}

    def note(self, error: BaseException, data: bytes) -> None:
        """Keep an input that led to this error."""
        place = f"{self._name}-{type(error).__name__}-{_place(error)}"
        known = self._shortest.get(place)
        if known is not None and known <= len(data):
            return
        self._shortest[place] = len(data)
        (self._directory / place).write_bytes(data)
        if known is None:
            traceback.print_exception(error)


def _place(error: BaseException) -> str:
    """The last line of ours that the error passed through, as `narinfo.py-120`."""
    place = "nowhere"
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in (*PACKAGES, "tests"):
            place = f"{path.name}-{frame.lineno}"
    return place


def main(name: str, found: str, *options: str) -> None:
    """Fuzz until libFuzzer's options say that it is enough; does not return."""
    # Typed loosely: where it is not installed, nothing else needs it.
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=list(PACKAGES), enable_loader_override=False):
        from tests.fuzz.targets import TARGETS
    target, findings = TARGETS[name], Findings(name, Path(found))

    def run(data: bytes) -> None:
        try:
            target(data)
        except Exception as error:
            findings.note(error, data)

    atheris.Setup([sys.argv[0], *options], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
