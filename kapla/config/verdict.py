"""Whether settings are sound, in words: of `kaplad --check-config` and `kapla config check`."""

from __future__ import annotations

from dataclasses import dataclass

from kapla.config.checks import check_machine
from kapla.config.load import Loaded, Sources, load
from kapla.config.problems import Misconfigured, Problem
from kapla.log import redact

__all__ = ["Verdict", "judge"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said."""

    is_sound: bool
    lines: tuple[str, ...]
    """One for each thing that is wrong, and each note; with file and line, where they have one."""
    summary: str


def judge(sources: Sources) -> Verdict:
    """Read settings and look at this machine, as a start would."""
    wrong: list[Problem] = []
    try:
        loaded = load(sources)
    except Misconfigured as error:
        wrong += error.problems
        assert isinstance(error.rest, Loaded)
        loaded = error.rest
    findings = check_machine(loaded)
    wrong += findings.wrong
    notes = [
        f"{note.place}: note: {note.reason}" if note.place else f"note: {note.reason}"
        for note in findings.notes
    ]
    path = loaded.file
    what = "the settings" if path is None else str(path)
    verb = "are" if path is None else "is"
    if not wrong:
        return Verdict(True, tuple(map(redact, notes)), redact(f"{what} {verb} sound"))
    count = "one error" if len(wrong) == 1 else f"{len(wrong)} errors"
    lines = [*map(str, wrong), *notes]
    return Verdict(False, tuple(map(redact, lines)), redact(f"{what} {verb} not sound: {count}"))
