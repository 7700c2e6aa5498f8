"""`kaplad`: the daemon's command line. `python -m kapla` is the same."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from kapla import __version__, log
from kapla.care import check_store, salvage_store
from kapla.config import load_config
from kapla.daemon import run
from kapla.errors import ConfigError, KaplaError
from kapla.identity.pair import load_or_make
from kapla.loop import Loop
from kapla.uninstalled import explain

__all__ = ["command", "main"]

_EXIT_FAILED = 1
_EXIT_CONFIG = 2


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 stopped by a signal, 1 could not serve, 2 wrong configuration.",
)
@click.version_option(__version__, prog_name="kaplad")
@click.option("-d", "--debug", is_flag=True, help="Log what happens inside.")
@click.option("--config", "file", metavar="FILE", help="Settings in TOML: see docs/cli.md.")
@click.option("--store", metavar="PATH", help="The SQLite file that holds the blocks.")
@click.option(
    "--listen",
    metavar="URL",
    multiple=True,
    help="Where to listen, as coap+unix:///run/eris.sock?get&put, coap+tcp://[::1]:5683?get or"
    " coaps+tcp://[::]:5684?lend; may be given several times, and replaces the defaults.",
)
@click.option(
    "--peer",
    metavar="URL",
    multiple=True,
    help="Another daemon to connect to, and to ask for what is not here, as"
    " coaps+tcp://HOST#ed25519:KEY; may be given several times.",
)
@click.option(
    "--known-peer",
    metavar="KEY",
    multiple=True,
    help="A daemon that connects to us, by the key that its --print-key prints: it is asked too;"
    " may be given several times.",
)
@click.option(
    "--http",
    metavar="HOST:PORT",
    multiple=True,
    help="Where to give what is lent to anybody by HTTP, as 127.0.0.1:8080 or [::]:8080; may be"
    " given several times.",
)
@click.option(
    "--admin",
    metavar="PLACE",
    help="Where to tell this machine of the daemon by HTTP, as 127.0.0.1:9080 or unix:/PATH.",
)
@click.option(
    "--max-size",
    metavar="SIZE",
    help='Bytes the store may have, or as in "100 GiB". What nobody keeps makes room then.',
)
@click.option("--min-free", metavar="SIZE", help="Bytes of its disk that the store leaves free.")
@click.option(
    "--when-full",
    metavar="evict|refuse",
    help="What is done where there is no room: old blocks go (the default), or new ones are"
    " refused.",
)
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
def command(
    debug: bool,
    file: str | None,
    store: str | None,
    listen: tuple[str, ...],
    peer: tuple[str, ...],
    known_peer: tuple[str, ...],
    http: tuple[str, ...],
    admin: str | None,
    max_size: str | None,
    min_free: str | None,
    when_full: str | None,
    rebuild_index: bool,
    print_key: bool,
    check: bool,
    salvage: str | None,
) -> None:
    """Keep ERIS blocks and serve them over CoAP and HTTP, in the foreground."""
    log.configure("debug" if debug else "info")
    if print_key + check + (salvage is not None) > 1:
        raise click.UsageError("--print-key, --check and --salvage: one at a time.")
    if print_key:
        click.echo(str(load_or_make().public))
        return
    config = load_config(
        file=file,
        store=store,
        listen=listen,
        peer=peer,
        known_peer=known_peer,
        http=http,
        admin=admin,
        max_size=max_size,
        min_free=min_free,
        when_full=when_full,
        debug=debug,
        rebuild_index=rebuild_index,
    )
    log.configure(config.log_level)
    if check:
        sys.exit(0 if check_store(config.store, click.echo) else _EXIT_FAILED)
    elif salvage is not None:
        salvage_store(config.store, Path(salvage).absolute(), click.echo)
    else:
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(run(config))


def main() -> None:
    """Run the daemon; ends the process."""
    try:
        code = command.main(standalone_mode=False)
    except click.ClickException as error:
        click.echo(log.redacted_usage(error), nl=False, err=True)
        code = error.exit_code
    except click.Abort:  # interrupted before it served
        code = _EXIT_FAILED
    except KaplaError as error:
        click.echo(f"kaplad: {log.redact(str(error))}", err=True)
        code = _EXIT_CONFIG if isinstance(error, ConfigError) else _EXIT_FAILED
    except ModuleNotFoundError as error:
        if (text := explain(error)) is None:
            raise
        click.echo(f"kaplad: {text}", err=True)
        code = _EXIT_CONFIG
    sys.exit(code)


if __name__ == "__main__":
    main()
