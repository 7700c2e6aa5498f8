"""What options of commands are read by."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from guix_glue.errors import GuixError
from guix_glue.servers.url import InvalidServer, Server, parse_server

__all__ = ["parsed", "parsed_servers"]

_T = TypeVar("_T")


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
    """Read the servers of a mirror: each value may name several."""
    try:
        servers = tuple(parse_server(url) for urls in values for url in urls.split())
    except InvalidServer as error:
        raise click.BadParameter(str(error), context, parameter) from None
    if any(server.origin is None for server in servers):
        raise click.BadParameter("a mirror takes http:// and https:// only", context, parameter)
    return servers
