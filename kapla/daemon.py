"""The daemon's life: configuration, storage, listeners, stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eris.allocator import give_back_all
from kapla.announcing import Listener
from kapla.asking_seeds import Seeding
from kapla.coap.peers import Peers
from kapla.coap.put_rate import PutRates
from kapla.coap.site import AiocoapLane
from kapla.coap.turns import Turns
from kapla.config import Config, Loaded
from kapla.guests import Door
from kapla.handed import Handed
from kapla.handover import accept_no_more, check_claimed, handed_over
from kapla.open_files import connections_by_listener
from kapla.peering import Peering
from kapla.renewal import Renewal
from kapla.reporting import Reporting
from kapla.service_manager import ServiceManager
from kapla.sockets import (
    BACKLOG,
    BoundUnixSocket,
    bind_tcp,
    bind_unix,
    rights_of,
    unix_socket_of,
)
from kapla.start_line import start_line
from kapla.stopping import stop_event
from kapla.storage.access import BlockAccess, Rights, Statistics
from kapla.storage.batching import BatchedStorage
from kapla.storage.settling import settle
from kapla.storage.sqlite.holder import Holder
from kapla.storage.sqlite.lock import lock_store
from kapla.store_settings import store_settings
from kapla.urls import StoreUrl, TcpEndpoint, TlsEndpoint, UnixEndpoint

if TYPE_CHECKING:
    from kapla.http.doors import Doors
    from kapla.identity.accepting import TlsServer
    from kapla.identity.pair import KeyPair
    from kapla.neighbours import Neighbours

__all__ = ["Daemon", "run"]

_log = logging.getLogger(__name__)

# How long requests that are under way get when the daemon is told to stop.
_GRACE_S: Final = 5.0
# New objects after which Python looks for circles.
_COLLECT_AT: Final = 20_000
_LENDING: Final = Rights(get=False, lend=True)


class Daemon:
    """A block store behind its listeners, in one event loop.

    `handed`: sockets that the service manager has opened for them.
    """

    def __init__(self, config: Config, handed: Handed | None = None) -> None:
        self._config = config
        self._handed = handed or Handed()
        self._storage = BatchedStorage(store_settings(config))
        self._statistics = Statistics()
        self._max_connections = config.max_connections
        self._lock: int | None = None
        self._pair: KeyPair | None = None
        self._servers: list[asyncio.Server | TlsServer] = []
        self._unix_sockets: list[BoundUnixSocket] = []
        self._peers: list[Peers] = []
        self._turns = Turns()
        self._put_rates = PutRates(config.max_put_rate)
        # Looked at when it stops only, and set while that goes on.
        self._idle = asyncio.Event()
        self._answered = asyncio.Event()
        self._announced: list[Listener] = []
        self._neighbours: Neighbours | None = None
        self._lending: list[tuple[object, str]] = []
        self._doors: Doors | None = None
        self._peering = Peering(config, self._storage, self._serve, self._own_pair)
        table = self._peering.table
        self._seeding = Seeding(
            config, self._peering.blocks, lambda link: table.whose(link) is not None
        )
        self._reporting = Reporting(
            lambda: self._config,
            self._storage,
            self._statistics,
            self._peering.report,
            self._seeding.report,
        )

    async def start(self) -> None:
        """Open the store, then the listeners.

        Raises: StorageError, ListenError, ConfigError.
        """
        socket = unix_socket_of(self._config.listen)
        if isinstance(self._config.store, Path):
            # A database is for many at a time.
            self._lock = lock_store(self._config.store, Holder.myself("kaplad", socket))
        self._max_connections = connections_by_listener(self._config)
        await self._storage.open()
        _log.debug("Store %s is open", self._config.store)
        neighbours = self._neighbours = self._make_neighbours()
        for url in self._config.listen:
            await self._listen(url)
        await self._open_doors()
        check_claimed(self._handed)
        self._peering.start(self._dialled, neighbours.looked if neighbours else None)
        if neighbours is not None:
            neighbours.start(self._announced)
        self._warn_if_nothing_is_lent()

    def _make_neighbours(self) -> Neighbours | None:
        """Our part in the local network, if there is to be one."""
        if not self._config.advertise and self._config.discover is None:
            return None
        # Loaded only where it is to be.
        from kapla.neighbours import Neighbours

        found = self._peering.found
        own = None if self._config.discover is None else self._own_pair().public
        neighbours = Neighbours(self._config, found, own, self._peering.table.keys)
        found.look = neighbours.look_now
        return neighbours

    def _warn_if_nothing_is_lent(self) -> None:
        if self._storage.kept().lent:
            return
        for place in self._lending:
            _log.warning("%s lends blocks, and nothing is lent yet: see `kapla lend`%s", *place)

    async def _open_doors(self) -> None:
        """By HTTP. What that needs is loaded only if there are any."""
        config = self._config
        if not config.http and config.admin is None:
            return
        from kapla.http.doors import Doors

        self._doors = Doors(self._statistics, self._turns.line, self._handed)
        access = BlockAccess(self._storage, _LENDING, self._statistics)
        for place in config.http:
            allowance = self._peering.strangers()
            most = self._max_connections
            traffic = self._reporting.traffic.place("http")
            reach = self._seeding.reach
            for where in await self._doors.open_door(
                place, access, allowance, most, traffic, reach
            ):
                _log.info("Listening on %s", where)
                self._lending.append((where, ""))
        if config.admin is not None:
            reporting = self._reporting
            places, reporting.page_place = await self._doors.open_admin(
                config.admin, reporting, reporting.token
            )
            for where in places:
                _log.info("Telling of the daemon on %s", where)

    @property
    def config(self) -> Config:
        """The settings that hold now."""
        return self._config

    async def settle(self, config: Config) -> None:
        """Let other settings hold from now on, as far as they can change meanwhile.

        Raises: StoreUnavailable, then nothing has changed.
        """
        await settle(self._storage, store_settings(config))
        self._config = config
        self._put_rates.change(config.max_put_rate)
        self._peering.settle(config)
        self._seeding.settle(config)
        self._max_connections = connections_by_listener(self._config)
        for peers in self._peers:
            peers.most = self._max_connections
        if self._doors is not None:
            self._doors.limit(self._max_connections)

    async def stop(self) -> None:
        """Take no more connections, answer what was asked, empty the WAL, remove the sockets."""
        if self._neighbours is not None:
            await self._neighbours.stop()
        self._seeding.reach.stop()
        doors = asyncio.ensure_future(self._close_doors())
        await self._peering.stop()
        await accept_no_more(self._servers)
        for server in self._servers:
            server.close()
        for unix_socket in self._unix_sockets:
            unix_socket.remove()
        end = asyncio.get_running_loop().time() + _GRACE_S
        # They may have been set in some quiet moment before.
        self._idle.clear()
        self._answered.clear()
        # First those who ask: what peers were asked for on their behalf is still to come.
        for only_asking, until in ((True, end - _GRACE_S / 2), (False, end)):
            for peers in self._peers:
                peers.finish(only_asking=only_asking)
            self._check_idle()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await (self._answered if only_asking else self._idle).wait()
        if not self._idle.is_set():
            _log.warning("%d connections did not end in time", self._count_peers())
            for peers in self._peers:
                peers.abort()
        await self._peering.hang_up()
        await doors
        self._peering.close()
        await self._storage.close()
        if self._lock is not None:
            os.close(self._lock)

    async def _close_doors(self) -> None:
        if self._doors is not None:
            await self._doors.close()

    async def _listen(self, url: StoreUrl) -> None:
        door = self._peering.door(rights_of(url))
        access = door.access
        peers = self._connections(door, _scheme_of(url))
        loop = asyncio.get_running_loop()
        sockets: list[socket.socket]
        if isinstance(url.endpoint, UnixEndpoint):
            is_default = self._config.default_listen
            bound = bind_unix(url, is_default=is_default, handed=self._handed)
            self._unix_sockets.append(bound)
            # Not `create_unix_server`: from Python 3.13 on that removes a file that is not ours.
            self._servers.append(
                await loop.create_server(peers.connect, sock=bound.socket, backlog=BACKLOG)
            )
            self._note_listener(access.rights, url)
            return
        if isinstance(url.endpoint, TlsEndpoint):
            self._listen_with_tls(url, peers, access.rights)
            return
        sockets = bind_tcp(url, self._handed)
        for one in sockets:
            self._servers.append(await loop.create_server(peers.connect, sock=one, backlog=BACKLOG))
            host, port = one.getsockname()[:2]
            place = TcpEndpoint(host, port)
            self._announced.append(Listener(place))
            self._note_listener(access.rights, place)

    def _serve(self, rights: Rights) -> tuple[BlockAccess, AiocoapLane]:
        """What those with these rights use."""
        access = BlockAccess(self._storage, rights, self._statistics)
        found = None if self._config.discover is None else self._found_report
        reporting = self._reporting
        return access, AiocoapLane(access, reporting.stat, self._peering.report, found, reporting)

    def _found_report(self) -> list[dict[str, object]]:
        """What was found near, and where we are: the facts of `kapla peers --found`."""
        return [] if self._neighbours is None else self._neighbours.report()

    def _dialled(self, door: Door) -> Peers:
        """The connections that we make."""
        return self._connections(door, "peers")

    def _connections(self, door: Door, kind: str) -> Peers:
        """The connections that are made by one door; `kind`: for people."""
        peers = Peers(
            door.access,
            door.lane,
            self._turns.line(),
            self._max_connections,
            self._check_idle,
            _give_back_memory,
            self._put_rates,
            door,
            self._seeding.reach,
            self._reporting.traffic.place(kind),
            self._seeding.seeds,
        )
        self._peers.append(peers)
        return peers

    def _listen_with_tls(self, url: StoreUrl, peers: Peers, rights: Rights) -> None:
        # Loaded only where there is such a listener.
        from kapla.identity.accepting import TlsServer
        from kapla.tls import listener_context

        pair = None if url.flags.files else self._own_pair()
        context = listener_context(url, pair)
        sockets = bind_tcp(url, self._handed)
        self._servers.append(TlsServer(sockets, context, peers.connect))
        for one in sockets:
            host, port = one.getsockname()[:2]
            place = TlsEndpoint(host, port)
            self._announced.append(Listener(place, pair.public if pair else None))
            self._note_listener(rights, place, pair)

    def _own_pair(self) -> KeyPair:
        """The key pair of this daemon, made when it is first needed."""
        if self._pair is None:
            from kapla.identity.pair import load_or_make

            self._pair = load_or_make()
        return self._pair

    def _note_listener(self, rights: Rights, place: object, pair: KeyPair | None = None) -> None:
        """Say where somebody listens, by the port that a listener got."""
        _log.info("Listening on %s%s", place, "" if pair is None else f" as {pair.public}")
        if rights.lend and not rights.get:
            self._lending.append((place, "; with ?get it gives all blocks away"))

    def _count_peers(self) -> int:
        return sum(map(len, self._peers))

    def _check_idle(self) -> None:
        if not self._count_peers():
            self._idle.set()
        if not any(peers.only_asking for peers in self._peers):
            self._answered.set()


def _scheme_of(url: StoreUrl) -> str:
    if isinstance(url.endpoint, UnixEndpoint):
        return "coap+unix"
    return "coaps+tcp" if isinstance(url.endpoint, TlsEndpoint) else "coap+tcp"


_TRIM: Final = "kapla-trim"


def _give_back_memory() -> None:
    """What peers have left free, in a thread, one at a time: of a gigabyte it takes a while."""
    if all(thread.name != _TRIM for thread in threading.enumerate()):
        threading.Thread(target=give_back_all, name=_TRIM, daemon=True).start()


async def run(loaded: Loaded, renewal: Renewal) -> None:
    """Serve until SIGTERM or SIGINT, with settings that are read anew at SIGHUP.

    Raises: StorageError, ListenError, ConfigError.
    """
    stopping = stop_event()
    # The writer and reader threads take turns with the event loop in far less than the 5 ms that
    # Python lets a thread keep the interpreter by default.
    sys.setswitchinterval(0.0005)
    # Each block that comes from a peer takes some futures and callbacks, and leaves no circles: by
    # default Python would look for these again and again among all there is.
    gc.freeze()
    gc.set_threshold(_COLLECT_AT, 20, 20)
    manager = ServiceManager()
    _log.info("%s", start_line(loaded))
    daemon = Daemon(loaded.config, handed_over())
    renewing: asyncio.Task[None] | None = None
    try:
        await daemon.start()
        manager.ready()
        renewing = asyncio.create_task(renewal.run(daemon, manager))
        await stopping.wait()
        _log.info("Stopping")
        manager.stopping()
    finally:
        if renewing is not None:
            renewing.cancel()
            await asyncio.wait([renewing])
        await daemon.stop()
