"""The daemon's side of the local network: announces its listeners, and finds others to be asked.

Nothing else waits for this. What is found, and each change of networks, is judged anew, and the
peers are told who may be asked now, and where; what comes in a rush is judged together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol

from kapla.announcing import Listener, services_of
from kapla.config import Config
from kapla.identity.key import PeerKey
from kapla.lan.judging import Judgement, Place, Verdict, judge
from kapla.lan.networks import check_entries, might_match
from kapla.lan.service import COAP, COAPS, Service
from kapla.lan.watching import NetworkWatch
from kapla.near_report import network_facts, service_facts

if TYPE_CHECKING:
    from kapla.lan.neighbourhood import Neighbourhood

__all__ = ["Finder", "Neighbours"]

_log = logging.getLogger(__name__)

# What is found at the start comes in some hundredths of a second.
_LOOK_S: Final = 1.0
_TOGETHER_S: Final = 0.01
_BETWEEN_S: Final = 0.25
# Each time it is asked anew who is there, by multicast.
_REST_S: Final = 1.0
# Another program may have had the port of multicast DNS to itself, and be gone.
_AGAIN_S: Final = 60.0


class Finder(Protocol):
    """Who dials those that are found: see kapla.peers.found."""

    def set_places(self, places: Mapping[PeerKey, Sequence[Place]], /) -> None:
        """Who may be dialled from now on, and where."""
        ...

    def __contains__(self, key: PeerKey, /) -> bool:
        """Whether one is."""
        ...

    def state_of(self, key: PeerKey, /) -> str | None:
        """How it stands with one; None: it is not dialled."""
        ...


class Neighbours:
    """One daemon on its local networks. `own`: its key; `known`: those of its peers."""

    def __init__(
        self, config: Config, finder: Finder, own: PeerKey | None, known: frozenset[PeerKey]
    ) -> None:
        self._config = config
        self._finder = finder
        self._own = own
        self._known = known
        self._watch = NetworkWatch(self._networks_changed)
        self._found: dict[str, tuple[Service, Judgement]] = {}
        self._looking = asyncio.Event()
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._judged_at = 0.0

    def start(self, listeners: Iterable[Listener]) -> None:
        """Begin; what takes time is done meanwhile.

        Raises: ConfigError, about interfaces that are named and are here.
        """
        try:
            self._watch.start()
        except OSError as error:
            _log.warning(
                "The networks of this machine cannot be seen, so nobody who is found is asked: %s",
                error.strerror or error,
            )
        check_entries(self._config.discover_networks, self._watch.networks)
        announced = list(listeners) if self._config.advertise else []
        self._task = asyncio.ensure_future(self._run(announced))

    async def stop(self) -> None:
        """Take back what was announced, and look for nobody."""
        if self._timer is not None:
            self._timer.cancel()
        await self._watch.stop()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def look_now(self) -> None:
        """Judge by the networks of this moment: somebody is about to be dialled."""
        self._watch.look_now()

    async def looked(self) -> None:
        """Wait until those who may be asked have had time to be found."""
        if self._config.discover is not None and self._may_somebody_be_found():
            await self._looking.wait()
            await asyncio.sleep(_LOOK_S)

    def report(self) -> list[dict[str, object]]:
        """The facts of `kapla peers --found`: networks, then what was found."""
        entries = self._config.discover_networks
        told = [network_facts(one, entries) for one in self._watch.networks]
        return [
            *(one for one in told if one is not None),
            *(self._facts(*one) for one in self._found.values()),
        ]

    def _facts(self, service: Service, judgement: Judgement) -> dict[str, object]:
        key = judgement.key
        state = None if key is None else self._finder.state_of(key)
        verdict = judgement.verdict
        if verdict.is_asked and state is None:
            verdict = Verdict.TOO_MANY
        return service_facts(service, verdict, key, state if verdict.is_asked else None)

    async def _run(self, announced: Sequence[Listener]) -> None:
        try:
            await self._take_part(announced)
        except Exception:
            _log.exception("The local network is not looked at any more")
            self._found.clear()
            self._tell()
        finally:
            self._looking.set()

    async def _take_part(self, announced: Sequence[Listener]) -> None:
        # The library takes a tenth of a second, in which others are served.
        module = await asyncio.to_thread(import_module, "kapla.lan.neighbourhood")
        neighbourhood: Neighbourhood = module.Neighbourhood()
        try:
            await self._until_there_is_multicast(neighbourhood)
            if self._config.discover is not None:
                neighbourhood.look_for([COAP, COAPS], self._changed)
                self._looking.set()
            services = services_of(announced, module.host_name())
            if self._config.advertise and not services:
                _log.warning("No listener is announced: there is none that others can reach")
            await asyncio.gather(
                self._follow(neighbourhood), *(_announce(neighbourhood, one) for one in services)
            )
        finally:
            await neighbourhood.stop()

    async def _until_there_is_multicast(self, neighbourhood: Neighbourhood) -> None:
        is_said = False
        while True:
            self._moved.clear()
            try:
                await neighbourhood.start()
            except OSError as error:
                if not is_said:
                    _log.warning(
                        "Nothing is announced or found: no multicast: %s; trying again",
                        error.strerror or error,
                    )
                is_said = True
                self._looking.set()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._moved.wait(), _AGAIN_S)
            else:
                return

    async def _follow(self, neighbourhood: Neighbourhood) -> None:
        """Go where the networks go."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            await _quietly(neighbourhood.look_around())
            await asyncio.sleep(_REST_S)

    def _changed(self, name: str, service: Service | None) -> None:
        if service is None:
            self._found.pop(name, None)
        else:
            self._found[name] = service, self._judge(service)
        self._tell_soon()

    def _networks_changed(self) -> None:
        """At once: nobody is to be asked a moment longer than he may be."""
        self._moved.set()
        self._judge_all()

    def _judge_all(self) -> None:
        for name, (service, _) in self._found.items():
            self._found[name] = service, self._judge(service)
        self._tell()

    def _judge(self, service: Service) -> Judgement:
        entries = self._config.discover_networks
        return judge(service, self._watch.networks, entries, self._known, self._own)

    def _tell_soon(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            when = max(loop.time() + _TOGETHER_S, self._judged_at + _BETWEEN_S)
            self._timer = loop.call_at(when, self._tell)

    def _tell(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._judged_at = asyncio.get_running_loop().time()
        places: dict[PeerKey, list[Place]] = {}
        for _, judgement in self._found.values():
            if judgement.verdict.is_asked and judgement.key is not None:
                places.setdefault(judgement.key, []).extend(judgement.places)
        self._finder.set_places(places)

    def _may_somebody_be_found(self) -> bool:
        entries, networks = self._config.discover_networks, self._watch.networks
        if self._known and any(one.is_up and one.prefixes for one in networks):
            return True
        return any(might_match(entry, network) for entry in entries for network in networks)


async def _announce(neighbourhood: Neighbourhood, service: Service) -> None:
    try:
        await neighbourhood.announce(service)
    except OSError as error:
        _log.warning("A listener cannot be announced: %s", error.strerror or error)
    else:
        _log.info("Announced on the local network: %s, port %d", service.kind, service.port)


async def _quietly(work: Awaitable[None]) -> None:
    """Do it; another change of networks, which is told, may come between."""
    try:
        await work
    except Exception as error:
        # The library says of little what it raises, and the next change is another try.
        _log.debug("Not all networks are looked at: %s", error)
