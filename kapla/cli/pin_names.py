"""Which pin is meant: by its name, or by the content that it is of.

A pin knows no URN, only the reference of its first block, which a URN contains.
"""

from __future__ import annotations

import click

from eris.capability import URN_PREFIX
from eris.model import Reference
from kapla.cli.urn import read_capability
from kapla.pins import check_name

__all__ = ["read_pin_name", "read_which"]


def read_pin_name(name: str) -> str:
    """Read the name of a pin.

    Raises: click.UsageError. A name is seen by others who may list pins, which a URN must not.
    """
    if name.lower().startswith(URN_PREFIX):
        raise click.UsageError("--name: a URN is no name for a pin: whoever sees it can read it.")
    if name.startswith("@") or name == "-":
        raise click.UsageError("--name: a pin's name does not begin with @, nor is it -.")
    try:
        check_name(name)
    except ValueError as error:
        raise click.UsageError(f"--name: {error}.") from None
    return name


def read_which(text: str) -> str | Reference:
    """Read the argument NAME|URN: a name, or the root reference of a content.

    Raises: InvalidCapability, CommandError, OSError; click.UsageError.
    """
    if text.lower().startswith("urn:") or text.startswith("@") or text == "-":
        return read_capability(text).root.reference
    try:
        check_name(text)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from None
    return text
