"""`kaplad`: the daemon's command line. `python -m kapla` is the same."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import click

from kapla import __version__, log
from kapla.config import Loaded, Sources, load
from kapla.config.checks import check_groups
from kapla.config.flags import setting_flags
from kapla.config.verdict import judge
from kapla.errors import ConfigError, KaplaError
from kapla.hangups import Hangups, ignore_from_now
from kapla.uninstalled import explain

__all__ = ["command", "main"]

_EXIT_FAILED = 1
_EXIT_CONFIG = 2
EXIT_CODES = (
    (0, "stopped by SIGTERM or SIGINT, or what an option asked for is done"),
    (_EXIT_FAILED, "could not serve, or --check found damage, or --salvage failed"),
    (_EXIT_CONFIG, "wrong configuration or usage"),
)
"""How the daemon ends, and what it means."""
EXAMPLES = (
    ("Serve the blocks of this user on the usual socket", "kaplad"),
    (
        "With at most 100 GiB, and what is lent to others over TLS too",
        "kaplad --max-size 100GiB --listen 'coaps+tcp://[::]:5684?lend'",
    ),
    ("Learn the key that names this daemon", "kaplad --print-key"),
)
"""What is done, and the line that does it."""
_EPILOG = "\n".join(
    [
        "\b\nExamples:",
        *(f"  {what}:\n    {line}" for what, line in EXAMPLES),
        "\n\b\nExit codes:",
        *(f"  {code}  {text}" for code, text in EXIT_CODES),
    ]
)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
@click.version_option(__version__, prog_name="kaplad")
@setting_flags
@click.option(
    "--rebuild-index",
    is_flag=True,
    help="Make the index and the totals anew from the blocks, while they are served.",
)
@click.option(
    "--print-key",
    is_flag=True,
    help="Print the key that names this daemon, and end; the pair is made if there is none.",
)
@click.option(
    "--check-config",
    is_flag=True,
    help="Say whether the settings are sound, and what is not, and end: exit code 2 if anything is"
    " wrong. Neither store nor sockets are touched.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Look at the whole store instead of serving it, and change nothing; exit code 1 if it"
    " is damaged.",
)
@click.option(
    "--salvage",
    metavar="NEW",
    help="Save every sound block of a damaged store, and the pins, into a new file, and end.",
)
@click.pass_obj
def command(
    hangups: Hangups | None,
    /,
    debug: bool,
    file: str | None,
    rebuild_index: bool,
    print_key: bool,
    check_config: bool,
    check: bool,
    salvage: str | None,
    **flags: Any,
) -> None:
    """Keep ERIS blocks and serve them over CoAP and HTTP, in the foreground."""
    log.configure("debug" if debug else "info")
    if print_key + check_config + check + (salvage is not None) > 1:
        raise click.UsageError("--print-key, --check-config, --check and --salvage: one at a time.")
    hangups = hangups or Hangups()
    if print_key or check_config or check or salvage is not None:
        hangups.end()
    sources = Sources(file, flags, debug, rebuild_index)
    # What only an option needs is loaded with it.
    if print_key:
        from kapla.identity.pair import load_or_make

        click.echo(str(load_or_make().public))
    elif check_config:
        _judge(sources)
    elif check:
        from kapla.care import check_store

        loaded = _load(sources)
        sys.exit(0 if check_store(loaded.config, click.echo) else _EXIT_FAILED)
    elif salvage is not None:
        from kapla.care import salvage_store

        salvage_store(_load(sources).config.store, Path(salvage).absolute(), click.echo)
    else:
        loaded = _load(sources)
        check_groups(loaded)
        _serve(loaded, hangups, sources)


def _load(sources: Sources) -> Loaded:
    """Read the settings, and log as they say from now on."""
    loaded = load(sources)
    log.configure(loaded.config.log_level, loaded.config.log_format)
    return loaded


def _serve(loaded: Loaded, hangups: Hangups, sources: Sources) -> None:
    # What is loaded stays: to look through it again and again for what may go takes a tenth of the
    # time.
    gc.disable()
    import asyncio

    from kapla.daemon import run
    from kapla.loop import Loop
    from kapla.renewal import Renewal

    gc.enable()
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(run(loaded, Renewal(hangups, lambda: load(sources))))


def _judge(sources: Sources) -> None:
    found = judge(sources)
    for line in found.lines:
        click.echo(line, err=True)
    click.echo(found.summary, err=not found.is_sound)
    if not found.is_sound:
        sys.exit(_EXIT_CONFIG)


def main(hangups: Hangups | None = None) -> None:
    """Run the daemon; ends the process. `hangups`: where SIGHUP is noted already."""
    try:
        code = command.main(standalone_mode=False, obj=hangups)
    except click.ClickException as error:
        click.echo(log.redacted_usage(error), nl=False, err=True)
        code = error.exit_code
    except click.Abort:  # interrupted before it served
        code = _EXIT_FAILED
    except KaplaError as error:
        for line in log.redact(str(error)).split("\n"):
            click.echo(f"kaplad: {line}", err=True)
        code = _EXIT_CONFIG if isinstance(error, ConfigError) else _EXIT_FAILED
    except ModuleNotFoundError as error:
        if (text := explain(error)) is None:
            raise
        click.echo(f"kaplad: {text}", err=True)
        code = _EXIT_CONFIG
    ignore_from_now()
    sys.exit(code)


if __name__ == "__main__":
    main()
