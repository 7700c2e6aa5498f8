"""The texts that are not about one item."""

from __future__ import annotations

from html import escape

__all__ = ["cache_info", "landing_page"]


def cache_info(store_dir: str, *, mass_query: bool) -> bytes:
    """`/nix-cache-info`, in the order of the stock server.

    `WantMassQuery` tells Nix that it may ask for many items at once; Guix does not look.
    """
    return (f"StoreDir: {store_dir}\nWantMassQuery: {int(mass_query)}\nPriority: 100\n").encode()


def landing_page(store_dir: str, public_key: bytes | None, *, eris: bool, mirror: bool) -> bytes:
    """What people see who open the server's address in a browser."""
    what = "a mirror of substitutes" if mirror else f"substitutes for <code>{escape(store_dir)}"
    what += "" if mirror else "</code>"
    carries = (
        " Narinfos carry the ERIS URN of each item, so that its blocks can come from anywhere."
        if eris
        else ""
    )
    key = ""
    if public_key is not None:
        key = (
            "<p>Substitutes are signed with <a href='signing-key.pub'>this key</a>. Who trusts"
            " the operator of this server can authorize it:</p>\n"
            "<pre>wget -O - SERVER/signing-key.pub | sudo guix archive --authorize</pre>\n"
            f"<pre>{escape(public_key.decode('utf-8', 'replace'))}</pre>\n"
        )
    return (
        "<!DOCTYPE html>\n<html lang='en'>\n<head><meta charset='utf-8'>"
        "<title>Kapla: substitute server</title></head>\n<body>\n<h1>Substitute server</h1>\n"
        f"<p>This server publishes {what}.{carries}</p>\n"
        "<p>To use it, give its address (SERVER) to the tool that installs:</p>\n"
        "<pre>guix build --substitute-urls=SERVER …</pre>\n"
        f"{key}</body>\n</html>\n"
    ).encode()
