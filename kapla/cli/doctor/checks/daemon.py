"""Whether the store can be reached, and if not, why. Pure."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Final

from kapla.cli.doctor.facts import Facts, StoreFacts
from kapla.cli.doctor.finding import Finding, ok, trouble, warning

__all__ = ["CHECKS"]

_START: Final = "kaplad, or as a service: systemctl start kaplad"
_START_OWN: Final = "kaplad, or as a service of yours: systemctl --user start kaplad"
_FILE: Final = "name the file that kaplad --store would serve; what is stored first makes a new one"


def store_urls(facts: Facts) -> Iterator[Finding]:
    """Whether $ERIS_STORE_URL, or --store-url, can be read."""
    if facts.url_error is not None:
        yield trouble(
            "store URL",
            facts.url_error,
            "unset ERIS_STORE_URL for the local daemon, or set it to a URL as"
            " coap+unix:///run/eris.sock",
        )


def runtime_directory(facts: Facts) -> Iterator[Finding]:
    """Whether there is a place for the user's own socket, where it is the one that is used."""
    uses_own = any(one.socket and one.socket.startswith("/run/user/") for one in facts.stores)
    if facts.uid and facts.runtime_dir is None and (uses_own or not facts.stores):
        if facts.has_runtime_dir:
            yield warning(
                "runtime directory",
                "XDG_RUNTIME_DIR is not set, as after su; the usual place is taken",
                f"export XDG_RUNTIME_DIR=/run/user/{facts.uid}",
            )
        else:
            yield trouble(
                "runtime directory",
                f"XDG_RUNTIME_DIR is not set, and there is no /run/user/{facts.uid}",
                f"log in by a session of its own: machinectl shell {facts.user}@, or ssh",
            )


def reachable(facts: Facts) -> Iterator[Finding]:
    """Whether each store takes a connection and answers."""
    for store in facts.stores:
        if store.error is None:
            yield ok("store", f"{store.name} answers")
        elif store.is_file:
            yield trouble("store", f"{store.name}: {store.error}", _FILE)
        elif store.socket is None:
            yield trouble(
                "store",
                f"{store.name} cannot be asked: {store.error}",
                "see that it runs, and that nothing between here and there closes the port",
            )
        else:
            yield _socket(store, facts.uid)


def _socket(store: StoreFacts, uid: int) -> Finding:
    where = store.socket
    start = _START_OWN if uid and where and where.startswith("/run/user/") else _START
    if store.number in (errno.EACCES, errno.EPERM):
        return _rights(store)
    if not store.is_there:
        return trouble("store", f"there is no socket {where}: no daemon runs here", start)
    if not store.is_socket:
        return trouble(
            "store",
            f"{where} is no socket",
            "name the socket of the daemon: export ERIS_STORE_URL=coap+unix:///PATH",
        )
    if store.number == errno.ECONNREFUSED:
        return trouble(
            "store",
            f"{where} is left from a daemon that has ended; the next one replaces it",
            start,
        )
    return trouble(
        "store",
        f"the daemon at {where} does not answer: {store.error}",
        "see what it says: journalctl -u kaplad; and start it again",
    )


def _rights(store: StoreFacts) -> Finding:
    text = f"you may not use the socket {store.socket}"
    if store.group is None:
        return trouble(
            "store",
            f"{text}: it is for its owner alone",
            "start one of your own: kaplad; or have its listener name a group: ?group=NAME",
        )
    if store.in_group_later and not store.in_group:
        return trouble(
            "store",
            f"{text} yet: you are in its group {store.group}, but not in this session",
            f"log in again, or for this shell: newgrp {store.group}",
        )
    return trouble(
        "store",
        f"{text}: it is for the group {store.group}",
        f'sudo usermod -aG {store.group} "$USER", then log in again',
    )


def versions(facts: Facts) -> Iterator[Finding]:
    """Whether daemon and client are of one version."""
    for store in facts.stores:
        theirs = (store.report or {}).get("version")
        if isinstance(theirs, str) and theirs != facts.version:
            yield warning(
                "version",
                f"{store.name} is kaplad {theirs[:40]}, and this is kapla {facts.version}",
                "start the daemon again, so that both are what is installed",
            )


def settings(facts: Facts) -> Iterator[Finding]:
    """Whether the daemon would start with the settings that it would find here."""
    if facts.settings.error is not None:
        yield trouble(
            "settings",
            facts.settings.error,
            "mend it there: kapla manual kapla.toml tells all keys",
        )
    elif facts.settings.is_known:
        yield ok("settings", "kaplad can read its settings")


def refusing(facts: Facts) -> Iterator[Finding]:
    """Whether the store has refused blocks as it is full."""
    for store in facts.stores:
        refused = (store.report or {}).get("full_blocks")
        if isinstance(refused, int) and refused > 0:
            yield warning(
                "room",
                f"{store.name} is full, and has refused {refused:,} blocks since its start",
                "raise max-size, release what kapla pins lists, or set when-full to evict",
            )


CHECKS: Final[tuple[Callable[[Facts], Iterator[Finding]], ...]] = (
    store_urls,
    runtime_directory,
    reachable,
    versions,
    settings,
    refusing,
)
