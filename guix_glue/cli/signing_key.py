"""`kapla signing-key`: keys in the form of Guix, where there is no Guix to make them."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from guix_glue.errors import InvalidKey
from guix_glue.local.environment import GuixEnvironment
from guix_glue.local.files import create_file, read_file, replace_file
from guix_glue.trust.acl import EMPTY_ACL, LARGEST_ACL, authorize
from guix_glue.trust.keys import (
    LARGEST_KEY,
    PrivateKey,
    generate_private_key,
    parse_private_key,
    parse_public_key,
)
from kapla.cli.common import CommandError, ExitCode
from kapla.cli.told import told

__all__ = ["command"]

_PRIVATE, _PUBLIC = "signing-key.sec", "signing-key.pub"


@told(
    ("Make a key pair for a publisher", "kapla signing-key generate /etc/guix"),
    ("Trust what another machine signs", "kapla signing-key authorize attic.pub"),
)
@click.group(name="signing-key", short_help="Make signing keys, and authorize them.")
def command() -> None:
    """Make and authorize signing keys, as guix archive does."""


@told(("Make the key pair that kapla publish signs with", "kapla signing-key generate /etc/guix"))
@command.command(name="generate", short_help="Make a key pair in a directory.")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def generate(directory: Path) -> None:
    """Make a key pair in DIRECTORY: signing-key.sec, to be kept secret, and signing-key.pub.

    Never replaces a key. Where only the secret one is, the other is made of it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    private, public = directory / _PRIVATE, directory / _PUBLIC
    if public.exists():
        raise _in_the_way(public)
    # The public one comes last: until it is there, all can be begun again.
    key = _read(private) if private.exists() else _create(private)
    try:
        create_file(public, key.public.to_file(), 0o444)
    except FileExistsError:
        raise _in_the_way(public) from None
    click.echo(public)


@told(("Trust what another machine signs", "kapla signing-key authorize attic.pub"))
@command.command(name="authorize", short_help="Accept what is signed with a public key.")
@click.argument("key", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--acl",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The access list. Default: /etc/guix/acl.",
)
def authorize_key(key: Path, acl: Path | None) -> None:
    """Accept what is signed with KEY, a public key: add it to the access list of this machine."""
    path = acl or Path(GuixEnvironment.from_environ(os.environ).config_dir) / "acl"
    try:
        public = parse_public_key(read_file(key, LARGEST_KEY))
    except InvalidKey as error:
        raise CommandError(f"{key}: {error}", ExitCode.FILE) from None
    with _alone(path.parent):
        try:
            before = read_file(path, LARGEST_ACL)
        except FileNotFoundError:
            before = EMPTY_ACL
        replace_file(path, authorize(before, public), 0o600)
    click.echo(f"{path} authorizes {key}")


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Nobody else adds a key between our reading the list and our writing it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _create(path: Path) -> PrivateKey:
    key = generate_private_key(secrets.token_bytes(32))
    try:
        create_file(path, key.to_file(), 0o400)
    except FileExistsError:
        raise _in_the_way(path) from None
    return key


def _read(path: Path) -> PrivateKey:
    try:
        return parse_private_key(read_file(path, LARGEST_KEY))
    except InvalidKey as error:
        raise CommandError(f"{path} is there already, and no key: {error}", ExitCode.FILE) from None


def _in_the_way(path: Path) -> CommandError:
    return CommandError(f"{path} is there already", ExitCode.FILE)
