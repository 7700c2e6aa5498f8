"""`kapla signing-key`: keys in the form of Guix, where there is no Guix to make them."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

import click

from guix_glue.local.environment import GuixEnvironment
from guix_glue.trust.acl import EMPTY_ACL, authorize
from guix_glue.trust.keys import generate_private_key, parse_public_key
from kapla.cli.common import CommandError

__all__ = ["command"]

_PRIVATE, _PUBLIC = "signing-key.sec", "signing-key.pub"
_LONGEST_KEY = 4096
_LONGEST_ACL = 1024 * 1024


@click.group(name="signing-key")
def command() -> None:
    """Make and authorize signing keys, as guix archive does."""


@command.command(name="generate")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def generate(directory: Path) -> None:
    """Make a key pair in DIRECTORY: signing-key.sec, to be kept secret, and signing-key.pub.

    Never replaces a key.
    """
    directory.mkdir(parents=True, exist_ok=True)
    key = generate_private_key(secrets.token_bytes(32))
    for name in (_PRIVATE, _PUBLIC):
        if (directory / name).exists():
            raise CommandError(f"{directory / name} is there already", 7)
    _create(directory / _PRIVATE, key.to_file(), 0o400)
    _create(directory / _PUBLIC, key.public.to_file(), 0o444)
    click.echo(directory / _PUBLIC)


@command.command(name="authorize")
@click.argument("key", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--acl",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The access list. Default: /etc/guix/acl.",
)
def authorize_key(key: Path, acl: Path | None) -> None:
    """Accept what is signed with KEY, a public key: add it to the access list of this machine."""
    path = acl or Path(GuixEnvironment.from_environ(os.environ).config_dir) / "acl"
    with key.open("rb") as file:
        public = parse_public_key(file.read(_LONGEST_KEY))
    try:
        with path.open("rb") as file:
            before = file.read(_LONGEST_ACL)
    except FileNotFoundError:
        before = EMPTY_ACL
    _replace(path, authorize(before, public))


def _create(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)


def _replace(path: Path, content: bytes) -> None:
    """Write a file for its owner only, at once or not at all."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise
