"""What a command waits for, for people: the store that owes answers, or this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from eris_fs.model import printable
from kapla.amounts import blocks_text

if TYPE_CHECKING:
    from kapla.cli.store import Store

__all__ = ["note_store", "waiting_text"]

_STORES: Final = "kapla.stores"


def note_store(store: Store) -> None:
    """Remember a store that the command uses."""
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta.setdefault(_STORES, []).append(store)


def stores_of(context: click.Context | None) -> list[Store]:
    """The stores that the command uses."""
    found: list[Store] = [] if context is None else context.meta.setdefault(_STORES, [])
    return found


def waiting_text(stores: list[Store]) -> tuple[str, str]:
    """What is waited for, in full and in short.

    Called from another thread than the event loop's: it only looks.
    """
    for one in stores:
        for store in one.stores:
            name = _name_of(store.url)
            if store.reconnecting:
                return f"waiting for {name} to come back", f"lost: {_bare(name)}"
            if store.owed:
                under_way = f"{blocks_text(store.owed)} under way"
                return f"waiting for {name}: {under_way}", f"wait: {_bare(name)}"
    return "busy here: no store owes an answer", "busy here"


def _name_of(url: object) -> str:
    """A store, without its transport: that is what `kapla stat` and errors are for."""
    from kapla.origins import HERE, place_of
    from kapla.urls import StoreUrl

    assert isinstance(url, StoreUrl)
    place = place_of(url)
    return "the store" if place == HERE else printable(place.split(" ", 1)[-1])


def _bare(name: str) -> str:
    return name.removeprefix("the ")
