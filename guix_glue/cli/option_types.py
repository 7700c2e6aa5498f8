"""What options of commands are read by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from eris.errors import ErisError
from guix_glue.errors import GuixError
from guix_glue.servers.url import Server, parse_server
from kapla.errors import ListenError

if TYPE_CHECKING:
    from guix_glue.trust.nix_keys import NixPublicKey
    from kapla.http.admin.place import AdminPlace

__all__ = ["bound_admin", "parsed", "parsed_nix_keys", "parsed_servers", "sound"]

_T = TypeVar("_T")


def bound_admin(place: str) -> AdminPlace:
    """Open the sockets that `--admin` names. Raises: click.BadParameter."""
    # Loaded by those who use it: it brings what the daemon's sockets need.
    from kapla.http.admin.place import bind_admin
    from kapla.http.settings import parse_admin

    try:
        return bind_admin(parse_admin(place))
    except (ValueError, ListenError) as error:
        raise click.BadParameter(str(error), param_hint="--admin") from None


def parsed(
    parse: Callable[[str], _T],
) -> Callable[[click.Context, click.Parameter, str | None], _T | None]:
    """Let a parser of text that raises ValueError be the reader of an option."""

    def read(context: click.Context, parameter: click.Parameter, value: str | None) -> _T | None:
        try:
            return None if value is None else parse(value)
        except (ValueError, GuixError) as error:
            raise click.BadParameter(str(error), context, parameter) from None

    return read


def parsed_servers(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[Server, ...]:
    """Read the servers that others stand behind: each value may name several."""

    def parse(url: str) -> Server:
        server = parse_server(url)
        if server.origin is None:
            raise ValueError("it takes http:// and https:// only")
        return server

    urls = [url for urls in values for url in urls.split()]
    try:
        return tuple(server for _, server in sound(urls, parse, "--upstream"))
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


def parsed_nix_keys(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[NixPublicKey, ...]:
    """Read public keys of Nix: each value may hold several."""
    from guix_glue.local.nix_conf import parse_nix_keys

    try:
        return tuple(dict.fromkeys(parse_nix_keys(" ".join(values))))
    except GuixError as error:
        raise click.BadParameter(str(error), context, parameter) from None


def sound(
    texts: Sequence[str], parse: Callable[[str], _T], option: str
) -> Iterator[tuple[str, _T]]:
    """Those of a list that can be parsed, with what comes out; the others are named on stderr.

    Raises: the error of the last one, if there are no others.
    """
    wrong: list[tuple[int, Exception]] = []
    for number, text in enumerate(texts, 1):
        try:
            yield text, parse(text)
        except (ValueError, ErisError) as error:
            if len(wrong) + 1 == len(texts):
                raise
            wrong.append((number, error))
    for number, reason in wrong:
        click.echo(f"kapla: {option}: URL {number} is left out: {reason}", err=True)
