"""The variables and files that commands have to do with, each with whom it concerns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from kapla.cli.completing.kinds import Kind, kinds_of

__all__ = ["DAEMON_FILES", "DAEMON_VARIABLES", "GENERAL_VARIABLES", "files_of", "variables_of"]

_URL: Final = (
    "ERIS_STORE_URL",
    "The stores to use, separated by spaces, where no option names one; none: there is no store.",
)
_TIMES: Final = (("KAPLA_TIMEOUT", "As --timeout."), ("KAPLA_RECONNECT", "As --reconnect."))
_STORE: Final = (
    ("XDG_RUNTIME_DIR", "Where the socket of the user's own daemon is: eris.sock in it."),
    (
        "SSL_CERT_FILE, SSL_CERT_DIR",
        "The CAs for coaps+tcp:// without a key and for https://, as OpenSSL understands them.",
    ),
)
_CATALOGUE: Final = (
    "XDG_DATA_HOME",
    "Where the catalogue is: kapla-client/catalogue.sqlite in it.",
)
_CACHE: Final = ("XDG_CACHE_HOME", "Where the encode cache is: kapla in it.")
_COLOURS: Final = ("NO_COLOR", "If set, progress is shown without colours.")
_HINTS: Final = ("KAPLA_TRUST_HINTS", "If 1, as --trust-hints.")
_GUIX: Final = (
    (
        "GUIX_CONFIGURATION_DIRECTORY, GUIX_STATE_DIRECTORY, GUIX_DAEMON_SOCKET, NIX_STORE_DIR",
        "Where the things of Guix are, as Guix itself understands them.",
    ),
    _HINTS,
)
_NIX: Final = (
    "NIX_STORE_DIR, NIX_STATE_DIR, NIX_LOG_DIR",
    "Where the things of Nix are, as Nix itself understands them.",
)
_GUIX_COMMANDS: Final = (
    "guix-daemon",
    "items",
    "proxy",
    "publish",
    "seed",
    "signing-key",
    "store-path",
    "substitute",
)

GENERAL_VARIABLES: Final = (_URL, *_TIMES, *_STORE, _CATALOGUE, _CACHE, _COLOURS)
DAEMON_VARIABLES: Final = (
    ("KAPLA_CONFIG", "The file of settings, where --config names none."),
    ("XDG_CONFIG_HOME", "Where a user's settings are: kapla/kapla.toml in it."),
    ("XDG_DATA_HOME", "Where a user's store is: kapla/blocks.sqlite in it."),
    ("XDG_RUNTIME_DIR", "Where the socket of a user's daemon is: eris.sock in it."),
    ("STATE_DIRECTORY, XDG_STATE_HOME", "Where the key pair of the daemon is: identity.pem."),
    ("NOTIFY_SOCKET", "Set by systemd, which is told when the daemon is ready."),
)
DAEMON_FILES: Final = (
    ("/etc/kapla/kapla.toml, ~/.config/kapla/kapla.toml", "The settings: of root, of others."),
    (
        "/var/lib/kapla/blocks.sqlite, ~/.local/share/kapla/blocks.sqlite",
        "The store, with files of SQLite beside it that belong to it.",
    ),
    ("/run/eris.sock, $XDG_RUNTIME_DIR/eris.sock", "The socket, where no listener is named."),
    ("identity.pem", "The key pair that names the daemon. Whoever has it can pass for it."),
)


def variables_of(name: str, command: click.Command) -> list[tuple[str, str]]:
    """The variables that a command heeds, and what each is."""
    options = _options(command)
    found: list[tuple[str, str]] = []
    # That of forget is the one in which a content is.
    if options & {"--store-url", "--to", "--eris-store-url"}:
        found.append(_URL)
    if "--timeout" in options:
        found += _TIMES
    if options & {"--store-url", "--timeout"}:
        found += _STORE
    if _knows_names(command) or "--name" in options:
        found.append(_CATALOGUE)
    if "--no-cache" in options:
        found.append(_CACHE)
    if name in _GUIX_COMMANDS:
        found += [one for one in _GUIX if one is not _HINTS or "--trust-hints" in options]
    if name in ("items", "publish", "seed"):
        found.append(_NIX)
    known = ", ".join(variable for variable, _ in found)
    found += [(one, "Stands in for an option.") for one in _own_variables(command, known)]
    return [*found, _COLOURS] if "--timeout" in options else found


def files_of(name: str, command: click.Command) -> list[tuple[str, str]]:
    """The files that a command has to do with, beside those that it is given."""
    options = _options(command)
    found = []
    if "--store-url" in options:
        found.append(
            (
                "$XDG_RUNTIME_DIR/eris.sock, /run/eris.sock",
                "The socket of the user's daemon, or of the system's, where no store is named.",
            )
        )
    if _knows_names(command) or "--name" in options:
        found.append(
            (
                "~/.local/share/kapla-client/catalogue.sqlite",
                "The catalogue, which @NAME is looked up in. For its owner alone.",
            )
        )
    if name in ("items", "proxy", "publish", "seed", "signing-key", "substitute"):
        found.append(("/etc/guix/acl", "The keys whose signatures are believed."))
    if name in ("proxy", "publish"):
        found.append(("/etc/nix/nix.conf", "Keys of Nix whose signatures are believed, too."))
    return found


def _options(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def _knows_names(command: click.Command) -> bool:
    context = click.Context(command)
    return any(
        {Kind.URN, Kind.NAME} & set(kinds_of(parameter, context))
        for parameter in command.params
        if isinstance(parameter, click.Argument)
    )


def _own_variables(command: click.Command, known: str) -> Iterator[str]:
    for parameter in command.params:
        if isinstance(parameter.envvar, str) and parameter.envvar not in known:
            yield parameter.envvar
