"""`kapla config`: the daemon's settings: a file of them, whether they are sound, what holds."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import click

from kapla.cli.columns import table
from kapla.cli.outcome import CommandError, ExitCode
from kapla.cli.store import say
from kapla.cli.told import told
from kapla.config import Misconfigured, Sources, load
from kapla.config.flags import setting_flags
from kapla.config.load import SYSTEM_FILE, default_place
from kapla.config.shown import shown
from kapla.config.template import template
from kapla.config.verdict import judge
from kapla.database_url import PASSWORD_ADVICE, DatabaseUrl
from kapla.log import redact

__all__ = ["command"]


@told(
    ("Make a file with every setting, to be edited", "kapla config init"),
    ("Find what is wrong in it", "kapla config check"),
    ("See every setting, and where it comes from", "kapla config show"),
)
@click.group(name="config", short_help="Make, check and show the daemon's settings.")
def command() -> None:
    """Make, check and show the settings of kaplad. Nothing here asks a running one."""


@told(
    ("Make a file with every setting, to be edited", "kapla config init"),
    ("Make that of the service of this machine", "kapla config init --system"),
)
@command.command(name="init")
@click.option("--system", is_flag=True, help=f"The system's: {SYSTEM_FILE}.")
@click.argument("file", required=False, metavar="[FILE]")
def init(system: bool, file: str | None) -> None:
    """Write a file of settings with every key, explained; nothing is changed by it as it is.

    FILE: where; - is standard output. Default: where kaplad looks for it. What is there already is
    left alone.
    """
    if system and file is not None:
        raise click.UsageError("--system and FILE exclude each other.")
    if file == "-":
        click.echo(template(), nl=False)
        return
    path = Path(file) if file is not None else SYSTEM_FILE if system else default_place()
    _create(path, template())
    click.echo(path)


@told(
    ("Find what is wrong in the file of this user", "kapla config check"),
    ("See whether the service would start", "kapla config check /etc/kapla/kapla.toml"),
)
@command.command(name="check")
@setting_flags
@click.argument("path", required=False, metavar="[FILE]")
def check(file: str | None, path: str | None, debug: bool, **flags: Any) -> None:
    """Say whether settings are sound: those of a file, of the environment, and flags of kaplad.

    All that is wrong is told, with its line; it holds for the user who asks. Exit code 2 if
    anything is. FILE is the same as --config.
    """
    found = judge(_sources(file, path, debug, flags))
    for line in found.lines:
        click.echo(line, err=True)
    if not found.is_sound:
        raise CommandError(found.summary, ExitCode.USAGE)
    click.echo(found.summary)


@told(
    ("See every setting, and where it comes from", "kapla config show"),
    ("See what a flag would change", "kapla config show --max-size 10G"),
)
@command.command(name="show")
@setting_flags
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.argument("path", required=False, metavar="[FILE]")
def show(file: str | None, path: str | None, debug: bool, as_json: bool, **flags: Any) -> None:
    """List all settings, and where each value comes from: a file, a variable, a flag, a default.

    They are those that a kaplad of this user would have, if it was started now.
    """
    try:
        loaded = load(_sources(file, path, debug, flags))
    except Misconfigured as error:
        for problem in error.problems:
            click.echo(redact(str(problem)), err=True)
        raise CommandError("these settings are not sound", ExitCode.USAGE) from None
    store = loaded.config.store
    if isinstance(store, DatabaseUrl) and store.has_password:
        say(PASSWORD_ADVICE)
    settings = shown(loaded)
    if as_json:
        facts = {one.key: {"value": one.value, "from": one.origin} for one in settings}
        name = None if loaded.file is None else str(loaded.file)
        click.echo(json.dumps({"file": name, "settings": facts}, indent=2, ensure_ascii=False))
        return
    rows = [(one.key, one.origin, one.text) for one in settings]
    for line in table(("setting", "from", "value"), rows):
        click.echo(line)


def _sources(file: str | None, path: str | None, debug: bool, flags: dict[str, Any]) -> Sources:
    if file is not None and path is not None:
        raise click.UsageError("FILE and --config are the same: one of them.")
    return Sources(file if path is None else path, flags, debug)


def _create(path: Path, text: str) -> None:
    """Put a file in place whole, where there is none.

    Raises: CommandError, OSError.
    """
    if not path.name:
        raise CommandError(f"{path} is a directory: name a file in it", ExitCode.USAGE)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
    try:
        with beside.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # Not a rename, which would replace what is there.
        os.link(beside, path)
    except FileExistsError:
        raise CommandError(
            f"{path} is there already, and left as it is; a new one can be had with:"
            " kapla config init -",
            ExitCode.FILE,
        ) from None
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
