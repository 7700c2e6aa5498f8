"""The publisher's life, where a source is not what it should be."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import cast

import pytest

from guix_glue.publish.source import Source
from guix_glue.serving.http_server import HttpServer
from guix_glue.serving.service import serve
from tests.integration.daemon import GUARD_S


class Idle:
    async def start(self, sockets: object) -> None:
        pass

    async def stop(self) -> None:
        pass


class Broken:
    def __init__(self) -> None:
        self.expired = 0

    async def sweep(self) -> None:
        raise ValueError("odd")

    async def expire(self, before: float) -> None:
        self.expired += 1
        if self.expired == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError("odd")


def test_tidying_goes_on_after_an_error_of_any_kind(caplog: pytest.LogCaptureFixture) -> None:
    source = Broken()

    async def main() -> None:
        serving = serve(cast(HttpServer, Idle()), cast(Source, source), [], ttl_s=1)
        await asyncio.wait_for(serving, GUARD_S)

    asyncio.run(main())
    assert source.expired == 2
    warnings = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert warnings == [
        "Cannot remove what a killed server left: ValueError('odd')",
        "Cannot tell what is not needed any more: ValueError('odd')",
    ]
