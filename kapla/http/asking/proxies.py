"""Which proxy a server of HTTP is asked by, as the environment says.

`http_proxy` and `https_proxy` are for servers of these schemes, `all_proxy` for both, and
`no_proxy` lists those that are asked directly, as Python reads these variables. A proxy that makes
no sense is an error, and no reason to go around it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from eris.errors import StoreUnavailable

__all__ = ["Proxy", "choose_proxy"]


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where a proxy listens, without its password, and what it is told of who asks."""

    url: str
    authorization: str | None = field(default=None, repr=False)


def choose_proxy(scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy for a server, `http` or `https`; None: it is asked directly.

    Raises: StoreUnavailable, if there is one that cannot be used.
    """
    # Only when something is asked over HTTP: it loads a good part of the library.
    from urllib.request import getproxies_environment, proxy_bypass

    named = getproxies_environment()
    text = named.get(scheme) or named.get("all")
    name = f"[{host}]" if ":" in host else host
    if not text or proxy_bypass(f"{name}:{port}", named):
        return None
    return _parse(text if "://" in text else f"http://{text}", scheme)


def _parse(text: str, scheme: str) -> Proxy:
    try:
        parts = urlsplit(text)
        if parts.scheme in ("http", "https") and parts.hostname:
            netloc = parts.netloc.rpartition("@")[2]
            _ = parts.port
            return Proxy(
                f"{parts.scheme}://{netloc}", _authorization(parts.username, parts.password)
            )
    except ValueError:
        pass
    raise StoreUnavailable(f"the proxy for {scheme} in the environment is no URL of http or https")


def _authorization(user: str | None, password: str | None) -> str | None:
    if user is None:
        return None
    pair = f"{unquote(user)}:{unquote(password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")
