"""The store that a command works on: its options, what is said while it is used, and of its errors.

A store is named by its endpoint. The path behind that may act as a capability and is never shown.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeAlias, TypeVar

import click

from eris.capability import ReadCapability
from eris.errors import BlockNotFound, ErisError, InvalidKey, InvalidPadding, StoreRefused
from eris_fs.model import printable
from kapla.cli.outcome import CommandError, ExitCode
from kapla.cli.quiet import is_watched
from kapla.cli.summary import current_summary
from kapla.cli.waiting import note_store

if TYPE_CHECKING:
    from kapla.client import RemoteStore, StoreList
    from kapla.http.asking.store import HttpStore
    from kapla.urls import StoreUrl

__all__ = ["Store", "connect", "missing_root", "say", "store_option", "timeout_option", "times"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

Store: TypeAlias = "RemoteStore | HttpStore | StoreList"

_TIMEOUT: Final = "kapla.timeout_s"
_RECONNECT: Final = "kapla.reconnect_s"
_DEFAULT_RECONNECT_S: Final = 30.0
"""A daemon is restarted in a second or two; with a large store in its WAL it may take some more."""


def store_option(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """Add `--store-url` to a command, which gets all that are given in one text, or None.

    And `--timeout` and `--reconnect`.
    """

    def join(_: click.Context, __: click.Parameter, urls: tuple[str, ...]) -> str | None:
        return " ".join(urls) or None

    return click.option(
        "--store-url",
        metavar="URL",
        multiple=True,
        callback=join,
        help="The store, as coap+unix:///run/eris.sock, coap+tcp://host, file:///srv/blocks.sqlite,"
        " or https://host to read only. Several, given one by one or separated by spaces, are"
        " tried in order; with | between them they are one store with several doors. Default:"
        " $ERIS_STORE_URL, else the local daemon's socket.",
    )(timeout_option(command))


def timeout_option(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """Add `--timeout` and `--reconnect` to a command, which `connect` finds by itself."""

    def note(name: str) -> Callable[[click.Context, click.Parameter, float | None], None]:
        def keep(context: click.Context, _: click.Parameter, time_s: float | None) -> None:
            context.meta[name] = time_s

        return keep

    reconnect = click.option(
        "--reconnect",
        type=click.FloatRange(min=0, max=86400),
        metavar="SECONDS",
        envvar="KAPLA_RECONNECT",
        callback=note(_RECONNECT),
        expose_value=False,
        help="When the connection to a store is lost, as its daemon is restarted, try for so long"
        " to reach it again, and go on there; 0: end at once. Default: $KAPLA_RECONNECT, else 30.",
    )
    timeout = click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True, max=86400),
        metavar="SECONDS",
        envvar="KAPLA_TIMEOUT",
        callback=note(_TIMEOUT),
        expose_value=False,
        help="Give up a store that is silent for so long, or go on to the next. Default:"
        " $KAPLA_TIMEOUT, else 10 while connecting and 60 for an answer.",
    )
    return timeout(reconnect(command))


@asynccontextmanager
async def connect(store_url: str | None, *contents: ReadCapability) -> AsyncIterator[Store]:
    """The store that a command works on, which reads these contents from it.

    Raises: InvalidUrl; NoStore; CommandError, with all that is known of a block that is missing.
    """
    from kapla.client import default_store_urls, open_store

    urls = default_store_urls(store_url)
    said: dict[str, Any] = {
        "on_wait": _say_waiting,
        "on_taker": _say_taker,
        "on_lost": _say_lost,
    }
    async with open_store(urls, **times(), **said) as store:
        note_store(store)
        try:
            yield store
            if summary := current_summary():
                await summary.note(store)
        except ErisError as error:
            explained = _explain(error, urls, contents)
            if explained is None:
                raise
            raise explained from error


def missing_root(urls: Sequence[StoreUrl]) -> str:
    """What to say when not even the first block of a URN is there."""
    has_not = f"{urls[0]} does not have"
    if len(urls) > 1:
        has_not = f"none of {', '.join(map(str, urls))} has"
    return (
        f"{has_not} the first block of this URN: it is mistyped, its content is in another store,"
        f" {'is not lent there (kapla lend), ' if _may_lend(urls) else ''}or was never stored"
    )


def _may_lend(urls: Sequence[StoreUrl]) -> bool:
    """Whether a store may be one that gives only what is lent: it says the same of all else."""
    from kapla.urls import FileEndpoint, UnixEndpoint

    return any(not isinstance(url.endpoint, UnixEndpoint | FileEndpoint) for url in urls)


def times() -> dict[str, Any]:
    """How long to wait for stores, as the options of this command say."""
    context = click.get_current_context(silent=True)
    given = {} if context is None else context.meta
    found = {"reconnect_s": _DEFAULT_RECONNECT_S}
    if (timeout_s := given.get(_TIMEOUT)) is not None:
        found |= {"timeout_s": timeout_s, "connect_timeout_s": timeout_s}
    if (reconnect_s := given.get(_RECONNECT)) is not None:
        found["reconnect_s"] = reconnect_s
    return found


def _say_lost(url: StoreUrl, for_s: float) -> None:
    say(f"lost the connection to {url}; trying for {for_s:g} s to go on: see --reconnect")


def _say_waiting(url: StoreUrl) -> None:
    from kapla.urls import FileEndpoint

    if isinstance(url.endpoint, FileEndpoint):
        # It is only a turn, and soon over: for who watches.
        if is_watched():
            say(f"waiting until nobody else writes to the {url}; --timeout says for how long")
        return
    say(f"waiting for {url}, which does not answer; --timeout says for how long")


def _say_taker(taker: StoreUrl, refusing: Sequence[StoreUrl]) -> None:
    passed = f" ({', '.join(map(str, refusing))}: read-only here)" if refusing else ""
    say(f"the blocks go to {taker}{passed}")


def say(text: str) -> None:
    """Say something beside the result, in one line on standard error."""
    from kapla.cli.display import off_the_line

    with off_the_line():
        click.echo(f"kapla: {printable(text)}", err=True)


def _explain(
    error: ErisError, urls: Sequence[StoreUrl], contents: Sequence[ReadCapability]
) -> CommandError | None:
    """What an error means to whoever gave the URN; None if it says enough."""
    roots = {content.root.reference for content in contents}
    if isinstance(error, BlockNotFound) and roots:
        if error.reference in roots:
            return CommandError(f"{error}: {missing_root(urls)}", ExitCode.MISSING)
        where = str(urls[0]) if len(urls) == 1 else "any of the stores"
        text = f"{error}, but the first block is: it is lost from {where}, or was never sent"
        return CommandError(text, ExitCode.MISSING)
    if isinstance(error, InvalidKey) and error.reference in roots:
        return CommandError(f"{error}: the URN is mistyped", ExitCode.DAMAGED)
    if isinstance(error, InvalidPadding) and any(not content.level for content in contents):
        return CommandError(f"{error}: the URN may be mistyped", ExitCode.DAMAGED)
    if isinstance(error, StoreRefused) and len(urls) == 1 and str(urls[0]) not in str(error):
        return CommandError(f"{urls[0]}: {error}", ExitCode.REFUSED)
    return None
