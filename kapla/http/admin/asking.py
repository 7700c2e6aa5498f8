"""Who may ask a server about itself: programs of this machine, and no page of the web. Pure.

A browser on this machine runs the pages of anybody. Such a page can have the browser ask here,
under a name of its own that it has made point to this machine (DNS rebinding); so the name that was
asked for must be one of this machine. And what a page of another origin has asked is refused,
whether or not the page could read the answer.

What they are told is decided here too. On a Unix socket the kernel says who asks: root, and whoever
runs the server, could read all of it anyway, and are told everything. Others who may open the
socket, as the members of its group, and all users of this machine on the loopback interface, are
told numbers, unless they show the token.
Source: RFC 9110, section 7.2; RFC 6750, section 2.1; the Fetch standard and Fetch Metadata.
"""

from __future__ import annotations

import hmac
from typing import Final

from kapla.status.subject import Told

__all__ = ["WrongToken", "is_of_this_machine", "names_of", "told_to", "was_asked_by_a_page"]

_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
_DEFAULT_PORT: Final = 80
# A page of this very place, or somebody who typed the address.
_OWN_SITES: Final = ("same-origin", "none")
_ROOT: Final = 0
_SCHEME: Final = "bearer "


class WrongToken(Exception):
    """A token was shown, and it is not that of this run."""


def told_to(uid: int | None, own_uid: int, authorization: str | None, token: str) -> Told:
    """What is told to whom; `uid`: what the kernel says, None on TCP.

    `authorization`: the header of that name, which may have the token.
    Raises: WrongToken.
    """
    if uid in (_ROOT, own_uid):
        return Told.EVERYTHING
    if authorization is None:
        return Told.NUMBERS
    if not authorization.lower().startswith(_SCHEME):
        raise WrongToken
    shown = authorization[len(_SCHEME) :].strip().encode("utf-8", "surrogateescape")
    # In a time that tells nothing of it.
    if not hmac.compare_digest(shown, token.encode()):
        raise WrongToken
    return Told.EVERYTHING


def names_of(host: str, port: int) -> frozenset[str]:
    """What `Host` may be where somebody listens at this address and port, in lower case."""
    names = {*_NAMES, f"[{host}]" if ":" in host else host}
    bare = names if port == _DEFAULT_PORT else set()
    return frozenset({f"{name}:{port}" for name in names} | bare)


def is_of_this_machine(hosts: list[str], names: frozenset[str] | None) -> bool:
    """Whether the `Host` headers, one of them, name it. None: it needs no name, on Unix sockets."""
    return names is None or (len(hosts) == 1 and hosts[0].strip().lower() in names)


def was_asked_by_a_page(site: str | None, origin: str | None, host: str) -> bool:
    """Whether a page of another origin asks, by `Sec-Fetch-Site` and `Origin`."""
    if site is not None and site.strip().lower() not in _OWN_SITES:
        return True
    return origin is not None and origin.strip().lower() != f"http://{host.strip().lower()}"
