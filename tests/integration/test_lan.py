"""Daemons on local networks: they find each other, and ask nobody whom they should not."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.network.namespaces import inside, run, within
from eris.base32 import format_base32
from eris.crypto import reference_of
from kapla.coap.frame import Code
from tests.integration.commands import Kapla
from tests.integration.daemon import RawPeer, wait_until
from tests.integration.lan.packets import announcement, question
from tests.integration.lan.sites import Host, HostDaemon, Site, Sites, sites

BLOCKS = [(11, b".well-known"), (11, b"eris"), (11, b"blocks")]
FOUND = [(11, b"kapla"), (11, b"found")]
LISTEN = "coaps+tcp://0.0.0.0:0?get"
OUTSIDE = "192.0.2.77"


def block(number: int) -> bytes:
    return number.to_bytes(4, "big") * 256


def lookup(data: bytes) -> list[tuple[int, bytes]]:
    return [*BLOCKS, (15, format_base32(reference_of(data)).encode())]


def put(daemon: HostDaemon, data: bytes) -> None:
    with daemon.connect() as peer:
        assert peer.request(Code.PUT, options=lookup(data), payload=data).code == Code.CREATED


def get(daemon: HostDaemon, data: bytes) -> int:
    """The code of the answer to a program of the same machine."""
    with daemon.connect() as peer:
        answer = peer.request(Code.GET, options=lookup(data))
    assert answer.code != Code.CONTENT or answer.payload == data
    return answer.code


def seen(daemon: HostDaemon) -> list[dict[str, Any]]:
    """What was found, and the networks."""
    told: list[dict[str, Any]] = []
    with RawPeer.unix(daemon.socket) as asking:
        while True:
            after = [(15, f"after={len(told)}".encode())] if told else []
            page = json.loads(asking.request(Code.GET, b"t", [*FOUND, *after]).payload)
            if not page:
                return told
            told += page


def services(daemon: HostDaemon) -> list[dict[str, Any]]:
    return [one for one in seen(daemon) if one["what"] == "service"]


def connected(daemon: HostDaemon) -> set[str]:
    return {one["key"] for one in services(daemon) if one["state"] == "connected"}


def until_connected(daemon: HostDaemon, keys: set[str]) -> None:
    wait_until(lambda: connected(daemon) == keys, "connections to those that are found")


def finding(*entries: str, known: str = "") -> str:
    peers = f'[[peers]]\nkey = "{known}"\n' if known else ""
    return f'discover = "lan"\ndiscover-networks = {json.dumps(entries)}\n{peers}'


class Net(Sites):
    """Sites with daemons on their hosts."""

    def __init__(self, stack: ExitStack) -> None:
        super().__init__(stack)
        self.home = self.site("home", 1)

    def daemon(self, settings: str, *listen: str, host: Host | None = None) -> HostDaemon:
        """One that is not started."""
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="kapla-"))
        made = HostDaemon(host or self.host(self.home), Path(directory), settings, *listen)
        self._stack.callback(made.kill)
        return made


@pytest.fixture
def net() -> Iterator[Net]:
    with sites() as stack:
        yield Net(stack)


def started(*daemons: HostDaemon) -> None:
    threads = [threading.Thread(target=one.start) for one in daemons]
    for one in threads:
        one.start()
    for one in threads:
        one.join(120)


def test_two_find_each_other_and_one_gets_what_the_other_has_until_that_goes(net: Net) -> None:
    desktop = net.daemon("advertise = true\n", LISTEN, "coap+tcp://0.0.0.0:0")
    laptop = net.daemon(finding(net.home.entry))
    started(desktop)
    put(desktop, block(1))
    put(desktop, block(2))
    desktop.wait_for_log("Announced on the local network: _coaps._tcp")
    laptop.start()
    # The first of all: it waits until somebody was found.
    assert get(laptop, block(1)) == Code.CONTENT
    assert get(laptop, block(9)) == Code.NOT_FOUND
    desktop.wait_for_log("Announced on the local network: _coap._tcp")
    wait_until(lambda: len(services(laptop)) == 2, "both services")
    by_kind = {one["kind"]: one for one in services(laptop)}
    tls, plain = by_kind["_coaps._tcp"], by_kind["_coap._tcp"]
    assert (tls["asked"], tls["key"], tls["port"]) == (True, desktop.key, desktop.tls_port)
    assert tls["addresses"][0] == desktop.host.address
    assert (plain["asked"], plain["key"], plain["port"]) == (False, None, desktop.tcp_port)
    kapla = Kapla(laptop.directory, laptop.url)
    shown = kapla("peers", "--found").stdout.decode()
    assert desktop.key in shown
    assert "connected: its network is in discover-networks" in shown
    [peer] = [json.loads(line) for line in kapla("peers", "--json").stdout.splitlines()]
    assert (peer["found"], peer["key"], peer["rights"]) == (True, desktop.key, [])
    assert desktop.stop() == 0
    wait_until(lambda: not services(laptop), "what was taken back to be forgotten")
    assert kapla("peers").stdout == b""
    assert get(laptop, block(2)) == Code.NOT_FOUND
    assert laptop.stop() == 0


def test_ten_find_each_other(net: Net) -> None:
    settings = f"advertise = true\n{finding(net.home.entry)}"
    daemons = [net.daemon(settings, LISTEN) for _ in range(10)]
    started(*daemons)
    keys = {one.key for one in daemons}
    assert len(keys) == 10
    for number, one in enumerate(daemons):
        put(one, block(number))
    for one in daemons:
        until_connected(one, keys - {one.key})
    for number in range(10):
        assert get(daemons[number], block((number + 3) % 10)) == Code.CONTENT


class Impostor:
    """The stranger of impostor.py, on a host."""

    def __init__(self, host: Host, others_key: str) -> None:
        arguments = ("-m", "tests.integration.lan.impostor", host.address, OUTSIDE, others_key)
        self._process = subprocess.Popen(
            within(host.namespace, sys.executable, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "announced\n"

    def told(self) -> dict[str, tuple[int, bytes]]:
        """For each way to lie how many connections there were, and what came."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        return {name: (count, bytes.fromhex(data)) for name, (count, data) in told.items()}

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def impostor(host: Host, others_key: str) -> Iterator[Impostor]:
    made = Impostor(host, others_key)
    try:
        yield made
    finally:
        made.end()


