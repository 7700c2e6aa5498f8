"""`kapla stat`: what the daemon holds."""

from __future__ import annotations

from typing import Any

import click

from eris.errors import StoreRefused
from eris_fs import printable
from kapla.amounts import bytes_text as _bytes
from kapla.amounts import duration_text as _duration
from kapla.cli.common import CommandError, ExitCode, connect, run, store_option
from kapla.cli.facts import facts_json
from kapla.cli.told import told
from kapla.errors import NotAllowed
from kapla.urls import HttpEndpoint

__all__ = ["command"]


@told(
    ("See how full the store is", "kapla stat"),
    ("Of another machine", "kapla stat --store-url coap+tcp://attic"),
    exits=(ExitCode.STORE, ExitCode.REFUSED),
)
@click.command(name="stat", short_help="Show what the daemon holds.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@store_option
def command(as_json: bool, store_url: str | None) -> None:
    """Show what the daemon holds: blocks and bytes by size, database size, uptime, requests."""

    async def ask() -> dict[str, Any]:
        async with connect(store_url) as store:
            try:
                return await store.stat()
            except NotAllowed:
                one = len(store.urls) == 1
                where = store.urls[0] if one else "the first store that can be reached"
                raise CommandError(
                    f"{where} does not tell its peers what it holds: its listener needs the"
                    " flag stat, as in coap+tcp://HOST?get&stat",
                    ExitCode.REFUSED,
                ) from None
            except StoreRefused:
                # Another program's store, which knows no such path; or one behind HTTP.
                over_http = isinstance(store.urls[0].endpoint, HttpEndpoint)
                why = "it is asked over HTTP" if over_http else "it is not a kaplad"
                raise CommandError(
                    f"this store does not tell what it holds: {why}",
                    ExitCode.REFUSED,
                ) from None

    report = run(ask())
    if as_json:
        click.echo(facts_json(report, "report"))
        return
    try:
        lines = _lines(report)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
        raise CommandError(
            "the store's report is none of a Kapla daemon; see --json", ExitCode.STORE
        ) from None
    for line in lines:
        click.echo(line)


def _lines(report: dict[str, Any]) -> list[str]:
    lines = []
    for size, count in report["blocks"].items():
        label = f"blocks of {int(size) // 1024} KiB:"
        lines.append(f"{label:<20}{count:>12,}  {_bytes(report['bytes'][size])}")
    limit = report.get("max_size")
    of = f" of {_bytes(limit)}" if limit else ""
    kind = " in PostgreSQL" if report.get("store") == "postgresql" else ""
    lines.append(f"{'database:':<20}{_bytes(report['database_bytes']):>12}{of}{kind}")
    # A file has no start, and older daemons do not tell all of this.
    if "new_blocks" in report:
        lines.append(f"{'new blocks:':<20}{report['new_blocks']:>12,}  since the start")
    if "full_blocks" in report:
        lines.append(f"{'refused as full:':<20}{report['full_blocks']:>12,}  blocks")
    if "evicted_blocks" in report:
        lines.append(f"{'evicted blocks:':<20}{report['evicted_blocks']:>12,}  since the start")
    if "bad_blocks" in report:
        scrubbed = f"blocks, of {report['scrubbed_blocks']:,} that were scrubbed"
        lines.append(f"{'bad blocks:':<20}{report['bad_blocks']:>12,}  {scrubbed}")
    if "uptime_s" in report:
        lines.append(f"{'uptime:':<20}{_duration(report['uptime_s']):>12}")
    for name, count in report.get("requests", {}).items():
        lines.append(f"{printable(name) + ' requests:':<20}{count:>12,}")
    if "connections" in report:
        lines.append(f"{'connections:':<20}{report['connections']['now']:>12,}")
    if "seeds" in report:
        lines += _seeds(report["seeds"])
    return lines


def _seeds(told: dict[str, int]) -> list[str]:
    """Only where there were any, or somebody wanted to be one."""
    if not (told["since_start"] or told["refused"]):
        return []
    made = f"made {told['blocks']:,} blocks ({_bytes(told['bytes'])})"
    lines = [f"{'seeds:':<20}{told['now']:>12,}  {made} of {told['asked']:,} asked for"]
    if told["refused"]:
        lines.append(f"{'refused seeds:':<20}{told['refused']:>12,}  times")
    if told["wrong"]:
        lines.append(f"{'wrong seeds:':<20}{told['wrong']:>12,}  sent away for a wrong block")
    return lines
