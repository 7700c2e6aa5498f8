"""Stores that a program of Guix puts blocks into, as an option names them."""

from __future__ import annotations

import click

from guix_glue.cli.option_types import sound
from kapla.client import default_store_urls
from kapla.errors import InvalidUrl

__all__ = ["stores_to_fill"]


def stores_to_fill(urls: str, option: str) -> str:
    """Those of the stores that make sense, of which one at least takes blocks.

    Raises: click.BadParameter, naming the option.
    """
    try:
        stores = list(sound(urls.split(), default_store_urls, option))
    except InvalidUrl as error:
        raise click.BadParameter(str(error), param_hint=option) from None
    if not any(store.allows("put") for _, named in stores for store in named):
        reason = "items are put into a store, and by these URLs blocks are only read"
        raise click.BadParameter(reason, param_hint=option)
    return " ".join(url for url, _ in stores)