WAYS = 6
# Announced by the rules, with keys that the stranger does not have.
DIALLED = ("of somebody else", "of nobody")
FRIEND = "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"


def route_outside(host: Host, site: Site) -> None:
    """Have the host at an address outside, to which packets of others find their way."""
    host.run("ip", "address", "add", f"{OUTSIDE}/32", "dev", "lo")
    run("ip", "-n", site.namespace, "route", "add", OUTSIDE, "via", host.address)


REACH = """
import socket
try:
    socket.create_connection(("192.0.2.77", 1), 20)
except ConnectionRefusedError:
    print("refused")
"""


def test_a_spoofed_announcement_gets_no_reference(net: Net) -> None:
    stranger = net.host(net.home)
    route_outside(stranger, net.home)
    laptop = net.daemon(finding(net.home.entry, known=FRIEND))
    # He could be dialled outside, if anybody did.
    assert laptop.host.run(sys.executable, "-c", REACH) == "refused\n"
    laptop.start()
    with impostor(stranger, FRIEND) as lying:
        wait_until(lambda: len(services(laptop)) == WAYS, "all announcements")
        # What is announced by the rules is asked on a network that was named: so he can hear.
        wait_until(lambda: len(connected(laptop)) == 1, "a connection")
        wait_until(lambda: all(lying.told()[name][0] for name in DIALLED), "all to be dialled")
        assert get(laptop, block(1)) == Code.NOT_FOUND
        told = lying.told()
        by_name = {one["name"]: one for one in services(laptop)}
        shown = Kapla(laptop.directory, laptop.url)("peers", "--found").stdout.decode()
    reference = format_base32(reference_of(block(1))).encode()
    count, data = told.pop("\u202e honest")
    assert count
    assert reference in data
    for name in ("plain", "keyless", "outside"):
        assert told.pop(name) == (0, b""), name
        assert not by_name[name]["asked"]
    # Dialled, as nobody but the owner of a key can prove it, and told nothing.
    for name in DIALLED:
        count, data = told.pop(name)
        assert (count > 0, data) == (True, b""), name
    assert not told
    assert "? honest" in by_name
    assert "\u202e" not in shown
    assert reference not in laptop.log.encode()


