"""`kapla conformance`: whether a store speaks ERIS over CoAP as the standards have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from eris_fs import printable
from kapla.cli.common import CommandError, ExitCode, run
from kapla.cli.facts import facts_json
from kapla.cli.store import say
from kapla.cli.told import told
from kapla.conformance.model import GROUPS
from kapla.urls import FileEndpoint, HttpEndpoint, StoreUrl, parse_store_url

if TYPE_CHECKING:
    from kapla.conformance.model import Result
    from kapla.conformance.stage import Stage

__all__ = ["command"]

_WRITES: Final = "up to 2 MiB of blocks, which stay there; --read-only puts none"


@told(
    (
        "See what the daemon of this machine does of what it must",
        "kapla conformance coap+unix:///run/eris.sock",
    ),
    (
        "Ask a store that takes no blocks, and about blocks alone",
        "kapla conformance --read-only --only blocks coap+tcp://attic",
    ),
    exits=(ExitCode.STORE, ExitCode.REFUSED, ExitCode.NOT_CONFORMING),
)
@click.command(name="conformance", short_help="Check how a store speaks ERIS over CoAP.")
@click.option(
    "--read-only",
    is_flag=True,
    help="Put nothing, and leave out what that takes. So it is, too, if the URL has flags without"
    " put. Blocks are asked for where those of the official vectors 0 and 1 are there.",
)
@click.option(
    "--only",
    type=click.Choice(GROUPS),
    multiple=True,
    metavar="GROUP",
    help=f"Make the checks of this group alone; several times for several. It is one of"
    f" {', '.join(GROUPS)}.",
)
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Show of each check what was seen, and the first bytes both ways.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, at the end.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0.1, max=600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long one answer is waited for; a whole check, six times as long.",
)
@click.argument("store_url", metavar="STORE-URL")
def command(
    store_url: str,
    read_only: bool,
    only: tuple[str, ...],
    verbose: bool,
    as_json: bool,
    wait_s: float,
) -> None:
    """Check how a store speaks ERIS over CoAP, by well over a hundred requests, right and wrong.

    For stores of any program, behind coap+unix://, coap+tcp:// and coaps+tcp://. One line for each
    check: whether the store does it, how much it counts, and where that is written. Exit code 8 if
    anything that a store must do failed. Wrong frames are sent, too: do not try it on a store of
    others unasked.
    """
    url = parse_store_url(store_url)
    if isinstance(url.endpoint, HttpEndpoint):
        raise CommandError("this is for stores that speak CoAP, not HTTP", ExitCode.USAGE)
    if isinstance(url.endpoint, FileEndpoint):
        text = "this is for programs that serve stores: a file speaks with nobody"
        raise CommandError(text, ExitCode.USAGE)
    read_only = read_only or not url.allows("put")
    say(f"checking {url}; this puts {'nothing' if read_only else _WRITES}")
    results = run(_check(url, read_only, only, wait_s, verbose=verbose, as_json=as_json))
    from kapla.conformance.report import failed_musts

    if failed := failed_musts(results):
        raise CommandError(
            f"{url} fails {len(failed)} of what a store must do: {', '.join(failed)}",
            ExitCode.NOT_CONFORMING,
        )


async def _check(
    url: StoreUrl,
    read_only: bool,
    only: tuple[str, ...],
    wait_s: float,
    *,
    verbose: bool,
    as_json: bool,
) -> list[Result]:
    """Make the checks, and tell of each as it ends."""
    from kapla.conformance.report import facts, sums
    from kapla.conformance.running import run_checks
    from kapla.conformance.stage import Stage

    stage: Stage = Stage(url, read_only=read_only, wait_s=wait_s)
    results: list[Result] = []
    async for result in run_checks(stage, only):
        if not as_json:
            _tell(
                result, is_first=not results or results[-1].group != result.group, verbose=verbose
            )
        results.append(result)
    if as_json:
        click.echo(facts_json(facts(results, str(url), stage.written, stage.asked), "report"))
    else:
        click.echo(f"\n{sums(results)}")
    return results


def _tell(result: Result, *, is_first: bool, verbose: bool) -> None:
    from kapla.conformance.report import lines_of

    if is_first:
        click.echo(result.group)
    for line in lines_of(result, verbose=verbose):
        click.echo(printable(line))
