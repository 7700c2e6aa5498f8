"""The logs of `kapla publish`, its own and two more: their options, and how they are opened."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click

from guix_glue.cli.server_options import log_format_option
from guix_glue.serving.journal import Journal
from kapla import log
from kapla.service_manager import ServiceManager

__all__ = [
    "LogSettings",
    "Logs",
    "configure_log",
    "log_options",
    "log_settings",
    "request_log_option",
]

_log = logging.getLogger(__name__)

_F = TypeVar("_F", bound=Callable[..., Any])

_PATH: Final = click.Path(dir_okay=False, allow_dash=True)

request_log_option: Final = click.option(
    "--request-log",
    type=_PATH,
    help="Append a line for each request to this file; - is standard output. SIGHUP opens it anew.",
)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """A path for each log, `-` for standard output, None for none; `as_json` is of all logs."""

    requests: str | None = None
    baking: str | None = None
    as_json: bool = False


def log_options(command: _F) -> _F:
    """The options of a publisher, as a decorator."""
    for option in (
        log_format_option("these two logs, and of what goes to standard error"),
        click.option("--baking-log", type=_PATH, help="The same for each nar and tree made."),
        request_log_option,
    ):
        command = option(command)
    return command


def log_settings(
    *, request_log: str | None, baking_log: str | None, log_format: str
) -> LogSettings:
    """What the options say."""
    return LogSettings(request_log, baking_log, log_format == "json")


def configure_log(settings: LogSettings, *, debug: bool) -> None:
    """Have what is logged go to standard error, as the options say."""
    log.configure("debug" if debug else "info", "json" if settings.as_json else "text")


class Logs:
    """The logs, opened; closed at the end of `stack`. What goes to the same place is one.

    Raises: PublishError.
    """

    def __init__(self, settings: LogSettings, stack: ExitStack) -> None:
        self._journals: dict[str, Journal] = {}
        for target in (settings.requests, settings.baking):
            if target is not None and target not in self._journals:
                journal = Journal(target, as_json=settings.as_json, redact=log.redact)
                stack.callback(journal.close)
                self._journals[target] = journal
        self.requests = self._journals.get(settings.requests or "")
        self.baking = self._journals.get(settings.baking or "")

    def reopen(self) -> None:
        """Go on in new files, if the old ones were moved; the service manager is told."""
        with ServiceManager().reloading():
            for journal in self._journals.values():
                journal.reopen()
        _log.info("SIGHUP: the logs are opened anew")