def sender(host: Host, address: str) -> socket.socket:
    """A socket at one of its addresses."""
    with inside(host.namespace):
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind((address, 0))
    opened.settimeout(30)
    return opened


def test_who_is_on_no_network_of_ours_announces_nothing_and_is_answered_nothing(net: Net) -> None:
    stranger = net.host(net.home)
    route_outside(stranger, net.home)
    daemon = net.daemon(f"advertise = true\n{finding(net.home.entry)}", LISTEN)
    # Answers would find their way.
    assert daemon.host.run(sys.executable, "-c", REACH) == "refused\n"
    daemon.start()
    daemon.wait_for_log("Announced on the local network")
    to = (daemon.host.address, 5353)
    with sender(stranger, OUTSIDE) as outside, sender(stranger, stranger.address) as inside_it:
        for sending, name in (outside, "outside"), (inside_it, "inside"):
            texts = {"rt": "eris.blocks", "path": "/.well-known/eris", "v": "1", "pk": FRIEND}
            where = ("_coaps._tcp", name, stranger.address, 9)
            sending.sendto(announcement(*where, texts), to)
            sending.sendto(question("_coaps._tcp"), to)
        assert daemon.key.encode() in inside_it.recv(9000)
        wait_until(lambda: bool(services(daemon)), "what was announced inside")
        assert [one["name"] for one in services(daemon)] == ["inside"]
        outside.setblocking(False)
        with pytest.raises(BlockingIOError):
            outside.recv(9000)


def test_on_a_foreign_network_of_the_same_prefix_nothing_is_asked(net: Net) -> None:
    cafe = net.site("cafe", 2)
    stranger = net.host(cafe)
    route_outside(stranger, cafe)
    laptop = net.daemon(finding(net.home.entry), host=net.host(cafe))
    laptop.start()
    with impostor(stranger, FRIEND) as lying:
        wait_until(lambda: len(services(laptop)) == WAYS, "all announcements")
        assert get(laptop, block(1)) == Code.NOT_FOUND
        assert all(told == (0, b"") for told in lying.told().values())
        assert not any(one["asked"] for one in services(laptop))
        # And the entry that would trust it is printed.
        shown = Kapla(laptop.directory, laptop.url)("peers", "--found").stdout.decode()
        assert f'discover-networks = ["{cafe.entry}"]' in shown


def test_who_moves_to_another_network_asks_there_no_more(net: Net) -> None:
    cafe = net.site("cafe", 2)
    desktop = net.daemon("advertise = true\n", LISTEN)
    laptop = net.daemon(finding(net.home.entry))
    started(desktop, laptop)
    put(desktop, block(1))
    until_connected(laptop, {desktop.key})
    laptop.host.unplug(net.home)
    until_connected(laptop, set())
    assert get(laptop, block(1)) == Code.NOT_FOUND
    laptop.host.move(net.home, cafe)
    # The same address, key and port as at home, and perhaps not the same machine.
    desktop.host.move(net.home, cafe)
    wait_until(lambda: network(laptop)["gateways"][0]["mac"] == cafe.mac, "the other gateway")
    assert not network(laptop)["named"]
    assert connected(laptop) == set()
    assert get(laptop, block(1)) == Code.NOT_FOUND
    desktop.host.move(cafe, net.home)
    laptop.host.move(cafe, net.home)
    until_connected(laptop, {desktop.key})
    assert get(laptop, block(1)) == Code.CONTENT


