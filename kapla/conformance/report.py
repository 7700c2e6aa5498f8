"""Results as lines for people, and as facts for programs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from kapla.conformance.model import Level, Result, Verdict

__all__ = ["facts", "failed_musts", "lines_of", "sums"]

_MARKS: Final = {
    Verdict.PASS: "ok",
    Verdict.FAIL: "FAIL",
    Verdict.SKIPPED: "skip",
    Verdict.ABSENT: "none",
}
_NAMES: Final = {
    Level.MUST: "musts",
    Level.SHOULD: "shoulds",
    Level.MAY: "mays",
    Level.OWN: "extensions of Kapla",
}


def lines_of(result: Result, *, verbose: bool = False) -> Iterator[str]:
    """What is told of one check: a line, for a failure what was seen, with `verbose` the bytes."""
    check = result.check
    mark, level = _MARKS[result.verdict], check.level.value
    yield f"  {mark:<4}  {level:<6}  {check.name:<16}  {check.says} [{check.source}]"
    if result.verdict is not Verdict.PASS or verbose:
        yield f"{'':16}{result.seen}"
    if verbose:
        yield from (f"{'':16}{seen}" for seen in result.transcript)


def failed_musts(results: Iterable[Result]) -> list[str]:
    """The musts that failed, as `group/name`: a store conforms if there are none."""
    return [
        f"{result.group}/{result.check.name}"
        for result in results
        if result.check.level is Level.MUST and result.verdict is Verdict.FAIL
    ]


def sums(results: Sequence[Result]) -> str:
    """One line at the end: how many of each level are met, of those that could be tried."""
    parts = []
    for level, name in _NAMES.items():
        counted = Counter(one.verdict for one in results if one.check.level is level)
        tried = counted[Verdict.PASS] + counted[Verdict.FAIL]
        if tried:
            parts.append(f"{counted[Verdict.PASS]} of {tried} {name}")
    verdicts = Counter(one.verdict for one in results)
    word = "does not conform" if failed_musts(results) else "conforms"
    rest = [
        f"{verdicts[verdict]} {text}"
        for verdict, text in ((Verdict.SKIPPED, "skipped"), (Verdict.ABSENT, "not there"))
        if verdicts[verdict]
    ]
    return f"{word}: {', '.join(parts) or 'nothing was tried'}" + "".join(f"; {r}" for r in rest)


def facts(results: Sequence[Result], store: str, written: int, asked: int) -> dict[str, Any]:
    """All of it, for `--json`; bytes in hexadecimal, shortened."""
    return {
        "store": store,
        "conforms": not failed_musts(results),
        "written_bytes": written,
        "requests_of_the_store": asked,
        "checks": [_facts_of(result) for result in results],
    }


def _facts_of(result: Result) -> dict[str, Any]:
    check = result.check
    return {
        "group": result.group,
        "name": check.name,
        "level": check.level.value,
        "says": check.says,
        "source": check.source,
        "verdict": result.verdict.value,
        "seen": result.seen,
        "bytes": [
            {"sent": seen.sent, "head": seen.head.hex(), "length": seen.length}
            for seen in result.transcript
        ],
    }
