"""Who may ask the daemon about itself: programs of this machine, and no page of the web. Pure.

A browser on this machine runs the pages of anybody. Such a page can have the browser ask here,
under a name of its own that it has made point to this machine (DNS rebinding); so the name that was
asked for must be one of this machine. And what a page of another origin has asked is refused,
whether or not the page could read the answer.
Source: RFC 9110, section 7.2; the Fetch standard and Fetch Metadata.
"""

from __future__ import annotations

from typing import Final

__all__ = ["is_of_this_machine", "names_of", "was_asked_by_a_page"]

_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
_DEFAULT_PORT: Final = 80
# A page of this very place, or somebody who typed the address.
_OWN_SITES: Final = ("same-origin", "none")


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
