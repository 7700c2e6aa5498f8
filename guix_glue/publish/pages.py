"""The texts that are not about one item."""

from __future__ import annotations

from html import escape

__all__ = ["cache_info", "landing_page"]


def cache_info(store_dir: str, *, mass_query: bool, priority: int = 100) -> bytes:
    """`/nix-cache-info`, in the order of the stock server.

    `WantMassQuery` tells Nix that it may ask for many items at once, and `Priority` how soon it
    asks here, the lowest first; Guix does not look.
    """
    text = f"StoreDir: {store_dir}\nWantMassQuery: {int(mass_query)}\nPriority: {priority}\n"
    return text.encode()


def landing_page(
    store_dir: str,
    guix_key: bytes | None,
    nix_key: str | None = None,
    *,
    for_guix: bool = True,
    for_nix: bool = False,
    eris: bool,
    mirror: bool,
) -> bytes:
    """What people see who open the server's address in a browser.

    It tells how to use the server with Guix, with Nix, or with both. `nix_key` is `name:base64`.
    """
    what = "a mirror of substitutes" if mirror else f"substitutes for <code>{escape(store_dir)}"
    what += "" if mirror else "</code>"
    carries = (
        " Narinfos carry the ERIS URN of each item, so that its blocks can come from anywhere."
        if eris
        else ""
    )
    return (
        "<!DOCTYPE html>\n<html lang='en'>\n<head><meta charset='utf-8'>"
        "<title>Kapla: substitute server</title></head>\n<body>\n<h1>Substitute server</h1>\n"
        f"<p>This server publishes {what}.{carries}</p>\n"
        f"{_of_guix(guix_key, with_title=for_nix) if for_guix else ''}"
        f"{_of_nix(nix_key, mirror=mirror, with_title=for_guix) if for_nix else ''}"
        "</body>\n</html>\n"
    ).encode()


def _of_guix(key: bytes | None, *, with_title: bool) -> str:
    text = "<h2>With Guix</h2>\n" if with_title else ""
    text += (
        "<p>To use it, give its address (SERVER) to the tool that installs:</p>\n"
        "<pre>guix build --substitute-urls=SERVER …</pre>\n"
    )
    if key is None:
        return text
    return text + (
        "<p>Substitutes are signed with <a href='signing-key.pub'>this key</a>. Who trusts"
        " the operator of this server can authorize it:</p>\n"
        "<pre>wget -O - SERVER/signing-key.pub | sudo guix archive --authorize</pre>\n"
        f"<pre>{escape(key.decode('utf-8', 'replace'))}</pre>\n"
    )


def _of_nix(key: str | None, *, mirror: bool, with_title: bool) -> str:
    text = "<h2>With Nix</h2>\n" if with_title else ""
    text += "<p>To use it, name its address (SERVER) in <code>nix.conf</code>:</p>\n"
    if key is not None:
        return text + (
            "<pre>extra-substituters = SERVER\n"
            f"extra-trusted-public-keys = {escape(key)}</pre>\n"
            "<p>The second line is for who trusts the operator of this server: it is the key that"
            " paths are signed with.</p>\n"
        )
    whose = "" if mirror else " This server signs nothing itself."
    return text + (
        "<pre>extra-substituters = SERVER</pre>\n"
        f"<p>{whose.strip()} Nix takes what is signed by a key that it trusts already, as that of"
        " cache.nixos.org, and what is named by its content.</p>\n"
    )
