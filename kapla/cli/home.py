"""`kapla` alone: how things stand here, and what can be done next.

Asks the daemon nothing, but whether its socket takes a connection; and the catalogue only for the
last names, if there is one.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from eris_fs.model import printable
from kapla.amounts import bytes_text, duration_text
from kapla.cli.width import cut_end, padded, width_of

if TYPE_CHECKING:
    from kapla.catalogue.glance import Named
    from kapla.urls import StoreUrl

__all__ = ["show_home"]

_SHOWN_NAMES: Final = 5
_CONNECT_S: Final = 0.5
# So that the columns stand on a line of 80.
_NAME_WIDTH: Final = 24

_NOBODY: Final = "No daemon is running"

_FIVE: Final = (
    ("kapla encode --name NAME PATH", "store a file or a directory"),
    ("kapla list", "see what you have stored"),
    ("kapla decode @NAME OUT", "bring it back"),
    ("kapla ls @NAME", "see what is in a tree"),
    ("kapla doctor", "find out what is wrong, and how to mend it"),
)


def show_home() -> None:
    """Print the screen."""
    for line in _lines():
        click.echo(line)


def _lines() -> Iterator[str]:
    yield "Kapla keeps files and trees as encrypted blocks; one URN brings them back."
    yield ""
    yield from _about_the_store()
    yield ""
    names = _names()
    if names:
        yield from _about(names)
    else:
        yield "Nothing is in your catalogue yet. Store something, and give it a name:"
        yield "  kapla encode --name notes PATH"
    yield ""
    yield "The commands that one needs most:"
    yield from (f"  {line:<31}{what}" for line, what in _FIVE)
    yield ""
    yield "All commands: kapla --help.  One of them, with examples: kapla COMMAND --help."


def _about_the_store() -> Iterator[str]:
    from kapla.default_stores import default_store_urls
    from kapla.errors import InvalidUrl, NoStore

    try:
        urls = default_store_urls()
    except NoStore:
        yield "$ERIS_STORE_URL says that there is no store; --store-url names one."
        return
    except InvalidUrl as error:
        yield "$ERIS_STORE_URL cannot be used:"
        yield f"  {error}"
        return
    yield from _about_one(urls[0], len(urls))


def _about_one(url: StoreUrl, count: int) -> Iterator[str]:
    from kapla.urls import UnixEndpoint

    others = "" if count == 1 else f", and {count - 1} more behind it"
    if not isinstance(url.endpoint, UnixEndpoint):
        yield f"Your store: {printable(str(url))}{others} ($ERIS_STORE_URL)."
        return
    trouble = _trouble(url.endpoint.path)
    if trouble is None:
        yield f"Your store: the daemon at {printable(str(url.endpoint.path))}{others}."
        return
    yield f"{trouble}: {printable(str(url.endpoint.path))}."
    if trouble is _NOBODY:
        yield "  kaplad          starts one here, in the foreground"
    yield "  kapla doctor    tells what may be wrong"


def _trouble(path: Path) -> str | None:
    """Why nobody answers there; None if somebody takes a connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as tried:
        tried.settimeout(_CONNECT_S)
        try:
            tried.connect(os.fsencode(path))
        except PermissionError:
            return "You may not use the daemon's socket"
        except (TimeoutError, BlockingIOError):
            # Its queue is full: it has much to do, or none of it is done.
            return "The daemon does not answer"
        except OSError:
            return _NOBODY
    return None


def _names() -> list[Named]:
    from kapla.user_paths import user_path

    directory = user_path("data", "kapla-client")
    # SQLite is not loaded where there is nothing to read.
    if directory is None or not os.path.exists(directory / "catalogue.sqlite"):
        return []
    from kapla.catalogue.glance import glance_at_names

    return glance_at_names(limit=_SHOWN_NAMES)


def _about(names: list[Named]) -> Iterator[str]:
    yield "What you stored last:"
    shown = [_shortened(f"@{printable(one.name)}") for one in names]
    width = max(map(width_of, shown))
    for name, one in zip(shown, names, strict=True):
        age = duration_text(max(0, int(time.time()) - one.stored))
        yield f"  {padded(name, width)}  {one.kind:<4}  {bytes_text(one.size):>10}  {age} ago"
    first = names[0]
    example = f"@{first.name}" if _is_plain(first.name) else "@NAME"
    yield ""
    if first.kind == "tree":
        yield f"  kapla ls {example}"
    yield f"  kapla decode {example} copy"


def _shortened(text: str) -> str:
    return text if width_of(text) <= _NAME_WIDTH else cut_end(text, _NAME_WIDTH - 1) + "…"


def _is_plain(name: str) -> bool:
    """Whether a shell takes it as it stands."""
    import shlex

    return len(name) <= _NAME_WIDTH and shlex.quote(name) == name
