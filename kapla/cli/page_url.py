"""Where the daemon's status page is, with what shows everything there."""

from __future__ import annotations

from eris.errors import StoreRefused
from kapla.cli.common import CommandError, ExitCode, connect
from kapla.errors import NotAllowed

__all__ = ["page_url"]


async def page_url(store_url: str | None) -> str:
    """Ask the daemon for it. Raises: CommandError, StoreUnavailable."""
    from kapla.status_listing import status_url

    async with connect(store_url) as store:
        try:
            return await status_url(await store.taker())
        except NotAllowed:
            raise CommandError(
                "only root and the user who runs the daemon are told, on its Unix socket",
                ExitCode.REFUSED,
            ) from None
        except StoreRefused as error:
            raise CommandError(str(error), ExitCode.REFUSED) from None
