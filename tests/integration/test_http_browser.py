"""A page of another origin, in a real browser, takes blocks and checks them by itself."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kapla.http.wire.cid import format_cid
from kapla.http.wire.n2r import format_n2r
from tests.integration.http_daemon import PRIVATE, PUBLIC, HttpDaemon, http_daemon

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_BROWSER_S = 120.0
"""A guard: a browser starts slowly on a busy machine."""

_PAGE = Path(__file__).with_name("browser.html")


class Pages(ThreadingHTTPServer):
    """The origin of the page, which tells it what to do, and what it tells."""

    daemon_threads = True

    def __init__(self, tasks: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.tasks = tasks
        self.results: queue.Queue[dict[str, Any]] = queue.Queue()


class Page(BaseHTTPRequestHandler):
    """The page, what it is to do, and where it tells what it found."""

    server: Pages

    def do_GET(self) -> None:
        if self.path == "/tasks":
            self._answer(json.dumps(self.server.tasks).encode(), "application/json")
        elif self.path == "/":
            self._answer(_PAGE.read_bytes(), "text/html; charset=utf-8")
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        result = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(b"", "text/plain")
        self.server.results.put(result)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def browser() -> str:
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    return found


@contextmanager
def browsing(url: str, home: Path) -> Iterator[None]:
    """A browser that looks at this page, with a profile of its own, and is gone at the end."""
    command = [
        browser(),
        "--headless",
        # Its sandbox needs what containers, and root, do not have; the page is ours.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={home}",
        "--remote-debugging-port=0",
        url,
    ]
    running = subprocess.Popen(
        command,
        env={**os.environ, "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        # All of its processes, which are a group of their own.
        os.killpg(running.pid, signal.SIGKILL)
        running.wait(_BROWSER_S)


def found_by_a_page(door: HttpDaemon, home: Path) -> dict[str, Any]:
    tasks = {
        "door": door.url,
        "admin": f"http://127.0.0.1:{door.admin_port}",
        "byName": [format_n2r(reference) for reference in PUBLIC],
        "byCid": [f"/ipfs/{format_cid(reference)}?format=raw" for reference in PUBLIC],
        "missing": format_n2r(PRIVATE[0]),
        "references": [reference.hex() for reference in [*PUBLIC, PRIVATE[0]]],
    }
    pages = Pages(tasks)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    try:
        with browsing(f"http://127.0.0.1:{pages.server_port}/", home):
            return pages.results.get(timeout=_BROWSER_S)
    finally:
        pages.shutdown()
        pages.server_close()


def test_a_page_takes_blocks_and_checks_them(tmp_path: Path) -> None:
    browser()
    with http_daemon(tmp_path / "store") as door:
        found = found_by_a_page(door, tmp_path / "browser")
    wanted = [reference.hex() for reference in PUBLIC]
    assert "error" not in found, found
    # The page's own Blake2b, checked by one that is known.
    assert found["abc"].startswith("bddd813c634239723171ef3fee98579b")
    assert found["byName"] == wanted
    assert found["byCid"] == wanted
    # In the batch, a block whose size is told by its hash; and one that is not lent.
    assert found["batch"] == [*wanted, None]
    assert found["lent"] == "1"
    assert found["missing"] == 404
    # Headers that a preflight must allow.
    assert found["notModified"] == 304
    # Pages may see how long it took.
    assert found["timed"] is True
    # And of the daemon itself they are told nothing.
    assert found["admin"] == "refused"
