"""What the commands of `kapla items` have in common: stores, keys, names of items."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from guix_glue.errors import InvalidStorePath, PublishError
from guix_glue.formats.store_path import check_base_name, is_hash_part
from kapla.cli.common import CommandError, ExitCode
from kapla.cli.store import say

if TYPE_CHECKING:
    from guix_glue.local.environment import GuixEnvironment
    from guix_glue.trust.keys import PrivateKey

__all__ = [
    "NIX_STORE",
    "GuixKey",
    "eris_store_option",
    "hash_part_named",
    "key_options",
    "store_directory",
]

NIX_STORE: Final = "/nix/store"

_HASH_PART: Final = 32
# An item of a store may be a symlink itself; a profile leads to one.
_PLACES: Final = (os.path.abspath, os.path.realpath)

_F = TypeVar("_F", bound=Callable[..., Any])


def eris_store_option(command: _F) -> _F:
    """Add `--eris-store-url`; the command gets all that are given in one text, or None."""

    def join(_: click.Context, __: click.Parameter, urls: tuple[str, ...]) -> str | None:
        return " ".join(urls) or None

    return click.option(
        "--eris-store-url",
        "store_url",
        metavar="URL",
        multiple=True,
        callback=join,
        help="The store of blocks, as coap+unix:///run/eris.sock, coap+tcp://host, or"
        " file:///media/stick/blocks.sqlite; several are tried in order. Default: $ERIS_STORE_URL,"
        " else the local daemon's socket.",
    )(command)


class GuixKey:
    """The key of Guix that this machine signs with, as the options say; read when it is wanted."""

    def __init__(self, sign: bool | None, public: Path | None, private: Path | None) -> None:
        self._sign = sign
        self.is_named = bool(sign or public or private)
        """Whether somebody asked for it."""
        self._public = public
        self._private = private
        if sign is False and (public or private):
            raise click.UsageError("--no-sign goes with no key.")

    def read(self, environment: GuixEnvironment) -> PrivateKey | None:
        """The key; None if there is none, or none is wanted.

        Raises: PublishError, for a key that was asked for and cannot be read.
        """
        from guix_glue.publish.key_files import read_guix_keys

        if self._sign is False:
            return None
        config = Path(environment.config_dir)
        public = self._public or config / "signing-key.pub"
        private = self._private or config / "signing-key.sec"
        if not self.is_named and not os.path.lexists(private):
            return None
        try:
            return read_guix_keys(public, private, self.host).guix
        except PublishError as error:
            if self.is_named:
                raise
            say(f"not signed by this machine: {error}")
            return None

    @property
    def host(self) -> str:
        """The name that signatures have of this machine."""
        return socket.gethostname()


def key_options(what: str) -> Callable[[_F], _F]:
    """Add `--sign`, `--public-key` and `--private-key`, of which the command gets `guix_key`."""

    def add(command: _F) -> _F:
        @wraps(command)
        def join(
            *args: Any,
            sign: bool | None,
            public_key: Path | None,
            private_key: Path | None,
            **others: Any,
        ) -> Any:
            return command(*args, guix_key=GuixKey(sign, public_key, private_key), **others)

        path = click.Path(path_type=Path)
        options = (
            click.option("--private-key", type=path, help="Default: /etc/guix/signing-key.sec."),
            click.option("--public-key", type=path, help="Default: /etc/guix/signing-key.pub."),
            click.option("--sign/--no-sign", default=None, help=what),
        )
        found: Any = join
        for option in options:
            found = option(found)
        return found  # type: ignore[no-any-return]

    return add


def store_directory(
    given: str | None, names: Sequence[str], environ: Mapping[str, str]
) -> str | None:
    """The directory of the store that items belong to: as is said, or where their paths lead.

    None, if neither says so.
    Raises: click.BadParameter; GuixError, if a variable makes no sense.
    """
    from guix_glue.local.environment import GuixEnvironment, NixEnvironment

    if given is not None:
        if not given.startswith("/") or given.endswith("/"):
            raise click.BadParameter("an absolute path is expected", param_hint="--store-dir")
        return given
    stores = (GuixEnvironment.from_environ(environ), NixEnvironment.from_environ(environ))
    places = [place(name) for name in names if "/" in name for place in _PLACES]
    found = (one.store_dir for path in places for one in stores if _is_in(path, one.store_dir))
    return next(found, None)


def hash_part_named(text: str, store_dir: str) -> str:
    """The hash part of an item that is named: by that, as HASH-NAME, or by a path that leads to it.

    Raises: CommandError.
    """
    if is_hash_part(text):
        return text
    if "/" not in text:
        return _checked(text)[:_HASH_PART]
    found = [path for place in _PLACES if _is_in(path := place(text), store_dir)]
    if not found:
        raise CommandError(f"{text} leads to nothing in {store_dir}", ExitCode.USAGE)
    return _checked(found[0][len(store_dir) + 1 :].partition("/")[0])[:_HASH_PART]


def _is_in(path: str, store_dir: str) -> bool:
    return path.startswith(f"{store_dir}/")


def _checked(name: str) -> str:
    try:
        return check_base_name(name)
    except InvalidStorePath as error:
        raise CommandError(str(error), ExitCode.USAGE) from None
