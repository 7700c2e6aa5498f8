"""`kapla guix-daemon`: starts the Guix daemon so that it gets its substitutes through Kapla.

The daemon passes its own environment on to its helpers, so a few variables are all that it takes:
which program to run as `guix`, which `guix` that is in truth, and where the blocks are. Then this
process becomes the daemon.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from typing import NoReturn

import click

from guix_glue.cli.programs import REAL_GUIX, find_program, find_real_guix
from guix_glue.cli.stores import stores_given
from kapla.cli.common import CommandError
from kapla.cli.told import told
from kapla.given_urls import parse_store_urls

__all__ = ["command", "make_environment"]


@told(
    (
        "Start guix-daemon so that it takes what is in the local store",
        "kapla guix-daemon --build-users-group=guixbuild",
    ),
)
@click.command(
    name="guix-daemon",
    short_help="Start guix-daemon, with substitutes from blocks.",
    context_settings={"ignore_unknown_options": True},
)
@click.option(
    "--eris-store-url",
    "store_urls",
    metavar="URL",
    multiple=True,
    help="The store with blocks, as coap+unix:///run/eris.sock; several are tried in order."
    " Default: $ERIS_STORE_URL, else the local daemon's socket, if it is there. none: no store.",
)
@click.option(
    "--trust-hints",
    is_flag=True,
    help="Try ERIS URNs that are not signed, too; what comes is compared with the signed hash.",
)
@click.option(
    "--guix-daemon",
    "program",
    metavar="FILE",
    help="The real guix-daemon. Default: the one that is installed.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[GUIX-DAEMON-OPTIONS]...")
def command(
    store_urls: tuple[str, ...],
    trust_hints: bool,
    program: str | None,
    arguments: tuple[str, ...],
) -> None:
    """Start guix-daemon with substitutes out of ERIS blocks, and out of HTTP where there are none.

    All options but those below go to guix-daemon as they are. The real guix is the one that
    $KAPLA_REAL_GUIX names, else the one that is installed.
    """
    for url in stores_given(store_urls, {}) or ():
        parse_store_urls(url)
    environment = make_environment(os.environ, store_urls, trust_hints)
    daemon = program or find_program("guix-daemon", os.environ)
    if daemon is None:
        raise CommandError("no guix-daemon is found; name it with --guix-daemon")
    _become(daemon, [daemon, *arguments], environment)


def make_environment(
    environment: Mapping[str, str], store_urls: tuple[str, ...], trust_hints: bool
) -> dict[str, str]:
    """What the daemon's environment must be.

    Raises: CommandError, if `kapla-guix` or the real `guix` is not found.
    """
    beside = os.path.join(os.path.dirname(os.path.realpath(sys.argv[0])), "kapla-guix")
    wrapper = beside if os.access(beside, os.X_OK) else shutil.which("kapla-guix")
    if wrapper is None:
        raise CommandError("kapla-guix is not installed beside this program")
    guix = find_real_guix(environment, wrapper)
    if guix is None:
        raise CommandError(f"no guix is found; name it in ${REAL_GUIX}")
    made = {**environment, "GUIX": os.path.abspath(wrapper), REAL_GUIX: guix}
    if store_urls:
        made["ERIS_STORE_URL"] = " ".join(store_urls)
    if trust_hints:
        made["KAPLA_TRUST_HINTS"] = "1"
    return made


def _become(program: str, arguments: list[str], environment: dict[str, str]) -> NoReturn:
    try:
        os.execve(program, arguments, environment)
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), program) from error
