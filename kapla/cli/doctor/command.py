"""`kapla doctor`: finds the usual troubles, and says how to mend each."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Final

import click

from eris_fs.model import printable
from kapla import log
from kapla.cli.doctor.checks import findings
from kapla.cli.doctor.finding import Finding, Level, worst
from kapla.cli.outcome import ExitCode
from kapla.cli.told import told

__all__ = ["command"]

_MARKS: Final = {Level.OK: "✓", Level.WARNING: "!", Level.TROUBLE: "✗"}
_PLAIN_MARKS: Final = {Level.OK: "ok", Level.WARNING: "!", Level.TROUBLE: "x"}
_COLOURS: Final = {Level.OK: "green", Level.WARNING: "yellow", Level.TROUBLE: "red"}
_WORDS: Final = {Level.OK: "ok", Level.WARNING: "warning", Level.TROUBLE: "trouble"}


@told(
    ("Find out why nothing works", "kapla doctor"),
    ("See what was looked at, too", "kapla doctor --all"),
    ("Ask a machine that looks after others", "kapla doctor --json --store-url coap+tcp://attic"),
    ("Look at the status page with everything on it", "kapla doctor --status-url"),
    exits=(ExitCode.STORE, ExitCode.REFUSED),
    means={ExitCode.FAILED: "there is trouble"},
)
@click.command(name="doctor", short_help="Find the usual troubles, and how to mend each.")
@click.option("--all", "show_all", is_flag=True, help="List what is well, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each thing looked at.")
@click.option(
    "--store-url",
    metavar="URL",
    multiple=True,
    help="The store to look at. Default: $ERIS_STORE_URL, else the local daemon's socket.",
)
@click.option(
    "--status-url",
    is_flag=True,
    help="Print the URL of the daemon's status page instead, with what shows everything there:"
    " keep it to yourself. It is valid until the daemon ends.",
)
def command(show_all: bool, as_json: bool, store_url: tuple[str, ...], status_url: bool) -> None:
    """Find the usual troubles, and say how to mend each.

    Looks at the daemon and its socket, settings, disk, peers, at the catalogue and other files of
    yours, at clock, services, Python and Guix. Changes nothing, and takes some seconds at most.
    Warnings are of what works and may not for long.
    """
    if status_url:
        _print_status_url(" ".join(store_url) or None)
        return
    # Only where it is needed: what is loaded for it is much.
    from kapla.cli.doctor.gathering import gather

    found = list(findings(gather(" ".join(store_url) or None)))
    for line in _json_lines(found) if as_json else _lines(found, show_all=show_all):
        click.echo(line)
    if worst(found) is Level.TROUBLE:
        sys.stdout.flush()
        click.get_current_context().exit(ExitCode.FAILED)


def _print_status_url(store_url: str | None) -> None:
    # Only where it is needed, as above.
    from kapla.cli.common import run
    from kapla.cli.page_url import page_url

    click.echo(run(page_url(store_url)))


def _json_lines(found: Sequence[Finding]) -> Iterator[str]:
    for one in found:
        facts = {"check": one.check, "level": _WORDS[one.level], "text": log.redact(one.text)}
        yield json.dumps(facts | ({"mend": one.mend} if one.mend else {})).replace(
            "\x7f", "\\u007f"
        )


def _lines(found: Sequence[Finding], *, show_all: bool) -> Iterator[str]:
    shown = [one for one in found if show_all or one.level is not Level.OK]
    for one in sorted(shown, key=lambda one: -one.level):
        yield f"{_mark(one.level)} {_text(one.check)}: {_text(one.text)}"
        if one.mend:
            yield f"    → {_text(one.mend)}" if _can_show("→") else f"    -> {_text(one.mend)}"
    if worst(found) is Level.OK:
        yield f"All is well: {len(found)} things looked at."


def _text(text: str) -> str:
    """For a terminal, and without what may be a key to contents: some of it others said."""
    return log.redact(printable(text))


def _mark(level: Level) -> str:
    mark = _MARKS[level] if _can_show(_MARKS[level]) else _PLAIN_MARKS[level]
    is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return click.style(mark, fg=_COLOURS[level]) if is_coloured else mark


def _can_show(mark: str) -> bool:
    try:
        mark.encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