def test_who_comes_home_finds_those_who_are_there(net: Net) -> None:
    cafe = net.site("cafe", 2)
    desktop = net.daemon("advertise = true\n", LISTEN)
    laptop = net.daemon(finding(net.home.entry), host=net.host(cafe))
    started(desktop, laptop)
    # From now on it says nothing of itself.
    desktop.wait_for_log("Announced on the local network")
    wait_until(lambda: network(laptop)["gateways"][0]["mac"] == cafe.mac, "the gateway")
    laptop.host.move(cafe, net.home)
    until_connected(laptop, {desktop.key})
    # With another interface of the same address, too.
    laptop.host.run("ip", "link", "del", "dev", "eth0")
    until_connected(laptop, set())
    laptop.host.plug_in(net.home)
    until_connected(laptop, {desktop.key})


def network(daemon: HostDaemon) -> dict[str, Any]:
    """The network of a host; empty values while there is none."""
    found = [one for one in seen(daemon) if one["what"] == "network"]
    return found[0] if found else {"gateways": [{"mac": None}], "named": False}


def test_a_peer_that_is_named_by_its_key_is_dialled_where_it_is_found(net: Net) -> None:
    desktop = net.daemon("advertise = true\n", LISTEN)
    desktop.start()
    put(desktop, block(1))
    laptop = net.daemon(finding(known=desktop.key))
    laptop.start()
    until_connected(laptop, {desktop.key})
    assert get(laptop, block(1)) == Code.CONTENT
    [one] = services(laptop)
    assert one["why"] == "its key is that of a peer"


def test_a_peer_whose_url_does_not_answer_is_dialled_where_it_is_found(net: Net) -> None:
    desktop = net.daemon("advertise = true\n", LISTEN)
    desktop.start()
    put(desktop, block(1))
    url = f"coaps+tcp://10.77.0.1:9#{desktop.key}"
    laptop = net.daemon(f'discover = "lan"\n[[peers]]\nurl = "{url}"\n')
    laptop.start()
    until_connected(laptop, {desktop.key})
    assert get(laptop, block(1)) == Code.CONTENT


def test_wifi_that_is_named_alone_is_refused_at_the_start(net: Net) -> None:
    host = net.host(net.home)
    # Of a bridge with nothing in it nobody knows what it is.
    host.run("ip", "link", "add", "name", "wlan0", "type", "bridge")
    laptop = net.daemon(finding("eth0", "wlan0"), host=host)
    laptop.spawn()
    assert laptop.wait() == 2
    assert "discover-networks: wlan0 alone names no network" in laptop.log


def frames(site: Site, act: Callable[[], None], end: Callable[[], None]) -> list[bytes]:
    """The frames of multicast DNS that are on a site's bridge while something is done.

    `end` sends one that ends it.
    """
    found: list[bytes] = []
    with site.sniffer() as sniffer:
        act()
        end()
        while True:
            frame = sniffer.recv(2048)
            if b"\x05_last" in frame:
                return found
            if b"\x14\xe9\x14\xe9" in frame[34:60]:
                found.append(frame)


LAST = """
import socket
sending = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sending.sendto(bytes([5]) + b"_last", ("10.77.0.1", 9))
"""


def test_who_neither_announces_nor_looks_sends_no_multicast(net: Net) -> None:
    host = net.host(net.home)
    quiet = net.daemon("", LISTEN, "coap+tcp://0.0.0.0:0", host=host)
    loud = net.daemon("advertise = true\n", LISTEN, host=host)

    def end() -> None:
        host.run(sys.executable, "-c", LAST)

    def be_quiet() -> None:
        quiet.start()
        assert get(quiet, block(1)) == Code.NOT_FOUND
        assert quiet.stop() == 0

    def be_loud() -> None:
        loud.start()
        loud.wait_for_log("Announced on the local network")
        assert loud.stop() == 0

    assert frames(net.home, be_quiet, end) == []
    assert frames(net.home, be_loud, end)
