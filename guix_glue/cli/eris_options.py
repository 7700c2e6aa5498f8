"""What `kapla publish` makes of items for ERIS: the options, and what they mean together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import click

import eris_fs
from guix_glue.cli.filled_stores import stores_to_fill
from guix_glue.formats.narinfo import MAX_DELTAS
from guix_glue.publish.tree_formats import DEFAULT_LEVEL, PackedTrees, StandardTrees, TreeFormat

__all__ = ["ErisSettings", "eris_options", "eris_settings"]

_DEFAULT_DELTAS: Final = 3

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ErisSettings:
    """Store URLs, empty for URNs only, None for neither; what items become; how many deltas.

    `map`: whether a map of all items is written; None if nobody said.
    """

    store: str | None = field(repr=False)
    trees: TreeFormat
    deltas: int
    map: bool | None


def eris_options(command: _F) -> _F:
    """The options, as a decorator."""
    for option in (
        click.option(
            "--map/--no-map",
            "wants_map",
            default=None,
            help="With --eris STORE-URL: write a map of all items that are baked into the store"
            " hourly, lend it, and tell its URN at /map.urn. Whoever asks then learns which items"
            " these are. Default: as a mirror, yes; of items of this machine, no.",
        ),
        click.option(
            "--deltas",
            type=click.IntRange(0, MAX_DELTAS),
            metavar="N",
            help="With --eris STORE-URL and packed trees: how many deltas of each item to make, so"
            " that who has an earlier one fetches only what changed. They are made when nothing"
            f" else is to be baked. {MAX_DELTAS} at most; 0: none. Default: {_DEFAULT_DELTAS}.",
        ),
        click.option(
            "--eris-level",
            type=click.IntRange(1, eris_fs.MAX_LEVEL),
            help=f"How hard to compress packed trees: 1 is fast, the default is {DEFAULT_LEVEL}.",
        ),
        click.option(
            "--eris-format",
            type=click.Choice(["packed", "standard"]),
            help="packed, the default: far fewer bytes and blocks, any names; kapla substitute"
            " reads it. standard: ERIS-FS as specified, for any reader of it.",
        ),
        click.option(
            "--eris",
            metavar="[STORE-URL]",
            is_flag=False,
            flag_value="",
            help="Put each item into this store, as a tree, and its URN into the narinfo; without"
            " a URL only the URN is computed.",
        ),
    ):
        command = option(command)
    return command


def eris_settings(
    *,
    eris: str | None,
    eris_format: str | None,
    eris_level: int | None,
    deltas: int | None,
    wants_map: bool | None,
) -> ErisSettings:
    """What the options say. Raises: click.UsageError, for what would change nothing."""
    if eris:
        eris = stores_to_fill(eris, "--eris")
    trees = _tree_format(eris, eris_format, eris_level)
    can_be = bool(eris) and isinstance(trees, PackedTrees)
    if deltas is not None and not can_be:
        raise click.UsageError("--deltas is for --eris STORE-URL with packed trees.")
    if wants_map and not eris:
        raise click.UsageError("--map is for --eris STORE-URL.")
    wanted = _DEFAULT_DELTAS if deltas is None else deltas
    return ErisSettings(eris, trees, wanted if can_be else 0, wants_map)


def _tree_format(eris: str | None, name: str | None, level: int | None) -> TreeFormat:
    if eris is None and (name or level):
        raise click.UsageError("--eris-format and --eris-level are for --eris.")
    if name == "standard":
        if level is not None:
            raise click.UsageError("--eris-level is for packed trees.")
        return StandardTrees()
    return PackedTrees(level or DEFAULT_LEVEL)
