"""An item brought by a session in this process, whose pauses take no time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from guix_glue.fetch.dialogue import Substitute
from guix_glue.fetch.fetcher import Fetcher
from guix_glue.fetch.lookup import Lookup
from guix_glue.fetch.session import Policy
from guix_glue.fetch.settings import DEFAULT_SETTINGS, FetchSettings
from guix_glue.fetch.substitution import SubstituteSession
from guix_glue.fetch.traces import Messages
from guix_glue.formats.store_path import format_hash
from guix_glue.kept.public_notes import PublicNotes
from guix_glue.servers.proxies import Proxies
from guix_glue.servers.url import parse_server
from guix_glue.trust.acl import Acl
from tests.clocks import Clock, run_on_clock
from tests.guix_glue.fetch.support import SAMPLES, STORE, Made, assert_canonical

__all__ = ["ACL", "NOTHING", "Brought", "bring"]

NOTHING: Final = b"not-found\n"

ACL: Final = Acl.parse((SAMPLES / "keys/acl").read_bytes())
# Seconds at a time, while nothing else happens.
_STEP_S = 0.25


@dataclass(frozen=True)
class Brought:
    """What the daemon and its user were told."""

    reply: bytes
    messages: str
    took_s: float
    """By the clock that goes faster."""

    def assert_right(self, made: Made, destination: Path) -> None:
        """It was brought."""
        item = made.item
        success = f"success {format_hash(item.nar_hash)} {item.nar_size}\n".encode()
        assert self.reply == success, self
        assert_canonical(destination, item.nar_hash, item.nar_size)


def bring(
    made: Made,
    destination: Path,
    *urls: str,
    environ: Mapping[str, str] | None = None,
    settings: FetchSettings = DEFAULT_SETTINGS,
    nearby: Sequence[str] = (),
    public: PublicNotes | None = None,
) -> Brought:
    """Let a session answer one command; `nearby` are URLs of servers that were found.

    `public`: where it is noted what everybody may have.
    """
    written = bytearray()

    async def run(clock: Clock) -> tuple[bytes, float]:
        messages = Messages(written.extend)
        proxies = Proxies.from_environ(environ or {})
        found = [replace(parse_server(url), nearby=True) for url in nearby]
        servers = [*found, *map(parse_server, urls)]
        lookup = Lookup(servers, messages, proxies=proxies)
        fetcher = Fetcher(None, messages, settings, proxies)
        policy = Policy(STORE, ACL, False, settings)
        session = SubstituteSession(
            policy, lookup, messages, fetcher, deduplicate=False, public=public
        )
        began = clock.time()
        try:
            command = Substitute(made.item.path, str(destination))
            reply = await clock.skip_until(session.answer(command), _STEP_S)
            return reply, clock.time() - began
        finally:
            lookup.close()
            await fetcher.close()

    reply, took_s = run_on_clock(run)
    return Brought(reply, written.decode(), took_s)
