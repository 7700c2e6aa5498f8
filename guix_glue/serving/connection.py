"""A client's connection: what is asked for is shown to the site as it arrives.

Clients send a thousand requests before they read a reply, and these are answered one by one: a
source that has to ask others can do so for all of them at once. How connections are bounded is in
`kapla.http.serving`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final

from guix_glue.serving.clients import Client, working_for
from guix_glue.serving.site import Site
from kapla.http.serving.connection import Connection

__all__ = ["ClientConnection", "connections_to"]

_NARINFOS: Final = re.compile(rb"(?:^|\n)GET (/[!-~]{1,300}\.narinfo) HTTP/1")


class ClientConnection(Connection):
    """One connection."""

    __slots__ = ("_asker", "_site")

    def __init__(self, site: Site, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._site = site
        self._asker = Client()

    def arrived(self, data: bytes) -> None:
        """Look for requests; one that is cut in two is missed, and only answered later."""
        if asked := _NARINFOS.findall(data):
            with self.working():
                self._site.expect([path.decode("ascii", "replace") for path in asked])

    def working(self) -> AbstractContextManager[None]:
        """What is done here is done for this client."""
        return working_for(self._asker)

    def left(self) -> None:
        """Tell those who keep something for the client."""
        self._asker.leave()


def connections_to(site: Site) -> Callable[..., ClientConnection]:
    """What makes the connections to a site."""
    return partial(ClientConnection, site)
