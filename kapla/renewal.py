"""Settings read anew at SIGHUP: what can change while the daemon runs is taken over, at once.

What is wrong changes nothing, and is told. What cannot change is told too, and stays as it is until
a restart; the next time it is told again, as it is still so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from eris.errors import ErisError
from kapla import log
from kapla.config import Config, Loaded
from kapla.config.shown import text_of
from kapla.config.table import SETTINGS, Setting
from kapla.errors import ConfigError
from kapla.hangups import Hangups
from kapla.loop import aside
from kapla.service_manager import ServiceManager

__all__ = ["Renewal", "Renewed", "renewed"]

_log = logging.getLogger(__name__)

_PATIENCE_S: Final = 30.0
"""A service manager that waits for the end of it has as much, and more."""


class Settled(Protocol):
    """A daemon that runs."""

    @property
    def config(self) -> Config:
        """What holds now."""
        ...

    async def settle(self, config: Config) -> None:
        """Let these hold from now on. Raises: ErisError, ConfigError, if some cannot."""
        ...


@dataclass(frozen=True, slots=True)
class Renewed:
    """What becomes of settings that were read anew."""

    config: Config
    """With all that can be taken over."""
    taken: tuple[Setting, ...]
    left: tuple[Setting, ...]
    """These others wait for a restart."""


def renewed(now: Config, wanted: Config) -> Renewed:
    """Compare what holds with what is wanted. Pure."""
    differ = [one for one in SETTINGS if getattr(now, one.field) != getattr(wanted, one.field)]
    taken = tuple(one for one in differ if one.reloads)
    values: dict[str, Any] = {one.field: getattr(wanted, one.field) for one in taken}
    return Renewed(replace(now, **values), taken, tuple(one for one in differ if not one.reloads))


class Renewal:
    """Reads settings anew at each SIGHUP. `read` raises ConfigError."""

    def __init__(
        self, hangups: Hangups, read: Callable[[], Loaded], patience_s: float = _PATIENCE_S
    ) -> None:
        self._hangups = hangups
        self._read = read
        self._patience_s = patience_s

    async def run(self, daemon: Settled, manager: ServiceManager) -> None:
        """Go on until cancelled."""
        while True:
            await self._hangups.next()
            with manager.reloading():
                try:
                    await self._renew(daemon)
                except Exception:
                    # Whatever it is, the daemon serves on, and the next one is heard.
                    _log.exception("Settings are not read anew")

    async def _loaded(self) -> Loaded:
        """Raises: ConfigError, also if they do not come: a file may be on a disk that hangs."""
        try:
            async with asyncio.timeout(self._patience_s):
                return await aside("kapla-settings", self._read)
        except TimeoutError:
            raise ConfigError(f"they cannot be read within {self._patience_s:g} s") from None

    async def _renew(self, daemon: Settled) -> None:
        before = daemon.config
        try:
            loaded = await self._loaded()
            found = renewed(before, loaded.config)
            await daemon.settle(found.config)
        except (ConfigError, ErisError) as error:
            for line in str(error).split("\n"):
                _log.error("Settings are not read anew, and nothing changes: %s", line)
            return
        log.configure(found.config.log_level, found.config.log_format)
        for setting in found.taken:
            _log.info("Settings: %s is %s now", setting.key, text_of(setting, found.config))
        for setting in found.left:
            _log.warning("Settings: %s takes effect at a restart", setting.key)
        if not (found.taken or found.left):
            _log.info("Settings: nothing has changed")
