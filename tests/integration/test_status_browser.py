"""The daemon's page in a real browser: with scripts and without, light and dark, wide and narrow.

One browser plays all of it, by its debugging protocol.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.daemon import Daemon, running_daemon
from tests.integration.here import User
from tests.integration.test_http_browser import browser, browsing

_GUARD_S = 120.0
"""A browser starts slowly on a busy machine."""

_FIGURES = "document.getElementById('view').textContent"
_LIVE = "document.getElementById('live').textContent"


class Tab:
    """What a browser shows. `asked`: where it has asked; `complaints`: what it says is wrong."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.asked: list[dict[str, Any]] = []
        self.complaints: list[Any] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Have it do something."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            told: dict[str, Any] = await self._socket.receive_json()
            if told.get("id") == number:
                assert "result" in told, told
                result: dict[str, Any] = told["result"]
                return result
            if told.get("method") == "Network.requestWillBeSent":
                self.asked.append(told["params"]["request"])
            elif told.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(told["params"])

    async def value(self, expression: str) -> Any:
        """What an expression is on the page."""
        result = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until something is so; the page itself looks."""
        await self.value(
            "new Promise(done => { const look = () => { try { if ("
            + condition
            + ") { clearInterval(timer); done(); } } catch {} };"
            " const timer = setInterval(look, 20); look(); })"
        )

    async def look(self, width: int, *, dark: bool = False, scripts: bool = True) -> None:
        """See pages in this way from now on."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=800,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call("Emulation.setScriptExecutionDisabled", value=not scripts)

    async def go(self, url: str) -> None:
        """Open a page, and wait until it is there."""
        await self.call("Page.navigate", url="about:blank")
        await self.until("location.href === 'about:blank'")
        await self.call("Page.navigate", url=url)
        await self.until("document.getElementById('live') && document.readyState === 'complete'")

    async def brightness(self) -> int:
        """Of the ground, from 0 to 255."""
        colour = await self.value("getComputedStyle(document.body).backgroundColor")
        return int(re.findall(r"\d+", colour)[0])


@asynccontextmanager
async def _tab(home: Path) -> AsyncIterator[Tab]:
    port = await _port(home)
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as reply:
            (page, *_) = [one for one in await reply.json() if one["type"] == "page"]
        async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            tab = Tab(socket)
            for domain in ("Page", "Log", "Runtime", "Network"):
                await tab.call(f"{domain}.enable")
            yield tab


async def _port(home: Path) -> int:
    """Where the browser is told what to do: it writes that when it is ready."""
    place = home / "DevToolsActivePort"
    while not (place.exists() and "\n" in place.read_text()):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    return int(place.read_text().split()[0])


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    browser()
    home = tmp_path_factory.mktemp("page")
    with running_daemon(home, "--admin", "127.0.0.1:0") as running:
        User(home, running.url)("encode", "-", stdin=bytes(100_000))
        yield running


def test_the_page(daemon: Daemon, tmp_path: Path) -> None:
    url = User(tmp_path, daemon.url).out("doctor", "--status-url")

    async def play() -> None:
        async with asyncio.timeout(_GUARD_S), _tab(tmp_path / "browser") as tab:
            await _with_scripts(tab, url)
            await _without_scripts(tab, url)
            await _looks(tab, url)
            _asked_nobody_else(tab, url)

    with browsing("about:blank", tmp_path / "browser"):
        asyncio.run(play())


async def _with_scripts(tab: Tab, url: str) -> None:
    """It is live, shows everything to whoever has the token, and hides that."""
    place, _, token = url.partition("#")
    await tab.look(1280)
    await tab.go(url)
    await tab.until(f"{_LIVE} === 'Live.'")
    assert await tab.value("location.href") == place
    figures = await tab.value(_FIGURES)
    assert "Traffic now" in figures
    assert "Transfers" in figures
    # It stays for this tab, and what is the same is not made anew.
    await tab.go(place)
    await tab.until(f"{_LIVE} === 'Live.' && {_FIGURES}.includes('Transfers')")
    await tab.value("window.kept = document.querySelector('h1')")
    before = json.dumps(await tab.value("document.querySelector('.state').textContent"))
    await tab.until(f"document.querySelector('.state').textContent !== {before}")
    assert await tab.value("window.kept === document.querySelector('h1')") is True
    assert not tab.complaints
    # With a token of an earlier run it says so, and shows what it may.
    await tab.go(f"{place}#{token[::-1]}")
    await tab.until(f"{_LIVE} === 'Live.' && !{_FIGURES}.includes('Transfers')")
    assert await tab.value("sessionStorage.getItem('token')") is None
    # Which the browser notes, as it does of every answer that is an error.
    assert all("401" in json.dumps(one) for one in tab.complaints)
    tab.complaints.clear()


async def _without_scripts(tab: Tab, url: str) -> None:
    """The numbers are there all the same; the token does nothing."""
    await tab.look(1280, scripts=False)
    await tab.call("Page.navigate", url="about:blank")
    await tab.call("Page.navigate", url=url)
    # Timers of the page do not run, and who debugs it may look all the same.
    shown = f"document.readyState === 'complete' && document.title === 'kaplad' ? {_FIGURES} : ''"
    while not (text := await tab.value(shown)):
        pass
    for figure in ("space", "Traffic since the start", "hits", "Listeners"):
        assert figure in text
    assert "Transfers" not in text
    await tab.look(1280)


async def _looks(tab: Tab, url: str) -> None:
    """Nothing is wider than the screen; the ground is as light as the system is."""
    for width in (1280, 390):
        for dark in (False, True):
            await tab.look(width, dark=dark)
            await tab.go(url)
            await tab.until(f"{_LIVE} === 'Live.'")
            assert await tab.value("document.documentElement.scrollWidth") <= width
            grey = await tab.brightness()
            assert grey < 64 if dark else grey > 192


def _asked_nobody_else(tab: Tab, url: str) -> None:
    """It asks the daemon alone, and says neither where it is from nor, in a URL, the token."""
    place, _, token = url.partition("#")
    asked = [one for one in tab.asked if not one["url"].startswith("about:")]
    assert {one["url"] for one in asked} == {place, f"{place}events"}
    for one in asked:
        assert not one["headers"].get("Referer")
        assert token not in one["url"]
    assert not tab.complaints
