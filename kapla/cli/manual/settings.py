"""The settings of `kaplad`, for its manual: read from the table of `kapla.config` itself.

What a setting is stands in the table, or else where the field of `Config` is explained.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final

__all__ = ["Setting", "settings"]

# Where they come from depends on who runs the daemon.
_DEFAULTS: Final = {
    "store": "/var/lib/kapla/blocks.sqlite for root, else ~/.local/share/kapla/blocks.sqlite",
    "listen": "/run/eris.sock for root, else $XDG_RUNTIME_DIR/eris.sock",
}
_LARGE: Final = 1024


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the file."""

    key: str
    variable: str
    text: str
    default: str


def settings() -> list[Setting]:
    """All settings, in the order of the table."""
    from kapla import config

    told = _told_of_fields(config.Config)
    defaults = {one.name: one.default for one in fields(config.Config)}
    found = []
    for row in config._SETTINGS:
        key, variable, name = (
            str(_of(row, word, number)) for number, word in enumerate(("key", "variable", "field"))
        )
        text = _of(row, "description", None) or told.get(name) or f"See docs/cli.md, {key}."
        default = _DEFAULTS.get(key) or _shown(defaults.get(name, MISSING))
        found.append(Setting(key, variable, " ".join(str(text).split()), default))
    return found


def _of(row: Any, name: str, number: int | None) -> object:
    """A part of a row, by its name or else by its place."""
    if hasattr(row, name):
        return getattr(row, name)
    return None if number is None else row[number]


def _told_of_fields(kind: type) -> dict[str, str]:
    """What stands below each field of a class."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)
    told = {}
    for one, following in zip(node.body, node.body[1:], strict=False):
        match one, following:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                told[name] = text
    return told


def _shown(default: object) -> str:
    from kapla.cli.amounts import bytes_text

    if default is None or default == () or default is MISSING:
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, int) and default >= _LARGE:
        return bytes_text(default)
    return str(default)
