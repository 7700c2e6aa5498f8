"""The page of a proxy for people."""

from __future__ import annotations

from html import escape

__all__ = ["landing_page"]


def landing_page(store_dir: str) -> bytes:
    """What people see who open the proxy's address in a browser."""
    return (
        "<!DOCTYPE html>\n<html lang='en'>\n<head><meta charset='utf-8'>"
        "<title>Kapla: proxy of substitutes</title></head>\n<body>\n<h1>Proxy of substitutes</h1>\n"
        f"<p>This server passes on substitutes of other servers, for <code>{escape(store_dir)}"
        "</code>, and brings their nars out of ERIS blocks where it can. It signs nothing: clients"
        " go on trusting the keys of those servers.</p>\n"
        "<p>To use it, give its address (SERVER) to the tool that installs. For Guix:</p>\n"
        "<pre>guix-daemon --substitute-urls=SERVER …</pre>\n"
        "<p>For Nix, in nix.conf:</p>\n"
        "<pre>substituters = SERVER</pre>\n</body>\n</html>\n"
    ).encode()
